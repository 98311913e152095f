package pool

import (
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// A waiter is a call of Add or Remove that waits until its claims are settled.
// Guarded by Client.mu, but for done and timer.
type waiter struct {
	adds  bool
	left  int           // items that are not settled
	refs  int           // places in lists that name an item of it
	freed bool          // refs was 0 when left became 0
	over  bool          // nobody waits any more
	done  chan struct{} // size 1: has a value once left is 0
	items []item
	one   [1]item // items of a call with one claim
	timer *time.Timer
}

// An item is one claim that is waited for, and the trackers that have yet to
// store it or its removal.
//
// Invariant: it is settled if open is 0 and, for an addition, some holder counted
// it.
type item struct {
	of      *waiter
	shard   ring.Shard
	open    int32
	stored  int32
	counted bool
	settled bool
}

func (c *Client) newWaiter(adds bool, n int) *waiter {
	w, _ := c.waiters.Get().(*waiter)
	if w == nil {
		w = &waiter{done: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
		w.timer.Stop()
	}
	w.adds, w.left = adds, n
	w.items = w.one[:]
	if n > 1 {
		w.items = make([]item, n)
	}
	return w
}

// free gives w back where no list names it. The caller has received from done.
func (c *Client) free(w *waiter) {
	if w.freed {
		*w = waiter{done: w.done, timer: w.timer}
		c.waiters.Put(w)
	}
}

// settle notes whether nothing more is waited for.
func (it *item) settle() {
	if it.settled || it.open > 0 || it.of.adds && !it.counted {
		return
	}
	it.settled = true
	if it.of.left--; it.of.left == 0 {
		it.of.freed = it.of.refs == 0
		it.of.done <- struct{}{}
	}
}

// idle reports whether nobody will say anything of the item any more.
func (it *item) idle() bool { return it.settled || it.of.over }

// A list has items that wait for something that may never come. It drops those
// that have become idle whenever it has doubled.
type list[T any] struct {
	all   []T
	prune int
}

// minPrune is the size under which a list is not searched for idle items.
const minPrune = 1024

func (l *list[T]) add(v T, drop func(T) bool) {
	if len(l.all) >= max(l.prune, minPrune) {
		l.filter(drop)
		l.prune = 2 * len(l.all)
	}
	l.all = append(l.all, v)
}

// filter removes what drop says.
func (l *list[T]) filter(drop func(T) bool) {
	l.all = slices.DeleteFunc(l.all, drop)
	if len(l.all) == 0 {
		l.all = nil
	}
}

// dropIdle reports whether an item need not be kept in a list, which then names
// it no more.
func dropIdle(it *item) bool {
	if it.idle() {
		it.of.refs--
		return true
	}
	return false
}

// A dead is a removal that waits for the end of a lease: its tracker cannot be
// told.
type dead struct {
	it    *item
	proc  *process
	until time.Time
}

func dropIdleDead(d dead) bool { return dropIdle(d.it) }

// awaitLeaseLocked makes a removal wait until a process whose session ended can
// answer with nothing. It takes over one of the item's open places.
func (c *Client) awaitLeaseLocked(it *item, p *process, now time.Time) {
	if !now.Before(p.leaseEnd) {
		it.open--
		it.settle()
		return
	}
	it.of.refs++
	c.dead.add(dead{it, p, p.leaseEnd}, dropIdleDead)
}

// orphanLocked keeps an addition that no session was asked to store, or none
// that lived, and that is not counted: the next session that is welcomed tells.
func (c *Client) orphanLocked(it *item) {
	it.of.refs++
	c.orphans.add(it, dropIdle)
}

// expireLocked settles the removals whose leases have run out, and returns when
// the next does; zero for none.
func (c *Client) expireLocked(now time.Time) (next time.Time) {
	c.dead.filter(func(d dead) bool {
		if dropIdleDead(d) {
			return true
		}
		if now.Before(d.until) {
			if next.IsZero() || d.until.Before(next) {
				next = d.until
			}
			return false
		}
		d.it.of.refs--
		d.it.open--
		d.it.settle()
		return true
	})
	return next
}
