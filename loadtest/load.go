package loadtest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A load is what the phases of a run share. It is safe for concurrent use.
type load struct {
	cfg      Config
	work     workload
	truth    *truth
	fleet    *fleet
	deadline *deadline
	mistakes mistakes

	start     time.Time
	lastEvent atomic.Int64           // when the last event began, since start; the start of an own pool is one
	window    atomic.Pointer[window] // of the event under way, or nil
	hardship  atomic.Bool            // failed and UNKNOWN lookups are expected: they are counted, not described
}

// since returns the time since the run began.
func (l *load) since() time.Duration { return time.Since(l.start) }

// patience is for how long after an event claims may be not counted, removals not
// sure, and a former proxy still found: until the leases and grants of before it
// have run out, and a little.
func (l *load) patience() time.Duration { return l.cfg.Term + 5*time.Second }

// placement returns the placement that the first proxy goes by.
func (l *load) placement() *ring.Placement {
	return l.fleet.proxies[0].alive.Load().client.Placement()
}

// A window is a tally of what began at a time or later, and the window before it.
type window struct {
	*tally
	from   time.Time
	before *window
}

// of returns the window in which an operation began; the first one where it began
// before them, and ended in one.
func (w *window) of(began time.Time) *window {
	for w != nil && w.before != nil && began.Before(w.from) {
		w = w.before
	}
	return w
}

// both calls f with the tally of a phase, and with that of the window in which an
// operation began, if any.
func (l *load) both(t *tally, began time.Time, f func(*tally)) {
	f(t)
	if w := l.window.Load().of(began); w != nil && !t.apart {
		f(w.tally)
	}
}

// A question is a lookup under way of a node that exists.
type question struct {
	number   uint64
	before   route
	turns    uint32 // of the node's proxy
	began    time.Duration
	intended time.Time
}

// question begins a lookup: what it will be judged by is as it is now.
func (l *load) question(number uint64, intended time.Time) question {
	before := l.truth.at(number)
	return question{number, before, l.fleet.proxies[before.home].turns.Load(), l.since(), intended}
}

// lookup looks up a node that exists from another proxy than its own, judges the
// answer, and reports whether the node was found. The latency counts from intended.
func (l *load) lookup(t *tally, number, choice uint64, intended time.Time) bool {
	q := l.question(number, intended)
	reader := l.fleet.reader(q.before.home, choice)
	answer, claims, err := reader.client.Lookup(l.deadline.context(), l.work.id(number))
	return l.answered(t, reader, q, answer, claims, err)
}

// answered judges an answer, and reports whether the node was found.
func (l *load) answered(t *tally, reader *life, q question, answer node.Answer, claims []node.Claim, err error) bool {
	latency := time.Since(q.intended)
	before, after := q.before, l.truth.at(q.number)
	number, began, intended := q.number, q.began, q.intended

	var buf [4]int
	v := right
	switch {
	case err != nil && (reader.killed.Load() || l.deadline.over()):
		return false // the caller died with its proxy, or with the run
	case err == nil:
		v = judge(before, after, began, answer, l.fleet.indices(buf[:0], claims))
	}
	if err != nil || v == unknown || v == falseAbsent {
		now := l.fleet.proxies[before.home].turns.Load()
		if now%2 == 1 || now != q.turns || !l.fleet.proxies[after.home].up() {
			l.both(t, intended, func(t *tally) { t.note(number, counts{Excused: 1}) })
			return false
		}
	}
	if err != nil {
		if !l.hardship.Load() {
			l.mistakes.note(began, fmt.Sprintf("lookup of node %s: %v", l.work.id(number), err))
		}
		l.both(t, intended, func(t *tally) {
			t.lookup(number, right, latency)
			t.note(number, counts{Failed: 1})
		})
		return false
	}
	if v != right && !(v == unknown && l.hardship.Load()) {
		l.mistakes.note(began, fmt.Sprintf("%s: lookup of node %s took %v and said %v %v; before it was %s, after it %s",
			v, l.work.id(number), latency.Round(time.Microsecond), answer, claims, before.describe(), after.describe()))
	}
	l.both(t, intended, func(t *tally) { t.lookup(number, v, latency) })
	return v == right
}

// miss looks up a node that does not exist, and returns what the answer was worth
// and whether anybody was there to hear it.
func (l *load) miss(t *tally, id node.ID, choice uint64) (verdict, bool) {
	reader := l.fleet.reader(nowhere, choice)
	start := time.Now()
	began := start.Sub(l.start)
	answer, claims, err := reader.client.Lookup(l.deadline.context(), id)
	if err != nil {
		if reader.killed.Load() || l.deadline.over() {
			return unknown, false
		}
		if !l.hardship.Load() {
			l.mistakes.note(began, fmt.Sprintf("lookup of node %s, which does not exist: %v", id, err))
		}
		l.both(t, start, func(t *tally) { t.note(choice, counts{Misses: 1, MissesFailed: 1}) })
		return unknown, true
	}
	v := judgeMissing(answer)
	c := counts{Misses: 1}
	switch v {
	case unknown:
		c.MissesUnknown++
	case wrong:
		c.WrongProxy++
		l.mistakes.note(began, fmt.Sprintf("node %s does not exist, and was FOUND at %v", id, claims))
	}
	l.both(t, start, func(t *tally) { t.note(choice, c) })
	return v, true
}

// written counts a call of Add or Remove, and reports whether it did all that it
// promises. The error, if any, is neither ErrNotCounted nor ErrNotRemoved.
func (l *load) written(t *tally, slot uint64, what string, err error) (done bool, _ error) {
	c, err := l.classify(what, err)
	l.both(t, time.Now(), func(t *tally) { t.note(slot, c) })
	return c.NotCounted+c.NotRemoved == 0 && err == nil, err
}

// classify says what became of a call of Add or Remove.
func (l *load) classify(what string, err error) (counts, error) {
	c := counts{Writes: 1}
	now := l.since()
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, node.ErrNotCounted):
		c.NotCounted++
	case errors.Is(err, node.ErrNotRemoved):
		c.NotRemoved++
	case l.deadline.over():
		return counts{}, err
	default:
		if !l.hardship.Load() { // else no tracker is there to take it, and the client goes on by itself
			c.WritesFailed++
			l.mistakes.note(now, what+": "+err.Error())
		}
		return c, err
	}
	if quiet := now - time.Duration(l.lastEvent.Load()); quiet > l.patience() {
		c.Late++
		l.mistakes.note(now, fmt.Sprintf("%s: %v, %v after the last event", what, err, quiet.Round(time.Millisecond)))
	}
	return c, nil
}

// mistakes are the first few things that went wrong, in words. The zero value
// works. It is safe for concurrent use.
type mistakes struct {
	mu    sync.Mutex // guards the fields below
	lines []string
	more  int
}

// mostMistakes is how many are kept: whoever reads more looks for the cause
// elsewhere.
const mostMistakes = 20

func (m *mistakes) note(at time.Duration, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.lines) == mostMistakes {
		m.more++
		return
	}
	m.lines = append(m.lines, fmt.Sprintf("at %.2f s: %s", at.Seconds(), text))
}

func (m *mistakes) list() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	lines := append([]string(nil), m.lines...)
	if m.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", m.more))
	}
	return lines
}
