package trackerctl

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// ringState is who holds what, and what may be said of it.
type ringState struct {
	View     string       `json:"view"`
	Shards   int          `json:"shards"`
	Replicas int          `json:"replicas"`
	Balance  float64      `json:"balance"`  // copies of the fullest tracker over the mean
	InForce  int          `json:"in_force"` // shards whose list is in force at every holder
	Open     int          `json:"open"`     // shards open at every holder: misses are ABSENT
	OneZone  int          `json:"one_zone"` // shards whose copies are all in one zone
	Trackers []ringEntry  `json:"trackers"`
	Zones    []zoneEntry  `json:"zones"`
	Holdups  []holdup     `json:"holdups"`
	Lists    []shardEntry `json:"lists,omitempty"` // with --shard, --lists or --closed
	listed   bool
}

type ringEntry struct {
	ID      ring.MemberID `json:"id"`
	Zone    string        `json:"zone"`
	Owned   int           `json:"owned"` // first of the list
	Held    int           `json:"held"`
	InForce int           `json:"in_force"`
	Open    int           `json:"open"`
	Share   float64       `json:"share"` // held over the mean
	Error   string        `json:"error"`
}

type zoneEntry struct {
	Zone     string `json:"zone"`
	Trackers int    `json:"trackers"`
	Copies   int    `json:"copies"`
}

// A holdup is who keeps shards from opening at one tracker.
type holdup struct {
	At     ring.MemberID `json:"at"`
	By     string        `json:"by"` // seat, proxy or tracker
	ID     string        `json:"id"`
	Why    string        `json:"why"`
	Shards int           `json:"shards"`
	First  []ring.Shard  `json:"first"` // of these, at most 8
}

type shardEntry struct {
	Shard   ring.Shard      `json:"shard"`
	List    []ring.MemberID `json:"list"`
	InForce []ring.MemberID `json:"in_force"` // holders at which it is
	Open    []ring.MemberID `json:"open"`
}

func (f *fleet) ringState(ctx context.Context) (*ringState, error) {
	p, err := f.placement()
	if err != nil {
		return nil, err
	}
	s := &ringState{View: p.Fingerprint().String(), Shards: p.Params().Shards, Replicas: p.Params().Replicas,
		Balance: p.Balance(), Zones: zonesOf(p), Holdups: []holdup{}}
	said := map[ring.MemberID]node.Report{}
	owned := map[ring.MemberID]int{}
	for sh := range s.Shards {
		owned[p.List(ring.Shard(sh))[0]]++
	}
	mean := float64(s.Shards*len(p.List(0))) / float64(p.View().Placed())
	answers, err := reports(ctx, f)
	if err != nil {
		return nil, err
	}
	for _, a := range answers {
		r := a.value
		e := ringEntry{ID: a.from.ID, Zone: a.from.Zone, Owned: owned[a.from.ID], Held: p.Held(a.from.ID).Len(), Error: fault(a.err)}
		e.Share = float64(e.Held) / mean
		if a.err == nil {
			said[a.from.ID] = r
			e.InForce, e.Open = r.InForce.Len(), r.Open.Len()
			s.Holdups = append(s.Holdups, holdupsOf(r)...)
		}
		s.Trackers = append(s.Trackers, e)
	}
	zone := map[ring.MemberID]string{}
	for _, m := range p.View().Members() {
		zone[m.ID] = m.Zone
	}
	for sh := range s.Shards {
		e := shardEntry{Shard: ring.Shard(sh), List: p.List(ring.Shard(sh)), InForce: []ring.MemberID{}, Open: []ring.MemberID{}}
		one := len(e.List) > 1
		for _, id := range e.List {
			one = one && zone[id] == zone[e.List[0]]
			if r, ok := said[id]; ok && r.InForce.Has(e.Shard) {
				e.InForce = append(e.InForce, id)
			}
			if r, ok := said[id]; ok && r.Open.Has(e.Shard) {
				e.Open = append(e.Open, id)
			}
		}
		s.InForce += count(len(e.InForce) == len(e.List))
		s.Open += count(len(e.Open) == len(e.List))
		s.OneZone += count(one)
		s.Lists = append(s.Lists, e)
	}
	return s, nil
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func zonesOf(p *ring.Placement) []zoneEntry {
	zones := map[string]zoneEntry{}
	for _, m := range p.View().Members() {
		if m.State == ring.Serving {
			z := zones[m.Zone]
			zones[m.Zone] = zoneEntry{m.Zone, z.Trackers + 1, z.Copies + p.Held(m.ID).Len()}
		}
	}
	return slices.SortedFunc(maps.Values(zones), func(a, b zoneEntry) int { return cmp.Compare(a.Zone, b.Zone) })
}

func holdupsOf(r node.Report) []holdup {
	const most = 8
	var held []holdup
	for _, h := range r.Holdups {
		e := holdup{At: r.Self.ID, By: h.By.String(), ID: h.ID, Why: h.Why, Shards: h.Shards.Len()}
		for sh := range h.Shards.All() {
			if len(e.First) == most {
				break
			}
			e.First = append(e.First, sh)
		}
		held = append(held, e)
	}
	if r.More > 0 {
		held = append(held, holdup{At: r.Self.ID, By: "more", ID: fmt.Sprint(r.More), Why: "are not named", First: []ring.Shard{}})
	}
	return held
}

func (s *ringState) tables() []grid {
	head := grid{}
	head.add(plain(fmt.Sprintf("view %s: %d shards, %d copies of each; the fullest tracker has %.2f times the mean",
		s.View, s.Shards, s.Replicas, s.Balance)))
	state := toned(good, fmt.Sprintf("in force at every holder: %d of %d shards; open: %d", s.InForce, s.Shards, s.Open))
	if s.Open < s.Shards {
		state.tone = warning
	}
	head.add(state)
	if s.OneZone > 0 && len(s.Zones) > 1 {
		head.add(toned(warning, fmt.Sprintf("%d shards have all copies in one zone", s.OneZone)))
	}
	g := grid{header: []string{"tracker", "zone", "owned", "held", "share", "in force", "open"}, right: []int{2, 3, 4, 5, 6}}
	for _, e := range s.Trackers {
		force, open := openness(e.InForce, e.Held), openness(e.Open, e.Held)
		if e.Error != "" {
			force, open = toned(bad, "no answer"), plain("-")
		}
		g.add(plain(string(e.ID)), dash(e.Zone), number(e.Owned), number(e.Held), plain(fmt.Sprintf("%.2f", e.Share)), force, open)
	}
	grids := []grid{head, g}
	if len(s.Zones) > 1 {
		z := grid{header: []string{"zone", "trackers", "copies"}, right: []int{1, 2}}
		for _, e := range s.Zones {
			z.add(dash(e.Zone), number(e.Trackers), number(e.Copies))
		}
		grids = append(grids, z)
	}
	if len(s.Holdups) > 0 {
		h := grid{title: "what keeps shards from opening:", header: []string{"at", "waits for", "why", "shards"}, right: []int{3}}
		for _, e := range s.Holdups {
			h.add(plain(string(e.At)), toned(warning, e.By+" "+e.ID), plain(e.Why), number(e.Shards))
		}
		grids = append(grids, h)
	}
	if s.listed {
		l := grid{header: []string{"shard", "list", "in force at", "open at"}, right: []int{0}}
		for _, e := range s.Lists {
			l.add(number(int(e.Shard)), plain(list(e.List)), plain(list(e.InForce)), plain(list(e.Open)))
		}
		grids = append(grids, l)
	}
	return grids
}

func (a *app) ringCommand() *cobra.Command {
	var shard int
	var lists, closed bool
	cmd := &cobra.Command{
		Use:   "ring",
		Short: "Show shards, holders, zones, balance, and who keeps a shard from opening",
		Args:  cobra.NoArgs,
		RunE: a.onPool(func(ctx context.Context, f *fleet, _ []string) (document, error) {
			s, err := f.ringState(ctx)
			if err != nil {
				return nil, err
			}
			if shard >= s.Shards {
				return nil, fmt.Errorf("--shard %d: the pool has shards 0 to %d", shard, s.Shards-1)
			}
			s.listed = lists || closed || shard >= 0
			s.Lists = slices.DeleteFunc(s.Lists, func(e shardEntry) bool {
				return !s.listed || shard >= 0 && int(e.Shard) != shard || closed && len(e.Open) == len(e.List)
			})
			return s, nil
		}),
	}
	cmd.Flags().IntVar(&shard, "shard", -1, "list this shard")
	cmd.Flags().BoolVar(&lists, "lists", false, "list all shards")
	cmd.Flags().BoolVar(&closed, "closed", false, "list the shards that are not open at every holder")
	return cmd
}
