package node

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// A life is one incarnation of a proxy, as far as this tracker knows it: whose
// claims a table's Owner stands for.
type life struct {
	owner       Owner
	id          ProxyID
	incarnation Incarnation
	by          string                // Hello.By of its present or last session; guarded by Tracker.mu
	proxy       atomic.Pointer[Proxy] // its address may be told anew
	dead        atomic.Bool           // nothing of it is answered any more; its claims are being swept
	restored    atomic.Bool           // nothing of it is answered yet: its proxy has not come for it

	// What covers its claims: the lease of the present session, and until that has
	// proven a shard the leases of the sessions before.
	lease, former atomic.Pointer[coverage]

	session *session   // the present one, or nil; guarded by Tracker.mu
	sums    []ShardSum // of its claims while it is restored: else each Welcome would read the whole table; guarded likewise
}

// coverage is a lease on the shards that were proven when it was given. It is
// immutable.
type coverage struct {
	until  int64 // on the tracker's clock, in nanoseconds
	shards ring.ShardSet
	before *coverage // of a former lease: the one before it
}

// maxFormer is how many former leases of a life count: a proxy whose link flaps must
// not make lookups slow.
const maxFormer = 4

func (c *coverage) covers(now int64, s ring.Shard) bool {
	for ; c != nil; c = c.before {
		if now < c.until && c.shards.Has(s) {
			return true
		}
	}
	return false
}

func (c *coverage) live(now time.Time) bool {
	for ; c != nil; c = c.before {
		if now.UnixNano() < c.until {
			return true
		}
	}
	return false
}

// beyond is up to n links of c that cover something that by does not.
func (c *coverage) beyond(now int64, by *coverage, n int) *coverage {
	switch {
	case c == nil || n == 0:
		return nil
	case c.until <= now || c.until <= by.until && minus(c.shards, by.shards).Empty():
		return c.before.beyond(now, by, n)
	}
	return &coverage{c.until, c.shards, c.before.beyond(now, by, n-1)}
}

// takeOver makes the lease of a session that is over a former one. It is stored
// before it is taken away, so that no reader finds neither.
func (l *life) takeOver(now time.Time) {
	if c := l.lease.Load(); c != nil {
		l.former.Store(&coverage{c.until, c.shards, l.former.Load().beyond(now.UnixNano(), c, maxFormer-1)})
		l.lease.Store(nil)
	}
}

func (l *life) covered(now int64, s ring.Shard) bool {
	return !l.dead.Load() && (l.lease.Load().covers(now, s) || l.former.Load().covers(now, s))
}

func (l *life) live(now time.Time) bool {
	return !l.dead.Load() && (l.lease.Load().live(now) || l.former.Load().live(now))
}

// lives numbers the lives that claims in a table belong to. Numbers are given
// again only when no claim and no reader can still mean the former one.
type lives struct {
	all   atomic.Pointer[[]*life] // by Owner; immutable
	free  []Owner
	swept []Owner // once; the next sweep takes what was on its way then, and frees them
}

func newLives() *lives {
	var l lives
	l.all.Store(&[]*life{nil})
	return &l
}

// of returns the life of an owner, or nil where nothing of it is answered.
func (l *lives) of(o Owner) *life {
	all := *l.all.Load()
	if int(o) >= len(all) {
		return nil
	}
	if v := all[o]; v != nil && !v.dead.Load() && !v.restored.Load() {
		return v
	}
	return nil
}

// add gives a life its number. The caller serialises add and sweep.
func (l *lives) add(v *life) {
	all := slices.Clone(*l.all.Load())
	if n := len(l.free); n > 0 {
		v.owner, l.free = l.free[n-1], l.free[:n-1]
		all[v.owner] = v
	} else {
		v.owner = Owner(len(all))
		all = append(all, v)
	}
	l.all.Store(&all)
}

// dying lists the lives that are dead and not swept yet, and those to be swept again.
func (l *lives) dying() (once, again []Owner) {
	var d []Owner
	for o, v := range *l.all.Load() {
		if v != nil && v.dead.Load() {
			d = append(d, Owner(o))
		}
	}
	return d, l.swept
}

// buried takes the owners that were swept for the first time. Those of the sweep
// before are free now: no claim of theirs was on its way then, and whoever looked
// one up has long answered.
func (l *lives) buried(owners []Owner) {
	l.free = append(l.free, l.swept...)
	l.swept = owners
	if len(owners) == 0 {
		return
	}
	all := slices.Clone(*l.all.Load())
	for _, o := range owners {
		all[o] = nil
	}
	l.all.Store(&all)
}

// endLocked puts a floor under a proxy.
func (t *Tracker) endLocked(now time.Time, p ProxyID, floor Incarnation) {
	t.own.End(now, p, floor)
	if t.heard != nil {
		t.heard.End(now, p, floor)
	}
	t.applyFloorLocked(p, floor)
}

// applyFloorLocked ends the present life of a proxy if it is below a floor.
func (t *Tracker) applyFloorLocked(p ProxyID, floor Incarnation) {
	if l := t.proxies[p]; l != nil && l.incarnation.Less(floor) {
		end := lifeGoodbye
		if endBelow(floor) == EndRemoved {
			end = lifeRemoved
		}
		t.killLocked(l, end, &End{Reason: endBelow(floor), Known: floor})
	}
}

// endBelow says what a floor means to a life below it. A removal ends all lives up
// to a number, a goodbye one life.
func endBelow(floor Incarnation) EndReason {
	if floor.Random == 0 {
		return EndRemoved
	}
	return EndSuperseded
}

// killLocked takes a life's claims out of the answers at once; they are swept later.
func (t *Tracker) killLocked(l *life, end lifeEnd, why *End) {
	t.counts.ended[end].Add(1)
	l.dead.Store(true)
	if t.proxies[l.id] == l {
		delete(t.proxies, l.id)
	}
	if s := l.session; s != nil {
		l.session = nil
		s.end(why)
	}
	ring1(t.sweep)
}

// sweepPause is the least time between two sweeps. What a request had in hand of a dead
// life at the first is long answered at the second, which frees the life's number.
const sweepPause = time.Second

// sweepDead drops the claims of dead lives, a shard at a time, so that no request
// waits for it.
func (t *Tracker) sweepDead(ctx context.Context) {
	pause := time.NewTimer(sweepPause)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.sweep:
		}
		t.mu.Lock()
		dying, again := t.lives.dying()
		t.mu.Unlock()
		gone := make(map[Owner]bool, len(dying)+len(again))
		for _, o := range slices.Concat(dying, again) {
			gone[o] = true
		}
		for s := range t.cfg.Shards {
			t.counts.swept.Add(uint64(t.table.Sweep(ring.Shard(s), func(o Owner) bool { return gone[o] })))
		}
		t.mu.Lock()
		t.lives.buried(dying)
		t.mu.Unlock()
		if len(dying) > 0 {
			ring1(t.sweep)
		}
		pause.Reset(sweepPause)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}
