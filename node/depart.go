package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// departWait is how long a tracker that would leave waits for the others to say that
// they stay. Who has not said so by then is not counted on.
const departWait = 5 * time.Second

// Staying is what a tracker says of itself to another one that would leave.
type Staying struct {
	Leaving bool // it leaves, or means to
	Grants  bool // it is a seat that grants
}

// Depart has the others know, when they ask, that this tracker leaves: call it before
// LEAVING is announced. Without force it first asks all others whether they stay, for
// 5 s at most, and is ErrLastMajority where this is a seat and too few of the others
// stay and grant, ErrLastTracker where no other one stays that shards are placed on.
// Then the tracker stays.
//
// Of trackers that depart at the same moment no more leave than can be spared: each
// says that it leaves before it asks, so that of any two at least one hears of the
// other. It may be that both do, and none leaves.
func (t *Tracker) Depart(ctx context.Context, force bool) error {
	if force {
		t.departing.Add(1)
		return nil
	}
	if err := t.spared(nil); err != nil { // nobody has to be asked
		return err
	}
	t.departing.Add(1)
	ctx, cancel := context.WithTimeout(ctx, departWait)
	defer cancel()
	said, absent := t.whoStays(ctx)
	err := t.spared(said)
	if err != nil {
		t.departing.Add(-1)
		if len(absent) > 0 {
			err = fmt.Errorf("%s: %w", strings.Join(absent, ", "), err)
		}
	}
	return err
}

// Stay is Service's.
func (t *Tracker) Stay(context.Context) (Staying, error) {
	s := t.Status()
	t.mu.Lock()
	m, _ := t.view.Member(t.self.ID)
	t.mu.Unlock()
	return Staying{Leaving: m.State == ring.Leaving || t.departing.Load() > 0, Grants: s.Granting}, nil
}

// whoStays asks the other trackers. absent says who cannot be counted on, and why.
func (t *Tracker) whoStays(ctx context.Context) (said map[ring.MemberID]Staying, absent []string) {
	t.mu.Lock()
	peers := make([]*peer, 0, len(t.peers))
	for _, p := range t.peers {
		peers = append(peers, p)
	}
	t.mu.Unlock()
	answers := make([]Staying, len(peers))
	errs := make([]error, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() { answers[i], errs[i] = p.conn.Stay(ctx) })
	}
	wg.Wait()
	said = make(map[ring.MemberID]Staying, len(peers))
	for i, p := range peers {
		switch id := p.member.ID; {
		case errs[i] != nil:
			t.log.Info("a tracker does not say whether it stays", "tracker", id, "err", errs[i])
			absent = append(absent, fmt.Sprintf("%s does not answer", id))
		case answers[i].Leaving:
			absent = append(absent, fmt.Sprintf("%s leaves too", id))
			fallthrough
		default:
			said[id] = answers[i]
		}
	}
	slices.Sort(absent)
	return said, absent
}

// spared returns why the others cannot do without this tracker, by what they said, or
// with nil by the view and their words alone.
func (t *Tracker) spared(said map[ring.MemberID]Staying) error {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	stays := func(m ring.Member) bool {
		s, heard := said[m.ID]
		return m.ID != t.self.ID && m.State != ring.Leaving && (said == nil || heard && !s.Leaving)
	}
	last := true
	for _, m := range t.view.Members() {
		if m.State == ring.Serving && stays(m) {
			last = false
		}
	}
	if m, ok := t.view.Member(t.self.ID); ok && m.State == ring.Serving && last {
		return ErrLastTracker
	}
	if t.grantor != nil && !t.ledger.MostGrantWithout(now, func(id ring.MemberID) bool {
		m, ok := t.view.Member(id)
		return !ok || !stays(m) || said != nil && !said[id].Grants
	}) {
		return ErrLastMajority
	}
	return nil
}
