package scale

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

const (
	term      = lease.DefaultTerm
	seatCount = 3
	boot      = 1

	warmUp   = 2 // renewals before the figures are taken: everybody has heard of everybody
	measured = 3

	recounts = 5 // of which the fastest is taken
)

// Grants says what the grants of a quiet pool cost, as means over its seats and
// trackers.
type Grants struct {
	AskContacts, WordContacts float64 // proxies named in one message

	Asked time.Duration // CPU of a seat for an Ask
	Word  time.Duration // CPU of a seat for a Word
	Take  time.Duration // CPU of a tracker for a Word
}

// A tracker is one process of a simulated pool: what node.Tracker keeps of leases.
type tracker struct {
	process lease.Process
	own     *lease.Contacts
	ledger  *lease.Ledger
	seat    *seat // nil: it is none
}

type seat struct {
	heard   *lease.Contacts
	grantor *lease.Grantor
}

// proxyIDs are as long as names of pods.
func proxyIDs(n int) []lease.ProxyID {
	list := make([]lease.ProxyID, n)
	for i := range list {
		list[i] = lease.ProxyID(fmt.Sprintf("proxy-%08x-%05x", uint32(i)*0x9e3779b9, i))
	}
	return list
}

// life is that of every proxy.
func life() lease.Incarnation { return lease.Incarnation{Number: 1 << 60, Random: 1 << 59} }

// trackers returns the trackers of a placement; the first of its members are seats.
func trackers(now time.Time, p *ring.Placement) []*tracker {
	list := ids(p.View().Members())
	seats := list[:min(seatCount, len(list))]
	sum := ring.SetSum(seats)
	all := make([]*tracker, len(list))
	for i, id := range list {
		t := &tracker{process: lease.Process{ID: id, Boot: boot}, own: lease.NewContacts(term)}
		t.ledger = lease.NewLedger(now, t.process, [][]ring.MemberID{seats}, term, t.own)
		t.ledger.Adopt(now, p)
		if i < len(seats) {
			heard := lease.NewContacts(term)
			t.seat = &seat{heard, lease.NewGrantor(now, t.process, term, sum, true, heard)}
			t.seat.grantor.Adopt(now, p)
			t.ledger.Standing(now, t.seat.grantor.Standing(), heard)
		}
		all[i] = t
	}
	return all
}

// ask is a tracker's next question to a seat.
func (t *tracker) ask(now time.Time, to *tracker, set uint64) *lease.Ask {
	a := &lease.Ask{From: t.process, SeatSets: []uint64{set}, Nonce: t.ledger.Nonce(now), Contacts: t.ledger.Report(now, to.process.ID)}
	a.SeatBoot, a.Ack = t.ledger.Ack(to.process.ID)
	return a
}

// hear has all proxies renew their leases at a tracker: it gives all of them a
// nonce at once.
func (t *tracker) hear(now time.Time, proxies []lease.ProxyID) {
	for _, p := range proxies {
		t.own.Heard(now, p, life(), true)
		if t.seat != nil {
			t.seat.heard.Heard(now, p, life(), true)
		}
	}
}

// MeasureGrants runs the leases of a pool of n trackers, some renewals long: each
// proxy renews at each tracker, and each tracker asks each seat, at phases that
// depend on the seed.
func MeasureGrants(n, proxies int, seed uint64) (Grants, error) {
	placement, err := place(members(n, seed), lowShards)
	if err != nil {
		return Grants{}, err
	}
	start := time.Unix(1<<30, 0)
	all := trackers(start, placement)
	names := proxyIDs(proxies)
	set := ring.SetSum(ids(placement.View().Members())[:min(seatCount, n)])

	type event struct {
		after time.Duration // since start
		do    func(now time.Time, m *meter)
	}
	var events []event
	rng := rand.New(rand.NewPCG(seed, 1))
	every := term.Renewal()
	for _, t := range all {
		events = append(events, event{rand64(rng, every), func(now time.Time, _ *meter) {
			t.hear(now, names)
			t.own.Advance(now)
			t.ledger.Advance(now)
			if t.seat != nil {
				t.seat.grantor.Advance(now)
			}
		}})
		for _, s := range all[:min(seatCount, n)] {
			if s != t {
				events = append(events, event{rand64(rng, every), func(now time.Time, m *meter) { m.exchange(now, t, s, set) }})
			}
		}
	}
	slices.SortFunc(events, func(a, b event) int { return cmp.Compare(a.after, b.after) })
	runtime.LockOSThread() // for threadTime
	defer runtime.UnlockOSThread()
	var m meter
	for round := range warmUp + measured {
		if round == warmUp {
			m = meter{}
		}
		for _, e := range events {
			e.do(start.Add(time.Duration(round)*every+e.after), &m)
		}
	}
	return m.means(), nil
}

func rand64(rng *rand.Rand, below time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(below)))
}

// A meter sums up exchanges of an Ask and a Word.
type meter struct {
	exchanges, askContacts, wordContacts int
	asked, word, take                    time.Duration
}

func (m *meter) exchange(now time.Time, t, s *tracker, set uint64) {
	a := t.ask(now, s, set)
	began := threadTime()
	s.seat.grantor.Asked(now, a)
	asked := threadTime()
	w, _ := s.seat.grantor.Word(now, t.process)
	given := threadTime()
	t.ledger.Granted(now, w)
	m.asked += asked - began
	m.word += given - asked
	m.take += threadTime() - given
	m.exchanges++
	m.askContacts += len(a.Contacts)
	m.wordContacts += len(w.Contacts)
}

func (m *meter) means() Grants {
	n := max(1, m.exchanges)
	return Grants{
		AskContacts:  float64(m.askContacts) / float64(n),
		WordContacts: float64(m.wordContacts) / float64(n),
		Asked:        m.asked / time.Duration(n),
		Word:         m.word / time.Duration(n),
		Take:         m.take / time.Duration(n),
	}
}

// MeasureRecount measures what a tracker of a pool of n works out for one session
// when the seats' words have changed: node does so for each session after each
// Word, and at a seat for each proxy that an Ask names.
func MeasureRecount(n, proxies int, seed uint64) (time.Duration, error) {
	placement, err := place(members(n, seed), lowShards)
	if err != nil {
		return 0, err
	}
	now := time.Unix(1<<30, 0)
	all := trackers(now, placement)
	names := proxyIDs(proxies)
	t := all[n-1]
	seats := all[:min(seatCount, n)]
	set := ring.SetSum(ids(placement.View().Members())[:len(seats)])
	for _, s := range seats {
		if s.hear(now, names); s != t {
			new(meter).exchange(now, t, s, set)
		}
	}
	runtime.LockOSThread() // for threadTime
	defer runtime.UnlockOSThread()
	least := time.Hour
	for range recounts {
		began := threadTime()
		for _, p := range names {
			if !recount(now, t.ledger, p) {
				return 0, fmt.Errorf("recount: proxy %q is not known to the seats", p)
			}
		}
		least = min(least, threadTime()-began)
	}
	return least / time.Duration(proxies), nil
}

// recount is what node's session works out: whether the claims count, where, and
// until when.
func recount(now time.Time, l *lease.Ledger, p lease.ProxyID) bool {
	c := l.Counting(now, p, life())
	c.Until(now)
	known, forced := c.Shards(now), c.Snapshot.Forced(now)
	for _, set := range []ring.ShardSet{c.Snapshot.Held, forced, known} {
		rest := set.Clone()
		rest.AndNot(known)
	}
	return c.Known
}
