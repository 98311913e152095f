package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// expectation returns what waits for a state of the pool and finds it wrong if
// that takes too long.
func (p *Pool) expectation(s step) (func(), error) {
	if len(s.words) != 1 || s.wait == 0 {
		return nil, fmt.Errorf("give what, and within how long")
	}
	var missing func() string
	switch s.words[0] {
	case "open":
		missing = p.notOpen
	case "settled":
		missing = p.unsettled
	default:
		return nil, fmt.Errorf("%q: give open or settled", s.words[0])
	}
	return func() {
		began := time.Now()
		last := ""
		if m := p.until(s.wait, func() string {
			m := missing()
			if m != "" {
				last = m
			}
			return m
		}); m != "" && p.ctx.Err() == nil {
			p.violate("not %s within %v: %s", s.words[0], s.wait, m)
			return
		}
		took := time.Since(began)
		p.note("%s after %v; the last to come: %s", s.words[0], took.Round(10*time.Millisecond), last)
		if s.words[0] == "settled" {
			p.Settled = max(p.Settled, took)
		}
	}, nil
}

// notOpen says what keeps a tracker from having one view with all others and
// opening all that it holds, or nothing.
func (p *Pool) notOpen() string {
	var views []string
	live := p.live()
	var fp ring.Fingerprint
	for _, l := range live {
		s := l.node.Status()
		if fp == 0 {
			fp = s.View
		}
		if s.View != fp || s.View == 0 || s.Shards.Open != s.Shards.Held || s.Shards.Held == 0 {
			views = append(views, fmt.Sprintf("%s: view %v of %d, %d held, %d in force, %d open; %s", l.name, s.View, s.Members, s.Shards.Held, s.Shards.InForce, s.Shards.Open, l.blocking()))
		}
	}
	if len(live) == 0 {
		return "no tracker runs"
	}
	return strings.Join(views, "; ")
}

// blocking says a little of why a tracker's shards are not open.
func (l *trackerLife) blocking() string {
	r, err := l.node.Report(l.pool.ctx)
	if err != nil {
		return err.Error()
	}
	why := fmt.Sprintf("granting %v, cut off %v, selfish %v, %d sessions, %d proxies", r.Granting, r.CutOff, r.Selfish, r.Sessions, r.Proxies)
	for _, h := range r.Holdups[:min(len(r.Holdups), 3)] {
		why += fmt.Sprintf(", %v %s keeps %d: %s", h.By, h.ID, h.Shards.Len(), h.Why)
	}
	return why
}

// unsettled says what is not yet as it must be once nothing goes wrong any more:
// every shard open, every holder's content the same and what it should be, and no
// proxy waiting.
func (p *Pool) unsettled() string {
	if m := p.notOpen(); m != "" {
		return m
	}
	live := p.live()
	view := live[0].node.Status().View
	var placement *ring.Placement
	for _, x := range p.proxies {
		l := x.life.Load()
		if l == nil || l.client.Err() != nil {
			continue
		}
		if got := l.client.Stats().View; got != view {
			return fmt.Sprintf("%s goes by view %v, trackers by %v", l.name, got, view)
		}
		ctx, cancel := context.WithTimeout(p.ctx, 50*time.Millisecond)
		err := l.client.Settled(ctx)
		cancel()
		if err != nil {
			return fmt.Sprintf("%s: %v", l.name, err)
		}
	}
	for _, r := range p.readers {
		if got := r.client.Stats().View; got != view {
			return fmt.Sprintf("reader %d goes by view %v, trackers by %v", r.index, got, view)
		}
		placement = r.client.Placement()
	}
	if placement.Fingerprint() != view {
		return "the readers' view changes"
	}
	return p.contentWrong(placement, live)
}

// contentWrong compares what every holder has with what it should have. It is for
// a pool that rests.
func (p *Pool) contentWrong(placement *ring.Placement, live []*trackerLife) string {
	if p.working.Load() {
		return "" // it changes all the time
	}
	want := make(map[string]int, len(live))
	wrong := make(chan string, (p.cfg.Nodes+1)*len(live)) // room for all
	var asking sync.WaitGroup
	for i := range p.cfg.Nodes + 1 {
		id := nodeID(i)
		var names []string
		for _, l := range p.truth.at(id) {
			names = append(names, l.addr)
		}
		slices.Sort(names)
		list := placement.List(placement.ShardOf(string(id)))
		for _, l := range live {
			holds := slices.Contains(list, ring.MemberID(l.name))
			if holds {
				want[l.name] += len(names)
			}
			asking.Go(func() {
				if m := p.answerWrong(l, id, names, holds); m != "" {
					wrong <- m
				}
			})
		}
	}
	asking.Wait()
	select {
	case m := <-wrong:
		return m
	default:
	}
	for _, l := range live {
		if got := l.node.Status().Claims; got != want[l.name] {
			return fmt.Sprintf("%s has %d claims, want %d", l.name, got, want[l.name])
		}
	}
	return ""
}

// answerWrong asks one tracker for a node.
func (p *Pool) answerWrong(l *trackerLife, id node.ID, want []string, holds bool) string {
	key, err := node.ParseID(id)
	if err != nil {
		return err.Error()
	}
	c := p.readers[0].direct(l)
	ctx, cancel := context.WithTimeout(p.ctx, lookupTime)
	defer cancel()
	got, err := c.Find(ctx, key, 0)
	if err != nil {
		return fmt.Sprintf("%s does not answer: %v", l.name, err)
	}
	var names []string
	for _, c := range got.Claims {
		names = append(names, c.Proxy.Addr)
	}
	slices.Sort(names)
	switch {
	case !holds && got.Answer == node.Found:
		return fmt.Sprintf("%s holds no shard of %s and says FOUND %v", l.name, id, names)
	case holds && len(want) == 0 && got.Answer != node.Absent, holds && len(want) > 0 && (got.Answer != node.Found || !slices.Equal(names, want)):
		return fmt.Sprintf("%s says %v %v for %s, which is at %v", l.name, got.Answer, names, id, want)
	}
	return ""
}
