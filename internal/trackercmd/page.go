package trackercmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/internal/buildinfo"
	"github.com/trackerpool/trackerpool/internal/webpage"
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// PagePath is where the admin server has the page for people.
const PagePath = "/page/"

const (
	pageProxies = 50 // that the page names
	pagesOfThem = 8  // of node.MaxProxies each, that are looked through for those
)

var errNotYet = errors.New("this tracker has not joined the pool yet: try again in a moment")

// source is what the page shows of this tracker.
func (r *runner) source() webpage.Source {
	return webpage.Source{Look: r.pageLook, Explain: r.pageExplain}
}

func (r *runner) pageLook() (webpage.State, *webpage.Placement) {
	ready, why := r.ready()
	s := webpage.State{
		ID: r.cfg.id, Pool: r.cfg.pool, Zone: r.cfg.zone, Version: buildinfo.Read().Line("tracker"), Ready: ready, Why: why,
		Members: []webpage.Member{}, Proxies: []webpage.Proxy{},
	}
	t := r.tracker.Load()
	if t == nil {
		return s, nil
	}
	ctx := context.Background() // the tracker itself is asked, which does not wait
	report, err := t.Report(ctx)
	if err != nil {
		s.Ready, s.Why = false, err.Error()
		return s, nil
	}
	s.View = fmt.Sprintf("%016x", uint64(report.View))
	s.Replicas = report.Params.Replicas
	s.Here = webpage.Here{
		Held: report.Shards.Held, InForce: report.Shards.InForce, Open: report.Shards.Open,
		Claims: report.Claims, UnaryClaims: report.UnaryClaims, Sessions: report.Sessions, Proxies: report.Status.Proxies,
		Stalled: report.Stalled, Seat: report.Seat, Granting: report.Granting, Silence: report.Silence.Seconds(),
	}
	s.Counts = webpage.Counts{
		Found: report.Lookups[node.Found], Absent: report.Lookups[node.Absent], Unknown: report.Lookups[node.Unknown],
		Ops: report.Changes, Differs: report.Differs, Refused: report.Refused,
	}
	s.Proxies, s.Total = pageOfProxies(ctx, t)
	p := t.Placement()
	if p == nil {
		return s, nil
	}
	s.Members = pageMembers(p, report)
	return s, pagePlacement(p, report)
}

func pageMembers(p *ring.Placement, report node.Report) []webpage.Member {
	members := []webpage.Member{}
	for _, m := range p.View().Members() {
		members = append(members, webpage.Member{
			ID: string(m.ID), State: m.State.String(), Zone: m.Zone, Addr: m.Addr, Held: p.Held(m.ID).Len(),
			Seat: slices.ContainsFunc(report.Seats, func(w lease.SeatWord) bool { return w.Seat.ID == m.ID }),
		})
	}
	return members
}

// pageOfProxies returns the proxies with most claims here, and how many there are.
func pageOfProxies(ctx context.Context, t *node.Tracker) (most []webpage.Proxy, total int) {
	most = []webpage.Proxy{}
	after := node.ProxyID("")
	for range pagesOfThem {
		page, more, err := t.Proxies(ctx, after, node.MaxProxies)
		if err != nil {
			break
		}
		for _, p := range page {
			after = p.Proxy.ID
			most = append(most, webpage.Proxy{ID: string(p.Proxy.ID), Addr: p.Proxy.Addr, Claims: int(p.Claims), Session: p.Session})
		}
		if !more {
			break
		}
	}
	total = len(most)
	slices.SortStableFunc(most, func(a, b webpage.Proxy) int { return cmp.Compare(b.Claims, a.Claims) })
	return most[:min(len(most), pageProxies)], total
}

func pagePlacement(p *ring.Placement, report node.Report) *webpage.Placement {
	shown := &webpage.Placement{View: fmt.Sprintf("%016x", uint64(p.Fingerprint()))}
	index := map[ring.MemberID]int{}
	for i, m := range p.View().Members() {
		index[m.ID] = i
		shown.IDs = append(shown.IDs, string(m.ID))
	}
	shards := p.Params().Shards
	for s := range shards {
		owner := -1
		if list := p.List(ring.Shard(s)); len(list) > 0 {
			owner = index[list[0]]
		}
		shown.Owners = append(shown.Owners, owner)
	}
	shown.Runs = webpage.Runs(shards, func(s int) int {
		switch shard := ring.Shard(s); {
		case report.Open.Has(shard):
			return webpage.Open
		case report.InForce.Has(shard):
			return webpage.InForce
		case report.Held.Has(shard):
			return webpage.Held
		}
		return webpage.Elsewhere
	})
	return shown
}

// pageExplain says step by step why a node is answered as it is.
func (r *runner) pageExplain(ctx context.Context, id node.ID) ([]string, error) {
	t := r.tracker.Load()
	if t == nil {
		return nil, errNotYet
	}
	e, err := t.Explain(ctx, id)
	if err != nil {
		return nil, err
	}
	steps := []string{
		fmt.Sprintf("The xxhash64 of %q is %016x.", id, e.Hash),
		fmt.Sprintf("Its first bits choose shard %d.", e.Shard),
		fmt.Sprintf("In view %016x that shard is held by %v, the owner first.", uint64(e.View.Fingerprint), e.List),
	}
	switch {
	case !slices.Contains(e.List, ring.MemberID(r.cfg.id)):
		steps = append(steps, fmt.Sprintf("Tracker %s is not among them: it asks those who are.", r.cfg.id))
	case e.Open:
		steps = append(steps, fmt.Sprintf("At tracker %s the shard is open: what is not here is ABSENT.", r.cfg.id))
	case e.InForce:
		steps = append(steps, fmt.Sprintf("At tracker %s the list is in force, and the shard not open: what is not here is UNKNOWN.", r.cfg.id))
	default:
		steps = append(steps, fmt.Sprintf("At tracker %s the list is not in force yet: what is not here is UNKNOWN.", r.cfg.id))
	}
	for _, h := range e.Holdups {
		steps = append(steps, fmt.Sprintf("It waits for %s %s: %s.", h.By, h.ID, h.Why))
	}
	for _, c := range e.Claims {
		step := fmt.Sprintf("Here is a claim of proxy %s at %s, %v old", c.Proxy.ID, c.Proxy.Addr, c.Age.Round(100*time.Millisecond))
		if c.Why != "" {
			step += ": " + c.Why
		}
		steps = append(steps, step+".")
	}
	answer, claims, err := t.GetProxies(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("look up node %q in the pool: %w", id, err)
	}
	step := fmt.Sprintf("The pool answers %v", answer)
	for i, c := range claims {
		step += map[bool]string{true: ": ", false: ", "}[i == 0] + string(c.Proxy.ID) + " at " + c.Proxy.Addr
	}
	return append(steps, step+"."), nil
}
