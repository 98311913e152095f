package loadtest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

const (
	mixers    = 64   // operations under way for each client that looks up
	mostMoves = 4096 // reconnects under way; those above are left out, and counted

	// At a rate so many operations may be under way that those which wait for
	// trackers that are away do not keep the next ones: those of slowest.
	slowest    = time.Second
	mostMixers = 1 << 14
)

// A mix offers operations at a rate, whether the ones before have ended or not.
type mix struct {
	*load
	tally   *tally
	offered atomic.Uint64
	done    atomic.Uint64
	movers  sync.WaitGroup
	moving  atomic.Int64
}

// A due operation was meant to start at a time since the run began.
type due struct {
	k  uint64
	at time.Duration
}

// run offers operations until ctx ends, and returns when all that began have ended.
func (m *mix) run(ctx context.Context) Lookup {
	// The channel holds what is due and not begun; when it is full the rest is due
	// all the same, and goes into it later with the time at which it was.
	ops := make(chan due, 1024)
	readers := len(m.fleet.readers)
	if readers == 0 {
		readers = len(m.fleet.proxies)
	}
	began := m.since()
	var wg sync.WaitGroup
	workers := max(mixers*readers, 256, int(m.cfg.Rate*slowest.Seconds()))
	for range min(workers, mostMixers) {
		wg.Go(func() {
			for op := range ops {
				m.perform(op)
			}
		})
	}
	if m.cfg.Rate > 0 {
		m.pace(ctx, began, ops)
	} else {
		m.press(ctx, ops)
	}
	close(ops)
	wg.Wait()
	took := (m.since() - began).Seconds()
	m.movers.Wait()
	return m.report(took)
}

// pace hands out operations as they become due, in bursts of a millisecond.
func (m *mix) pace(ctx context.Context, began time.Duration, ops chan<- due) {
	for k := uint64(0); ; k++ {
		at := began + time.Duration(math.Round(float64(k)*float64(time.Second)/m.cfg.Rate))
		if wait := at - m.since(); wait > 0 {
			if ctx.Err() != nil {
				return
			}
			time.Sleep(max(wait, time.Millisecond))
		}
		m.offered.Store(k + 1)
		select {
		case ops <- due{k, at}:
		case <-ctx.Done():
			// What was due until now was offered.
			m.offered.Store(uint64((m.since() - began).Seconds() * m.cfg.Rate))
			return
		}
	}
}

// press hands out operations as fast as they are taken.
func (m *mix) press(ctx context.Context, ops chan<- due) {
	for k := uint64(0); ; k++ {
		m.offered.Store(k)
		select {
		case ops <- due{k, atOnce}:
		case <-ctx.Done():
			return
		}
	}
}

// atOnce stands for the time at which an operation is begun.
const atOnce time.Duration = -1

func (m *mix) perform(d due) {
	op := m.work.operation(d.k)
	intended := m.start.Add(d.at)
	if d.at == atOnce {
		intended = time.Now()
	}
	switch op.kind {
	case opLookup:
		m.lookup(m.tally, op.number, op.choice, intended)
	case opMiss:
		m.miss(m.tally, m.work.id(op.number), op.choice)
	case opReconnect:
		m.reconnect(op)
	}
	m.done.Add(1)
}

// reconnect begins to move a node to another proxy, where that is possible.
func (m *mix) reconnect(op operation) {
	was := m.truth.at(op.number)
	to := m.work.other(was.home, op.choice)
	if m.moving.Add(1) > mostMoves {
		m.moving.Add(-1)
		m.both(m.tally, time.Now(), func(t *tally) { t.note(op.number, counts{Skipped: 1}) })
		return
	}
	leave := func() {
		m.moving.Add(-1)
		m.fleet.proxies[to].moves.Add(-1)
		m.fleet.proxies[was.home].moves.Add(-1)
	}
	m.fleet.proxies[to].moves.Add(1)
	m.fleet.proxies[was.home].moves.Add(1)
	// A proxy that is about to die first goes down, then waits for its moves.
	if !m.fleet.proxies[to].up() || !m.fleet.proxies[was.home].up() || !m.truth.move(op.number, was, to, m.since()) {
		leave()
		return
	}
	m.movers.Go(func() {
		defer leave()
		m.move(op.number, was.home, to)
	})
}

// move moves a node as an agent does: it has its new connection before it gives up
// the old one. Where a call fails the node stays on the move, so that both routes
// are right ever after.
func (m *mix) move(number uint64, from, to int) {
	id := m.work.id(number)
	giveUp := m.since() + 2*m.patience()
	for {
		client := m.fleet.proxies[to].alive.Load().client
		err := client.Add(m.deadline.context(), node.Claim{Node: id})
		counted, err := m.written(m.tally, number, fmt.Sprintf("add node %s at proxy %d", id, to), err)
		if err != nil {
			return
		}
		if counted {
			break
		}
		if m.since() > giveUp {
			m.mistakes.note(m.since(), fmt.Sprintf("node %s at proxy %d was not counted for %v", id, to, 2*m.patience()))
			return
		}
		// The node is found at the former proxy too, so that there is no hurry.
		time.Sleep(time.Duration(100+number%100) * time.Millisecond)
	}
	client := m.fleet.proxies[from].alive.Load().client
	err := client.Remove(m.deadline.context(), m.fleet.proxies[from].self.ID, id)
	removed, err := m.written(m.tally, number, fmt.Sprintf("remove node %s at proxy %d", id, from), err)
	switch {
	case err != nil:
		return
	case removed:
		m.truth.moved(number, 0)
	default:
		m.truth.moved(number, m.since()+m.patience())
	}
	m.both(m.tally, time.Now(), func(t *tally) { t.note(number, counts{Reconnects: 1}) })
}

func (m *mix) report(took float64) Lookup {
	c, h := m.tally.sum()
	r := Lookup{
		Count:      c.Lookups,
		Seconds:    took,
		PerSecond:  float64(c.Lookups) / took,
		Offered:    float64(m.offered.Load()) / took,
		Achieved:   float64(m.done.Load()) / took,
		P50:        milliseconds(h, 50),
		P90:        milliseconds(h, 90),
		P99:        milliseconds(h, 99),
		P999:       milliseconds(h, 99.9),
		Max:        milliseconds(h, 100),
		Failed:     c.failed(),
		Unknown:    c.Unknown,
		Wrong:      c.wrong(),
		Misses:     c.Misses,
		Reconnects: c.Reconnects,
		Skipped:    c.Skipped,
		NotCounted: c.NotCounted,
		NotRemoved: c.NotRemoved,
		Excused:    c.Excused,
		counts:     c,
	}
	if m.cfg.Rate == 0 {
		r.Offered = r.Achieved
	}
	return r
}
