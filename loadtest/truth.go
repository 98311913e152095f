package loadtest

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// A route is what is true of a node that exists: where it is.
type route struct {
	home, former int // proxies; former is where it was before

	// moving is set from before the Add at home until the Remove at former has
	// returned: either may be found meanwhile.
	moving bool

	// grace is until when former may still be found although its Remove has
	// returned, because it returned ErrNotRemoved; in time since the run began.
	grace time.Duration

	moves int // modulo maxMoves
}

const (
	maxMoves  = 1 << 7
	graceUnit = 10 * time.Millisecond // 24 bits of them are 46 hours
)

func (r route) pack() uint64 {
	word := uint64(r.home) | uint64(r.former)<<16 | uint64(r.moves)<<33 | uint64((r.grace+graceUnit-1)/graceUnit)<<40
	if r.moving {
		word |= 1 << 32
	}
	return word
}

func unpack(word uint64) route {
	return route{
		home:   int(word & 0xffff),
		former: int(word >> 16 & 0xffff),
		moving: word>>32&1 == 1,
		moves:  int(word >> 33 & (maxMoves - 1)),
		grace:  time.Duration(word>>40) * graceUnit,
	}
}

// A truth is what is true of all nodes. It is safe for concurrent use.
type truth struct{ words []atomic.Uint64 }

func newTruth(w workload) *truth {
	t := &truth{words: make([]atomic.Uint64, w.nodes)}
	for i := range t.words {
		home := w.home(uint64(i))
		t.words[i].Store(route{home: home, former: home}.pack())
	}
	return t
}

func (t *truth) at(number uint64) route { return unpack(t.words[number].Load()) }

// homed returns the numbers of the nodes that are at a proxy.
func (t *truth) homed(p int) []uint32 {
	var numbers []uint32
	for n := range t.words {
		if t.at(uint64(n)).home == p {
			numbers = append(numbers, uint32(n))
		}
	}
	return numbers
}

// move notes that a node begins to move to another proxy. It reports false, and
// notes nothing, where the node moves already, may still be found at a former
// proxy, is there, or is not where it was.
func (t *truth) move(number uint64, was route, to int, now time.Duration) bool {
	if was.moving || now < was.grace || was.home == to {
		return false
	}
	next := route{home: to, former: was.home, moving: true, moves: (was.moves + 1) % maxMoves}
	return t.words[number].CompareAndSwap(was.pack(), next.pack())
}

// moved notes that Remove at the former proxy has returned. Until grace the former
// route may still be found; 0: no longer.
func (t *truth) moved(number uint64, grace time.Duration) {
	r := t.at(number)
	r.moving, r.grace = false, grace
	t.words[number].Store(r.pack())
}

// A verdict is what an answer was worth.
type verdict uint8

const (
	right verdict = iota
	unknown
	falseAbsent // ABSENT, but the node's claim is counted
	stale       // the former proxy, after Remove there had returned
	wrong       // a proxy where the node never was, or a node that does not exist
)

func (v verdict) String() string {
	return [...]string{"right", "unknown", "false ABSENT", "stale proxy", "wrong proxy"}[v]
}

// judge says what an answer about a node that exists is worth, by what was true
// when the lookup began, at that time since the run began, and when it had ended.
// The proxies are those of the claims of a FOUND, negative for a stranger.
func judge(before, after route, began time.Duration, answer node.Answer, proxies []int) verdict {
	switch answer {
	case node.Absent:
		return falseAbsent
	case node.Unknown:
		return unknown
	}
	// After two moves within one lookup nobody remembers where it was between.
	forgotten := (after.moves-before.moves+maxMoves)%maxMoves > 1
	for _, p := range proxies {
		switch {
		case p == before.home, p == after.home:
		case p == before.former && (before.moving || began < before.grace):
		case p >= 0 && forgotten:
		case p == before.former:
			return stale
		default:
			return wrong
		}
	}
	return right
}

// judgeMissing says what an answer about a node that does not exist is worth.
func judgeMissing(answer node.Answer) verdict {
	switch answer {
	case node.Absent:
		return right
	case node.Unknown:
		return unknown
	}
	return wrong
}

// describe says what was true, for a person who reads about a wrong answer.
func (r route) describe() string {
	switch {
	case r.moving:
		return fmt.Sprintf("moving from proxy %d to %d", r.former, r.home)
	case r.moves > 0 || r.former != r.home:
		return fmt.Sprintf("at proxy %d, formerly at %d", r.home, r.former)
	}
	return fmt.Sprintf("at proxy %d", r.home)
}
