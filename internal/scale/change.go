package scale

import (
	"container/heap"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

const (
	// hop is the least time that a message takes one way; it takes up to half as
	// much more.
	hop = 500 * time.Microsecond

	// takeWord is how long a tracker works on a Word before its next Ask goes.
	takeWord = time.Millisecond

	// maxMessages ends a simulation that does not settle.
	maxMessages = 5_000_000
)

// A Change is what one change of view costs one seat.
type Change struct {
	Words, Asks int
	Stragglers  int           // named in all Words together
	Work        time.Duration // CPU of the seat under its lock
	Settled     time.Duration // from the change until nobody relies on the old view
	Over        time.Duration // from the change until the last message
}

// MostWords is how many Words a seat of a pool of n sends for one change of view
// if its work takes no time: each acknowledgement of the n-1 others changes its
// word, which it tells to all; each that is news is acknowledged, and that
// answered. Work lets changes gather, so that one Word tells of many.
func MostWords(n int) int { return 2*(n-1)*(n-1) + n - 1 }

// MeasureChange has a seat of a pool of n turn to a view with one more tracker, and
// everybody acknowledge: in virtual time, in which the seat's real work takes what
// it takes here. cost, if not nil, says instead how long each piece of it takes.
//
// As in node, one lock guards what a seat decides, in the order in which it was
// asked for; each tracker has a stream whose doorbell rings when the seat's word
// changes, and which says the word at that time once it gets the lock.
func MeasureChange(n, proxies int, seed uint64, cost func() time.Duration) (Change, error) {
	list := members(n+1, seed)
	before, err := place(list[:n], lowShards)
	if err != nil {
		return Change{}, err
	}
	after, err := place(list, lowShards)
	if err != nil {
		return Change{}, err
	}
	runtime.LockOSThread() // for threadTime
	defer runtime.UnlockOSThread()
	c := newChange(before, proxies, seed, cost)
	c.lock(0, func() {
		c.seat.seat.grantor.Adopt(c.start, after)
		c.seat.ledger.Adopt(c.start, after)
	})
	c.published(0)
	for c.jobs.Len() > 0 && c.result.Words+c.result.Asks < maxMessages {
		c.step(heap.Pop(&c.jobs).(job))
	}
	return c.result, nil
}

// change is a seat and all who rely on it.
type change struct {
	start    time.Time
	cost     func() time.Duration
	rng      *rand.Rand
	seat     *tracker
	names    []lease.ProxyID
	set      uint64
	others   []receiver
	jobs     jobs
	free     time.Duration // when the lock is free, since start
	version  uint64        // of the seat's word, as published
	sequence uint64
	result   Change
}

// receiver is a tracker that relies on the seat, and its stream.
type receiver struct {
	process lease.Process
	nonce   lease.Nonce
	free    time.Duration // when it has taken the last Word
	last    lease.Word
	rung    bool // the stream's doorbell
	asked   bool // an Ask is to be answered, news or not
}

type jobKind uint8

const (
	askComes jobKind = iota
	streamSpeaks
)

// job is something that waits for the seat's lock from a time on.
type job struct {
	at       time.Duration
	sequence uint64 // orders jobs of one time
	kind     jobKind
	receiver int
	ask      *lease.Ask // of askComes
}

type jobs []job

func (j jobs) Len() int      { return len(j) }
func (j jobs) Swap(a, b int) { j[a], j[b] = j[b], j[a] }
func (j jobs) Less(a, b int) bool {
	return j[a].at < j[b].at || j[a].at == j[b].at && j[a].sequence < j[b].sequence
}
func (j *jobs) Push(x any) { *j = append(*j, x.(job)) }
func (j *jobs) Pop() any {
	last := (*j)[len(*j)-1]
	*j = (*j)[:len(*j)-1]
	return last
}

// newChange returns a seat to which everybody has just acknowledged its word.
func newChange(before *ring.Placement, proxies int, seed uint64, cost func() time.Duration) *change {
	start := time.Unix(1<<30, 0)
	all := trackers(start, before)
	c := &change{start: start, cost: cost, rng: rand.New(rand.NewPCG(seed, 2)), seat: all[0], names: proxyIDs(proxies)}
	c.set = ring.SetSum(ids(before.View().Members())[:min(seatCount, len(all))])
	c.seat.hear(start, c.names)
	for _, t := range all[1:] {
		c.others = append(c.others, receiver{process: t.process})
	}
	for range 2 {
		for i := range c.others {
			c.seat.seat.grantor.Asked(start, c.others[i].ask(c.set))
			w, _ := c.seat.seat.grantor.Word(start, c.others[i].process)
			c.others[i].last = *w
		}
	}
	c.version = c.seat.seat.grantor.Version()
	return c
}

func (r *receiver) ask(set uint64) *lease.Ask {
	r.nonce++
	return &lease.Ask{From: r.process, SeatSets: []uint64{set}, Nonce: r.nonce, SeatBoot: boot, Ack: r.last.Seq}
}

// lock does something under the seat's lock, not before at, and returns when it
// is done.
func (c *change) lock(at time.Duration, do func()) time.Duration {
	began := threadTime()
	do()
	took := threadTime() - began
	if c.cost != nil {
		took = c.cost()
	}
	c.free = max(c.free, at) + took
	c.result.Work += took
	return c.free
}

func (c *change) push(j job) {
	c.sequence++
	j.sequence = c.sequence
	heap.Push(&c.jobs, j)
}

func (c *change) now() time.Time { return c.start.Add(c.free) }

func (c *change) hop() time.Duration { return hop + rand64(c.rng, hop/2) }

func (c *change) step(j job) {
	g, r := c.seat.seat.grantor, &c.others[j.receiver]
	switch j.kind {
	case askComes:
		c.result.Asks++
		r.asked = true
		done := c.lock(j.at, func() { g.Asked(c.now(), j.ask) })
		c.published(done)
		c.ring(done, j.receiver)
	case streamSpeaks:
		r.rung = false
		var w *lease.Word
		done := c.lock(j.at, func() {
			if r.asked || g.Owes(r.process) {
				w, _ = g.Word(c.now(), r.process)
			}
		})
		r.asked = false
		c.published(done)
		if w != nil {
			c.takes(done+c.hop(), j.receiver, w)
		}
	}
	c.result.Over = c.free
}

// published is what node does under the lock after each event: where the word has
// changed, the seat itself takes it, looks at all sessions, and rings all streams.
func (c *change) published(at time.Duration) {
	g := c.seat.seat.grantor
	if g.Version() == c.version {
		return
	}
	c.version = g.Version()
	if w := g.Standing(); len(w.Older) == 0 && c.result.Settled == 0 && c.result.Words > 0 {
		c.result.Settled = c.free
	}
	done := c.lock(at, func() {
		c.seat.ledger.Standing(c.now(), g.Standing(), c.seat.seat.heard)
		for _, p := range c.names {
			c.seat.ledger.Counting(c.now(), p, life())
		}
	})
	for i := range c.others {
		c.ring(done, i)
	}
}

// ring has a receiver's stream wait for the lock, unless it does so already.
func (c *change) ring(at time.Duration, i int) {
	if !c.others[i].rung {
		c.others[i].rung = true
		c.push(job{at: at, kind: streamSpeaks, receiver: i})
	}
}

// takes has a Word arrive. Where it is news, the tracker acknowledges it at once.
func (c *change) takes(at time.Duration, i int, w *lease.Word) {
	c.result.Words++
	for _, o := range w.Older {
		c.result.Stragglers += len(o.Stragglers)
	}
	r := &c.others[i]
	news := w.View != r.last.View || !slices.EqualFunc(w.Older, r.last.Older, func(a, b lease.Older) bool {
		return a.View == b.View && slices.Equal(a.Stragglers, b.Stragglers)
	})
	r.free = max(r.free, at) + takeWord
	r.last = *w
	if news {
		c.push(job{at: r.free + c.hop(), kind: askComes, receiver: i, ask: r.ask(c.set)})
	}
}
