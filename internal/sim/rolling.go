package sim

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/ring"
)

// A setting is what trackers are given when they start: sets of seats, each of the
// first so many trackers, and numbers of replicas, the newest last.
type setting struct{ seats, replicas []int }

// give changes what trackers are given from now on.
func (p *Pool) give(s setting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given = s
}

func (p *Pool) givenNow() setting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given
}

// seatSets are the sets of seats by their IDs.
func (s setting) seatSets() [][]ring.MemberID {
	var sets [][]ring.MemberID
	for _, n := range s.seats {
		var set []ring.MemberID
		for i := range n {
			set = append(set, ring.MemberID("t-"+strconv.Itoa(i)))
		}
		sets = append(sets, set)
	}
	return sets
}

// upgrade takes trackers down and up again, one after the other, each when the one
// before is ready.
func (p *Pool) upgrade(limit time.Duration) {
	for _, t := range slices.Backward(p.trackers) {
		if t.life.Load() == nil {
			continue
		}
		t.leave(limit)
		p.started(t)
		t.awaitReady()
	}
}

// reseat changes the seats to the first so many trackers, in two rolling restarts.
func (p *Pool) reseat(seats int) {
	s := p.givenNow()
	both := append(slices.Clone(s.seats), seats)
	p.deciding.Store(&both)
	p.give(setting{both, s.replicas})
	p.upgrade(0)
	p.give(setting{[]int{seats}, s.replicas})
	p.upgrade(0)
	p.deciding.Store(&[]int{seats})
}

// recopy changes the number of replicas, in two rolling restarts.
func (p *Pool) recopy(replicas int) {
	s := p.givenNow()
	p.give(setting{s.seats, append(slices.Clone(s.replicas), replicas)})
	p.upgrade(0)
	p.give(setting{s.seats, []int{replicas}})
	p.upgrade(0)
}

// started starts a tracker, again and again while the pool refuses what it was given:
// gossip may show a process for some seconds that ended before others were given
// something else.
func (p *Pool) started(t *tracker) {
	for range 60 {
		err := t.start(false)
		var mismatch *membership.MismatchError
		switch {
		case err == nil || p.ctx.Err() != nil:
			return
		case !errors.As(err, &mismatch):
			p.violate("start: %v", err)
			return
		}
		p.note("%s is refused: %v", t.name, err)
		if !p.sleep(restartPause) {
			return
		}
	}
	p.violate("start: tracker %s is refused for a minute", t.name)
}
