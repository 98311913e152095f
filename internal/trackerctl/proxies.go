package trackerctl

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// proxyList is the proxies that any tracker knows.
type proxyList struct {
	Proxies []proxyEntry  `json:"proxies"`
	Errors  []memberFault `json:"errors"` // trackers that did not answer
}

type memberFault struct {
	Tracker ring.MemberID `json:"tracker"`
	Error   string        `json:"error"`
}

type proxyEntry struct {
	ID           node.ProxyID    `json:"id"`
	Addr         string          `json:"addr"`
	Cluster      string          `json:"cluster"`
	Zone         string          `json:"zone"`
	Incarnation  uint64          `json:"incarnation"`
	Sessions     int             `json:"sessions"`      // at how many trackers
	Missing      []ring.MemberID `json:"missing"`       // serving trackers where it has none
	Copies       uint64          `json:"copies"`        // of its claims, at all trackers
	HeardSeconds float64         `json:"heard_seconds"` // since anybody last heard of it
	LeaseSeconds float64         `json:"lease_seconds"` // the shortest of those it has
	Stalled      bool            `json:"stalled"`
	WaitedBy     []ring.MemberID `json:"waited_by"` // trackers whose shards open only when it has confirmed
	Ended        bool            `json:"ended"`
	Restored     []ring.MemberID `json:"restored"` // trackers that have its claims from a snapshot alone
}

// pages reads all proxies of one tracker.
func pages(ctx context.Context, c *rpc.Client) ([]node.ProxyReport, error) {
	var all []node.ProxyReport
	for after := node.ProxyID(""); ; {
		page, more, err := c.Proxies(ctx, after, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if !more || len(page) == 0 {
			return all, nil
		}
		after = page[len(page)-1].Proxy.ID
	}
}

func (f *fleet) proxies(ctx context.Context) (*proxyList, error) {
	l := &proxyList{Proxies: []proxyEntry{}, Errors: []memberFault{}}
	all := map[node.ProxyID]*proxyEntry{}
	sessions := map[node.ProxyID]map[ring.MemberID]bool{}
	var answered []ring.MemberID
	answers, err := askAll(ctx, f, pages)
	for _, a := range answers {
		if a.err != nil {
			l.Errors = append(l.Errors, memberFault{a.from.ID, a.err.Error()})
			continue
		}
		if a.from.State == ring.Serving {
			answered = append(answered, a.from.ID)
		}
		for _, r := range a.value {
			e := all[r.Proxy.ID]
			if e == nil {
				e = &proxyEntry{ID: r.Proxy.ID, HeardSeconds: seconds(r.Heard), Ended: true,
					Missing: []ring.MemberID{}, WaitedBy: []ring.MemberID{}, Restored: []ring.MemberID{}}
				all[r.Proxy.ID], sessions[r.Proxy.ID] = e, map[ring.MemberID]bool{}
			}
			e.merge(a.from.ID, r)
			sessions[r.Proxy.ID][a.from.ID] = r.Session
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		e := all[id]
		for _, at := range answered {
			if !sessions[id][at] && !e.Ended {
				e.Missing = append(e.Missing, at)
			}
		}
		l.Proxies = append(l.Proxies, *e)
	}
	return l, err
}

func (e *proxyEntry) merge(at ring.MemberID, r node.ProxyReport) {
	if r.Proxy.Addr != "" && (e.Addr == "" || r.Incarnation.Number >= e.Incarnation) {
		e.Addr, e.Cluster, e.Zone = r.Proxy.Addr, r.Proxy.Cluster, r.Proxy.Zone
	}
	e.Incarnation = max(e.Incarnation, r.Incarnation.Number)
	e.Sessions += count(r.Session)
	e.Copies += r.Claims
	e.HeardSeconds = min(e.HeardSeconds, seconds(r.Heard))
	if s := seconds(r.Lease); s > 0 && (e.LeaseSeconds == 0 || s < e.LeaseSeconds) {
		e.LeaseSeconds = s
	}
	e.Stalled = e.Stalled || r.Stalled
	e.Ended = e.Ended && r.Ended
	if r.WaitedFor {
		e.WaitedBy = append(e.WaitedBy, at)
	}
	if r.Restored {
		e.Restored = append(e.Restored, at)
	}
}

// state is the proxy in a word or two.
func (e *proxyEntry) state() cell {
	switch {
	case e.Ended:
		return toned(faint, "ended")
	case e.Stalled:
		return toned(bad, "stalled")
	case e.Sessions == 0 && len(e.Restored) > 0:
		return toned(warning, "awaited")
	case e.Sessions == 0:
		return toned(warning, "gone")
	case len(e.Missing) > 0:
		return toned(warning, "not everywhere")
	}
	return toned(good, "connected")
}

func (l *proxyList) tables() []grid {
	g := grid{right: []int{3, 4, 5, 6},
		header: []string{"proxy", "state", "zone", "sessions", "copies", "lease", "heard", "incarnation", "addr", "no session at"}}
	for _, e := range l.Proxies {
		lease := plain(brief(e.LeaseSeconds))
		if e.LeaseSeconds == 0 {
			lease = toned(faint, "-")
		}
		g.add(plain(string(e.ID)), e.state(), dash(e.Zone), number(e.Sessions), plain(fmt.Sprint(e.Copies)), lease, plain(brief(e.HeardSeconds)),
			plain(fmt.Sprint(e.Incarnation)), dash(e.Addr), plain(list(e.Missing)))
	}
	return withNotes(faultNotes(l.Errors), g)
}

func faultNotes(faults []memberFault) grid {
	notes := grid{}
	for _, e := range faults {
		notes.add(toned(bad, fmt.Sprintf("%s: %s", e.Tracker, e.Error)))
	}
	return notes
}

func (a *app) proxiesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "proxies",
		Short: "List the proxies: sessions, copies of claims, leases, where one is missing",
		Args:  cobra.NoArgs,
		RunE: a.onPool(func(ctx context.Context, f *fleet, _ []string) (document, error) {
			return f.proxies(ctx)
		}),
	}
}

// A removal says that a proxy was removed.
type removal struct {
	Proxy  node.ProxyID `json:"proxy"`
	Number uint64       `json:"incarnation"` // up to which; 0 is the highest heard of
}

func (r *removal) tables() []grid {
	g := grid{}
	g.add(plain(fmt.Sprintf("proxy %s is removed: its claims are gone, and its process stops if it runs; start it anew, or leave it out", r.Proxy)))
	return []grid{g}
}

func (a *app) proxyCommand() *cobra.Command {
	var number uint64
	var force bool
	cmd := &cobra.Command{Use: "proxy", Short: "Act on one proxy"}
	remove := &cobra.Command{
		Use:   "remove PROXY",
		Short: "End a proxy's lives, and with them all its claims",
		Long: `End a proxy's lives, and with them all its claims, at every tracker. One that is
connected is removed only with --force: its process stops.`,
		Args: cobra.ExactArgs(1),
		RunE: a.onPool(func(ctx context.Context, f *fleet, args []string) (document, error) {
			id := node.ProxyID(args[0])
			if !force {
				l, err := f.proxies(ctx)
				if err != nil {
					return nil, err
				}
				i := slices.IndexFunc(l.Proxies, func(e proxyEntry) bool { return e.ID == id })
				switch {
				case i < 0 && len(l.Errors) == 0:
					return nil, fmt.Errorf("proxy %q: no tracker has heard of it: look at its name with trackerctl proxies, or give --force", id)
				case i >= 0 && l.Proxies[i].Sessions > 0:
					return nil, fmt.Errorf("proxy %q is connected to %d trackers, and its process would stop: give --force if it shall", id, l.Proxies[i].Sessions)
				}
			}
			ctx, cancel := context.WithTimeout(ctx, f.timeout)
			defer cancel()
			return &removal{Proxy: id, Number: number}, f.entry.RemoveProxy(ctx, id, number)
		}),
	}
	remove.Flags().Uint64Var(&number, "incarnation", 0, "up to the life of this `NUMBER`. Default: the highest heard of")
	remove.Flags().BoolVar(&force, "force", false, "also where it is connected, or nobody has heard of it")
	cmd.AddCommand(remove)
	return cmd
}
