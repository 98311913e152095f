package trackerctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/ring"
)

// maxAdded is how many trackers whatif adds at most: it places shards for each.
const maxAdded = 1000

// A forecast is what a change of the trackers would cost.
type forecast struct {
	View     string          `json:"view"`
	After    string          `json:"after"`
	Added    []ring.MemberID `json:"added"`
	Removed  []ring.MemberID `json:"removed"`
	Copies   int             `json:"copies"` // that move, a shard at a holder
	Total    int             `json:"total"`
	Fraction float64         `json:"fraction"`
	Claims   int             `json:"claims"`  // about as many are sent again; -1 where nobody was asked
	AllNew   int             `json:"all_new"` // shards of which no holder stays
	Before   float64         `json:"balance_before"`
	Later    float64         `json:"balance_after"`
	Trackers []forecastEntry `json:"trackers"`
	Warnings []string        `json:"warnings"`
}

type forecastEntry struct {
	ID     ring.MemberID `json:"id"`
	Zone   string        `json:"zone"`
	Before int           `json:"before"`
	After  int           `json:"after"`
	Gained int           `json:"gained"`
	Lost   int           `json:"lost"`
}

// A change is who comes and who goes.
type change struct {
	add    int
	zones  []string // of those that come, in turn
	remove []string
}

// foresee computes what a change costs. Seats that are not known are not warned of.
func foresee(p *ring.Placement, c change, seats [][]ring.MemberID) (*forecast, error) {
	if c.add < 0 || c.add > maxAdded {
		return nil, fmt.Errorf("--add %d: give 0 to %d", c.add, maxAdded)
	}
	members := slices.Clone(p.View().Members())
	f := &forecast{View: p.Fingerprint().String(), Added: []ring.MemberID{}, Removed: []ring.MemberID{}, Warnings: []string{}, Claims: -1}
	for _, id := range c.remove {
		i := slices.IndexFunc(members, func(m ring.Member) bool { return string(m.ID) == id })
		if i < 0 {
			return nil, fmt.Errorf("--remove %q: no tracker of the view has that ID", id)
		}
		f.Removed = append(f.Removed, members[i].ID)
		members = slices.Delete(members, i, i+1)
	}
	for i := range c.add {
		m := ring.Member{ID: nextID(p.View(), members), Zone: emptiest(members), State: ring.Serving,
			Algorithm: p.Params().Algorithm, Replicas: ring.ReplicasOf(p.Params().Replicas)}
		if len(c.zones) > 0 {
			m.Zone = c.zones[i%len(c.zones)]
		}
		members = append(members, m)
		f.Added = append(f.Added, m.ID)
	}
	v, err := ring.NewView(members...)
	if err != nil {
		return nil, err
	}
	q, err := ring.Place(v, p.Params())
	if err != nil {
		return nil, fmt.Errorf("after the change: %w", err)
	}
	moves, err := ring.Compare(p, q)
	if err != nil {
		return nil, err
	}
	f.After, f.Copies, f.Total, f.Fraction = q.Fingerprint().String(), moves.Copies, moves.Total, math.Round(moves.Fraction()*1e6)/1e6
	f.Before, f.Later = p.Balance(), q.Balance()
	for sh := range p.Params().Shards {
		f.AllNew += count(!slices.ContainsFunc(q.List(ring.Shard(sh)), func(id ring.MemberID) bool {
			return slices.Contains(p.List(ring.Shard(sh)), id)
		}))
	}
	for _, m := range bothViews(p.View(), v) {
		f.Trackers = append(f.Trackers, forecastEntry{m.ID, m.Zone, p.Held(m.ID).Len(), q.Held(m.ID).Len(), moves.Gained[m.ID], moves.Lost[m.ID]})
	}
	f.warn(q, seats)
	return f, nil
}

func (f *forecast) warn(q *ring.Placement, seats [][]ring.MemberID) {
	if n := q.View().Placed(); n < q.Params().Replicas {
		f.Warnings = append(f.Warnings, fmt.Sprintf("%d trackers are fewer than the %d copies that were asked for", n, q.Params().Replicas))
	}
	if n := q.Params().Replicas; len(f.Removed) >= n && f.AllNew > 0 {
		f.Warnings = append(f.Warnings, fmt.Sprintf(
			"no holder of %d shards stays: take fewer than %d trackers at a time, and wait until each has drained", f.AllNew, n))
	}
	for _, set := range seats {
		gone := slices.DeleteFunc(slices.Clone(set), func(id ring.MemberID) bool { return !slices.Contains(f.Removed, id) })
		switch {
		case 2*(len(set)-len(gone)) <= len(set) && len(gone) > 0:
			f.Warnings = append(f.Warnings, fmt.Sprintf(
				"without %s too few of the seats %s are left: nothing would be ABSENT, and nothing counted; change the seats first", list(gone), list(set)))
		case len(gone) > 0:
			f.Warnings = append(f.Warnings, fmt.Sprintf("%s is a seat: change the seats first if it goes for good", list(gone)))
		}
	}
}

// nextID continues the numbers of the trackers' names, as a StatefulSet does.
func nextID(v ring.View, members []ring.Member) ring.MemberID {
	prefix := "new-"
	if ms := v.Members(); len(ms) > 0 {
		if i := strings.LastIndexFunc(string(ms[0].ID), func(r rune) bool { return r < '0' || r > '9' }); i >= 0 && i+1 < len(ms[0].ID) {
			prefix = string(ms[0].ID[:i+1])
		}
	}
	for n := 0; ; n++ {
		id := ring.MemberID(fmt.Sprint(prefix, n))
		if _, was := v.Member(id); !was && !slices.ContainsFunc(members, func(m ring.Member) bool { return m.ID == id }) {
			return id
		}
	}
}

// emptiest is the zone with the fewest trackers.
func emptiest(members []ring.Member) string {
	n := map[string]int{}
	for _, m := range members {
		n[m.Zone]++
	}
	var zones []string
	for z := range n {
		zones = append(zones, z)
	}
	if zones == nil {
		return ""
	}
	return slices.MinFunc(zones, func(a, b string) int { return cmp.Or(cmp.Compare(n[a], n[b]), cmp.Compare(a, b)) })
}

func bothViews(v, w ring.View) []ring.Member {
	all := slices.Concat(v.Members(), w.Members())
	slices.SortStableFunc(all, func(a, b ring.Member) int { return cmp.Compare(a.ID, b.ID) })
	return slices.CompactFunc(all, func(a, b ring.Member) bool { return a.ID == b.ID })
}

func (f *forecast) tables() []grid {
	head := grid{}
	text := fmt.Sprintf("%d of %d copies would move, %s", f.Copies, f.Total, percent(f.Fraction))
	if f.Claims >= 0 {
		text += fmt.Sprintf(": proxies would send some %d claims again", f.Claims)
	}
	head.add(plain(text))
	head.add(plain(fmt.Sprintf("shards of which no holder stays: %d; the fullest tracker would have %.2f times the mean, now %.2f",
		f.AllNew, f.Later, f.Before)))
	g := grid{header: []string{"tracker", "zone", "before", "after", "gains", "loses", ""}, right: []int{2, 3, 4, 5}}
	for _, e := range f.Trackers {
		note := plain("")
		switch {
		case slices.Contains(f.Added, e.ID):
			note = toned(good, "added")
		case slices.Contains(f.Removed, e.ID):
			note = toned(warning, "removed")
		}
		g.add(plain(string(e.ID)), dash(e.Zone), number(e.Before), number(e.After), number(e.Gained), number(e.Lost), note)
	}
	notes := grid{}
	for _, w := range f.Warnings {
		notes.add(toned(warning, w))
	}
	return withNotes(notes, head, g)
}

func (a *app) whatIfCommand() *cobra.Command {
	var c change
	var off offline
	cmd := &cobra.Command{
		Use:   "whatif",
		Short: "Compute what would move if trackers came or went",
		Long: `Compute what would move if trackers came or went. Nothing is changed. With --members
no tracker is asked, and claims are not estimated.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.add == 0 && len(c.remove) == 0 {
				return errors.New("whatif: give --add, --remove, or both")
			}
			f, err := a.foresee(cmd.Context(), c, &off)
			if err != nil {
				return err
			}
			return a.write(f)
		},
	}
	cmd.Flags().IntVar(&c.add, "add", 0, "so many trackers come")
	cmd.Flags().StringSliceVar(&c.zones, "zones", nil, "`ZONE` of each that comes, in turn. Default: always the one with the fewest trackers")
	cmd.Flags().StringSliceVar(&c.remove, "remove", nil, "the tracker of this `ID` goes; may be repeated")
	off.register(cmd)
	return cmd
}

func (a *app) foresee(ctx context.Context, c change, off *offline) (*forecast, error) {
	if len(off.members) > 0 {
		p, err := off.place()
		if err != nil {
			return nil, err
		}
		return foresee(p, c, nil)
	}
	fl, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer fl.close()
	p, err := fl.placement()
	if err != nil {
		return nil, err
	}
	f, err := foresee(p, c, fl.info.Pool.Seats)
	if err != nil {
		return nil, err
	}
	f.Claims = 0
	answers, err := reports(ctx, fl)
	if err != nil {
		return nil, err
	}
	for _, r := range answers {
		if r.err != nil {
			f.Claims = -1
			f.Warnings = append(f.Warnings, fmt.Sprintf("claims are not estimated: %s did not answer: %v", r.from.ID, r.err))
			return f, nil
		}
		f.Claims += r.value.Claims
	}
	f.Claims = int(math.Round(float64(f.Claims) * f.Fraction))
	return f, nil
}
