package trackerctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A location is where a node belongs, by the members alone.
type location struct {
	Node   node.ID      `json:"node"`
	Hash   string       `json:"hash"`
	Shard  ring.Shard   `json:"shard"`
	Shards int          `json:"shards"`
	View   string       `json:"view"`
	List   []listMember `json:"list"` // the owner first
}

type listMember struct {
	ID   ring.MemberID `json:"id"`
	Addr string        `json:"addr"`
	Zone string        `json:"zone"`
}

func locate(p *ring.Placement, id node.ID) (*location, error) {
	if _, err := node.ParseID(id); err != nil {
		return nil, err
	}
	h := ring.Hash(string(id))
	l := &location{Node: id, Hash: hex(h), Shard: ring.ShardOf(h, p.Params().Shards), Shards: p.Params().Shards, View: p.Fingerprint().String()}
	for _, holder := range p.List(l.Shard) {
		m, _ := p.View().Member(holder)
		l.List = append(l.List, listMember{m.ID, m.Addr, m.Zone})
	}
	return l, nil
}

func (l *location) tables() []grid {
	head := grid{}
	head.add(plain(fmt.Sprintf("node %s: xxhash64 %s, modulo %d is shard %d; in view %s it is held by", l.Node, l.Hash, l.Shards, l.Shard, l.View)))
	g := grid{header: []string{"", "tracker", "zone", "addr"}}
	for i, m := range l.List {
		g.add(plain(mark(i == 0, "owner")), plain(string(m.ID)), dash(m.Zone), dash(m.Addr))
	}
	return []grid{head, g}
}

func (a *app) locateCommand() *cobra.Command {
	var off offline
	cmd := &cobra.Command{
		Use:   "locate NODE",
		Short: "Compute which trackers hold a node: hash, shard, list",
		Long: `Compute which trackers hold a node: hash, shard, list. Nothing but the members is
asked for; with --members no tracker is asked at all.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.placement(cmd.Context(), &off)
			if err != nil {
				return err
			}
			l, err := locate(p, node.ID(args[0]))
			if err != nil {
				return err
			}
			return a.write(l)
		},
	}
	off.register(cmd)
	return cmd
}

// A lookupResult is what any client would be told.
type lookupResult struct {
	Node    node.ID       `json:"node"`
	Answer  string        `json:"answer"`
	Claims  []lookupClaim `json:"claims"` // hints, where the answer is UNKNOWN
	Asked   string        `json:"asked"`
	Seconds float64       `json:"seconds"`
}

type lookupClaim struct {
	Proxy      node.ProxyID `json:"proxy"`
	Addr       string       `json:"addr"`
	Cluster    string       `json:"cluster"`
	Zone       string       `json:"zone"`
	Generation uint64       `json:"generation"`
	AgeSeconds float64      `json:"age_seconds"`
}

func answerCell(answer string) cell {
	switch answer {
	case node.Found.String():
		return toned(good, answer)
	case node.Unknown.String():
		return toned(warning, answer)
	}
	return plain(answer)
}

func (r *lookupResult) tables() []grid {
	head := grid{}
	head.add(plain(fmt.Sprintf("node %s:", r.Node)), answerCell(r.Answer), toned(faint, fmt.Sprintf("(asked %s, %.1f ms)", r.Asked, 1000*r.Seconds)))
	if len(r.Claims) == 0 {
		return []grid{head}
	}
	g := grid{header: []string{"proxy", "addr", "zone", "cluster", "generation", "connected for"}, right: []int{4, 5}}
	if r.Answer == node.Unknown.String() {
		g.title = "what was seen, and nobody can vouch for now:"
	}
	for _, c := range r.Claims {
		g.add(plain(string(c.Proxy)), plain(c.Addr), dash(c.Zone), dash(c.Cluster), plain(fmt.Sprint(c.Generation)), plain(brief(c.AgeSeconds)))
	}
	return []grid{head, g}
}

func (a *app) lookupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lookup NODE",
		Short: "Look a node up, as any client would",
		Args:  cobra.ExactArgs(1),
		RunE: a.onPool(func(ctx context.Context, f *fleet, args []string) (document, error) {
			ctx, cancel := context.WithTimeout(ctx, f.timeout)
			defer cancel()
			began := time.Now()
			answer, claims, err := f.entry.GetProxies(ctx, node.ID(args[0]))
			if err != nil {
				return nil, err
			}
			took := time.Since(began).Seconds()
			r := &lookupResult{Node: node.ID(args[0]), Answer: answer.String(), Claims: []lookupClaim{}, Asked: f.entry.Addr(), Seconds: took}
			for _, c := range claims {
				r.Claims = append(r.Claims, lookupClaim{c.Proxy.ID, c.Proxy.Addr, c.Proxy.Cluster, c.Proxy.Zone, c.Generation, seconds(c.Age)})
			}
			return r, nil
		}),
	}
}
