package trackerctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// An explanation is every holder's answer for a node, side by side.
type explanation struct {
	location
	Answer   string          `json:"answer"` // that these answers make together
	Trackers []explainHolder `json:"trackers"`
	Differ   []string        `json:"differ"` // in what they disagree, and with whom
}

type explainHolder struct {
	Tracker ring.MemberID   `json:"tracker"`
	Holder  bool            `json:"holder"` // of the list; others are here only if they have claims
	View    string          `json:"view"`
	List    []ring.MemberID `json:"list"` // of that view
	InForce bool            `json:"in_force"`
	Open    bool            `json:"open"`
	Answer  string          `json:"answer"`
	Claims  []explainClaim  `json:"claims"`
	Holdups []holdup        `json:"holdups"`
	Error   string          `json:"error"`
}

type explainClaim struct {
	lookupClaim
	Incarnation uint64  `json:"incarnation"` // 0 for a unary claim
	Unary       bool    `json:"unary"`
	Covered     bool    `json:"covered"`
	LeftSeconds float64 `json:"left_seconds"` // until it is no longer covered
	Session     bool    `json:"session"`
	Counted     bool    `json:"counted"`
	Why         string  `json:"why"` // it is not covered or not counted
}

func (f *fleet) explain(ctx context.Context, id node.ID) (*explanation, error) {
	p, err := f.placement()
	if err != nil {
		return nil, err
	}
	l, err := locate(p, id)
	if err != nil {
		return nil, err
	}
	answers, err := askAll(ctx, f, func(ctx context.Context, c *rpc.Client) (node.Explanation, error) { return c.Explain(ctx, id) })
	if err != nil {
		return nil, err
	}
	return compareAnswers(p, l, answers), nil
}

// compareAnswers puts answers side by side: the list's holders first, in its order.
func compareAnswers(p *ring.Placement, l *location, answers []answer[node.Explanation]) *explanation {
	e := &explanation{location: *l, Trackers: []explainHolder{}, Differ: []string{}}
	q := node.QuestionOf(p, l.Shard)
	place := func(id ring.MemberID) int {
		if i := slices.Index(q.List, id); i >= 0 {
			return i
		}
		return len(q.List)
	}
	slices.SortStableFunc(answers, func(a, b answer[node.Explanation]) int { return cmp.Compare(place(a.from.ID), place(b.from.ID)) })
	var replies []node.Reply
	for _, a := range answers {
		h := holderOf(a)
		h.Holder = place(a.from.ID) < len(q.List)
		if !h.Holder && len(h.Claims) == 0 {
			continue
		}
		e.Trackers = append(e.Trackers, h)
		r := node.Reply{From: a.from.ID, Err: a.err, Result: node.FindResult{Answer: a.value.Answer, View: a.value.View.Fingerprint}}
		if slices.Equal(a.value.List, q.List) {
			r.Result.ListSum = q.ListSum
		}
		replies = append(replies, r)
	}
	merged, _, _ := q.Merge(replies)
	e.Answer = merged.String()
	e.Differ = append(e.Differ, e.disagreements()...)
	return e
}

func holderOf(a answer[node.Explanation]) explainHolder {
	v := a.value
	h := explainHolder{Tracker: a.from.ID, Error: fault(a.err), List: []ring.MemberID{}, Claims: []explainClaim{}, Holdups: []holdup{}}
	if a.err != nil {
		return h
	}
	h.View, h.List, h.InForce, h.Open, h.Answer = v.View.Fingerprint.String(), append(h.List, v.List...), v.InForce, v.Open, v.Answer.String()
	for _, c := range v.Claims {
		h.Claims = append(h.Claims, explainClaim{
			lookupClaim: lookupClaim{c.Proxy.ID, c.Proxy.Addr, c.Proxy.Cluster, c.Proxy.Zone, c.Generation, seconds(c.Age)},
			Incarnation: c.Incarnation.Number, Unary: c.Unary, Covered: c.Covered, LeftSeconds: seconds(c.Left),
			Session: c.Session, Counted: c.Counted, Why: c.Why,
		})
	}
	for _, u := range v.Holdups {
		h.Holdups = append(h.Holdups, holdup{At: a.from.ID, By: u.By.String(), ID: u.ID, Why: u.Why, Shards: 1, First: []ring.Shard{v.Shard}})
	}
	return h
}

// disagreements says in what holders differ from the first of them that answered, and
// from the list.
func (e *explanation) disagreements() []string {
	var differ []string
	say := func(format string, args ...any) { differ = append(differ, fmt.Sprintf(format, args...)) }
	var want []ring.MemberID
	for _, m := range e.location.List {
		want = append(want, m.ID)
	}
	var first *explainHolder
	for i := range e.Trackers {
		h := &e.Trackers[i]
		switch {
		case h.Error != "":
			say("%s did not answer: %s", h.Tracker, h.Error)
			continue
		case h.View != e.View:
			say("%s has view %s, not %s", h.Tracker, h.View, e.View)
		}
		if !slices.Equal(h.List, want) {
			say("%s has the list %s", h.Tracker, list(h.List))
		}
		if !h.Holder {
			say("%s holds no copy by this view, and still has %d claims", h.Tracker, len(h.Claims))
			continue
		}
		if !h.Open {
			say("%s may not say ABSENT: the shard is %s there", h.Tracker, map[bool]string{true: "in force, but not open", false: "not in force"}[h.InForce])
		}
		if first == nil {
			first = h
			continue
		}
		if h.Answer != first.Answer {
			say("%s says %s, %s says %s", first.Tracker, first.Answer, h.Tracker, h.Answer)
		}
		for _, c := range first.Claims {
			if !h.has(c) {
				say("%s has a claim of %s (generation %d) that %s has not", first.Tracker, c.Proxy, c.Generation, h.Tracker)
			}
		}
		for _, c := range h.Claims {
			if !first.has(c) {
				say("%s has a claim of %s (generation %d) that %s has not", h.Tracker, c.Proxy, c.Generation, first.Tracker)
			}
		}
	}
	return differ
}

func (h *explainHolder) has(c explainClaim) bool {
	return slices.ContainsFunc(h.Claims, func(o explainClaim) bool {
		return o.Proxy == c.Proxy && o.Incarnation == c.Incarnation && o.Generation == c.Generation && o.Unary == c.Unary
	})
}

func (e *explanation) tables() []grid {
	head := e.location.tables()[0]
	head.rows[0] = []cell{plain(fmt.Sprintf("node %s: xxhash64 %s, modulo %d is shard %d; view %s", e.Node, e.Hash, e.Shards, e.Shard, e.View))}
	head.add(plain("together the holders say"), answerCell(e.Answer))
	g := grid{right: []int{10, 11}, header: []string{"tracker", "holder", "view", "in force", "open", "says",
		"proxy", "incarnation", "covered", "counted", "generation", "connected for", "because"}}
	for _, h := range e.Trackers {
		if h.Error != "" {
			g.addShort(plain(string(h.Tracker)), yesNo(h.Holder), toned(bad, "no answer"))
			continue
		}
		view := toned(good, "same")
		if h.View != e.View {
			view = toned(warning, h.View)
		}
		who := []cell{plain(string(h.Tracker)), yesNo(h.Holder), view, yesNo(h.InForce), yesNo(h.Open), answerCell(h.Answer)}
		if len(h.Claims) == 0 {
			g.addShort(append(who, plain("none"))...)
		}
		for i, c := range h.Claims {
			if i > 0 {
				who = []cell{plain(""), plain(""), plain(""), plain(""), plain(""), plain("")}
			}
			covered, life := yesNo(c.Covered), fmt.Sprint(c.Incarnation)
			if c.Covered {
				covered.text += ", " + brief(c.LeftSeconds)
			}
			if c.Unary {
				life = "AddNode"
			}
			g.add(append(who, plain(string(c.Proxy)), plain(life), covered, yesNo(c.Counted),
				plain(fmt.Sprint(c.Generation)), plain(brief(c.AgeSeconds)), plain(c.Why))...)
		}
	}
	notes := grid{}
	for _, d := range e.Differ {
		notes.add(toned(warning, d))
	}
	for _, h := range e.Trackers {
		for _, u := range h.Holdups {
			notes.add(plain(fmt.Sprintf("%s waits for %s %s: %s", u.At, u.By, u.ID, u.Why)))
		}
	}
	if len(notes.rows) == 0 {
		notes.add(toned(good, "all holders agree"))
	}
	return []grid{head, g, notes}
}

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain NODE",
		Short: "Put every holder's answer for a node side by side, and say which disagree",
		Args:  cobra.ExactArgs(1),
		RunE: a.onPool(func(ctx context.Context, f *fleet, args []string) (document, error) {
			return f.explain(ctx, node.ID(args[0]))
		}),
	}
}
