package trackerctl

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// memberList is the members of a pool, each with what it says of itself.
type memberList struct {
	Pool        string            `json:"pool"`
	View        string            `json:"view"`
	ViewSum     string            `json:"view_sum"`
	TermSeconds float64           `json:"term_seconds"`
	Shards      int               `json:"shards"`
	Replicas    int               `json:"replicas"`
	Algorithm   int               `json:"algorithm"`
	SeatSets    [][]ring.MemberID `json:"seat_sets"`
	Agree       bool              `json:"agree"`      // all that answered have this view
	SeatsAway   []ring.MemberID   `json:"seats_away"` // that the view does not have
	Members     []memberEntry     `json:"members"`
}

type memberEntry struct {
	ID             ring.MemberID `json:"id"`
	Addr           string        `json:"addr"`
	Zone           string        `json:"zone"`
	Boot           string        `json:"boot"`
	State          string        `json:"state"`
	Seat           bool          `json:"seat"`
	Granting       bool          `json:"granting"`
	SilenceSeconds float64       `json:"silence_seconds"` // until a seat grants
	Ready          bool          `json:"ready"`
	Why            string        `json:"why"` // it is not ready
	Agrees         bool          `json:"agrees"`
	View           string        `json:"view"`
	Held           int           `json:"shards_held"`
	InForce        int           `json:"shards_in_force"`
	Open           int           `json:"shards_open"`
	Claims         int           `json:"claims"`
	UnaryClaims    int           `json:"unary_claims"`
	Sessions       int           `json:"sessions"`
	Stalled        []string      `json:"stalled_proxies"` // that this seat marks
	UpSeconds      float64       `json:"up_seconds"`
	Version        string        `json:"version"`
	Error          string        `json:"error"` // it did not answer; the rest is as gossip shows it
}

func hex(n uint64) string { return fmt.Sprintf("%016x", n) }

func (f *fleet) members(ctx context.Context) (*memberList, error) {
	i := f.info
	l := &memberList{Pool: i.Pool.Name, ViewSum: hex(i.View.Sum()), TermSeconds: seconds(i.Pool.Term.Held()), Shards: i.Params.Shards,
		Replicas: i.Params.Replicas, Algorithm: int(i.Params.Algorithm), SeatSets: i.Pool.Seats, SeatsAway: []ring.MemberID{}, Agree: true, View: hex(0)}
	for _, id := range slices.Concat(i.Pool.Seats...) {
		if _, ok := i.View.Member(id); !ok && !slices.Contains(l.SeatsAway, id) {
			l.SeatsAway = append(l.SeatsAway, id)
		}
	}
	if f.placed != nil {
		l.View = f.placed.Fingerprint().String()
	}
	answers, err := reports(ctx, f)
	for _, a := range answers {
		e := f.memberEntry(a)
		l.Agree = l.Agree && (e.Error != "" || e.Agrees)
		l.Members = append(l.Members, e)
	}
	return l, err
}

func (f *fleet) memberEntry(a answer[node.Report]) memberEntry {
	m, r := a.from, a.value
	e := memberEntry{ID: m.ID, Addr: m.Addr, Zone: m.Zone, Boot: hex(m.Boot), State: m.State.String(), Seat: f.seat(m.ID),
		Error: fault(a.err), Stalled: []string{}}
	if a.err != nil {
		return e
	}
	for _, p := range r.Marked {
		e.Stalled = append(e.Stalled, string(p))
	}
	e.Granting, e.SilenceSeconds, e.Ready, e.Why = r.Granting, seconds(r.Silence), r.Ready, r.Why
	e.View, e.Agrees = r.Sums.Fingerprint.String(), r.Sums.Sum == f.info.View.Sum()
	e.Held, e.InForce, e.Open = r.Shards.Held, r.Shards.InForce, r.Shards.Open
	e.Claims, e.UnaryClaims, e.Sessions = r.Claims, r.UnaryClaims, r.Sessions
	e.UpSeconds, e.Version = seconds(r.Up), r.Version
	return e
}

// role is the seat's cell.
func (e *memberEntry) role() cell {
	switch {
	case !e.Seat:
		return toned(faint, "-")
	case e.Error != "":
		return toned(bad, "no answer")
	case e.Granting:
		return toned(good, "grants")
	case e.SilenceSeconds > 0:
		return toned(warning, "grants in "+brief(e.SilenceSeconds))
	}
	return toned(warning, "silent")
}

// openness is "open/held", which should be equal.
func openness(open, held int) cell {
	t := good
	if open < held {
		t = warning
	}
	return toned(t, fmt.Sprintf("%d/%d", open, held))
}

func (l *memberList) tables() []grid {
	head := grid{}
	head.add(plain(fmt.Sprintf("pool %s, view %s: %d shards, %d copies of each, term %s", l.Pool, l.View, l.Shards, l.Replicas, brief(l.TermSeconds))))
	for i, set := range l.SeatSets {
		head.add(plain(fmt.Sprintf("seats: %s%s", list(set), mark(len(l.SeatSets) > 1, fmt.Sprintf(" (set %d of %d)", i+1, len(l.SeatSets))))))
	}
	if len(l.SeatsAway) > 0 {
		head.add(toned(bad, "seats that are not there: "+list(l.SeatsAway)))
	}
	if !l.Agree {
		head.add(toned(warning, "trackers have different views: gossip is under way, or the network is split"))
	}
	g := grid{right: []int{6, 7, 8, 9, 10},
		header: []string{"tracker", "zone", "state", "seat", "ready", "view", "open", "claims", "unary", "sessions", "up", "addr"}}
	notes := grid{}
	for _, e := range l.Members {
		if e.Error != "" {
			g.addShort(plain(string(e.ID)), dash(e.Zone), plain(e.State), e.role(), toned(bad, "no answer"))
			notes.add(toned(bad, fmt.Sprintf("%s: %s", e.ID, e.Error)))
			continue
		}
		view := toned(good, "same")
		if !e.Agrees {
			view = toned(warning, e.View)
		}
		state := plain(e.State)
		if e.State != ring.Serving.String() {
			state.tone = warning
		}
		g.add(plain(string(e.ID)), dash(e.Zone), state, e.role(), yesNo(e.Ready), view, openness(e.Open, e.Held), number(e.Claims), number(e.UnaryClaims),
			number(e.Sessions), plain(brief(e.UpSeconds)), plain(e.Addr))
		if e.Why != "" {
			notes.add(toned(warning, fmt.Sprintf("%s: %s", e.ID, e.Why)))
		}
		if len(e.Stalled) > 0 {
			notes.add(toned(warning, fmt.Sprintf("%s marks proxies that do not confirm somewhere: %s", e.ID, list(e.Stalled))))
		}
	}
	return withNotes(notes, head, g)
}

// withNotes puts notes, if there are any, behind grids.
func withNotes(notes grid, grids ...grid) []grid {
	if len(notes.rows) > 0 {
		grids = append(grids, notes)
	}
	return grids
}

func dash(s string) cell {
	if s == "" {
		return toned(faint, "-")
	}
	return plain(s)
}

// onPool returns a command's RunE that writes what it makes of the pool.
func (a *app) onPool(make func(ctx context.Context, f *fleet, args []string) (document, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		f, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer f.close()
		d, err := make(cmd.Context(), f, args)
		if err != nil {
			return err
		}
		return a.write(d)
	}
}

func (a *app) membersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "List the trackers: state, seats, readiness, views, what they hold",
		Args:  cobra.NoArgs,
		RunE: a.onPool(func(ctx context.Context, f *fleet, _ []string) (document, error) {
			return f.members(ctx)
		}),
	}
}
