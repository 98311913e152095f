package trackerctl

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

func place(t *testing.T, members ...string) *ring.Placement {
	t.Helper()
	p, err := (&offline{members: members, shards: 64, replicas: 2}).place()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What holders say differently is told, and what they say together is what a reader
// would be told.
func TestCompareAnswers(t *testing.T) {
	p, other := place(t, "t-0", "t-1", "t-2"), place(t, "t-0", "t-1")
	l, err := locate(p, "n-1")
	if err != nil {
		t.Fatal(err)
	}
	owner, second := l.List[0].ID, l.List[1].ID
	var third ring.MemberID
	for _, m := range p.View().Members() {
		if m.ID != owner && m.ID != second {
			third = m.ID
		}
	}
	claim := func(proxy node.ProxyID, generation uint64, covered bool) node.ExplainedClaim {
		return node.ExplainedClaim{Claim: node.Claim{Node: "n-1", Proxy: node.Proxy{ID: proxy}, Generation: generation},
			Incarnation: lease.Incarnation{Number: 5, Random: 1}, Covered: covered, Counted: covered, Left: 4 * time.Second}
	}
	said := func(id ring.MemberID, at *ring.Placement, open bool, a node.Answer, claims ...node.ExplainedClaim) answer[node.Explanation] {
		return answer[node.Explanation]{from: ring.Member{ID: id}, value: node.Explanation{Self: lease.Process{ID: id}, Shard: l.Shard,
			View: node.ViewSums{Fingerprint: at.Fingerprint()}, List: at.List(l.Shard), InForce: open, Open: open, Answer: a, Claims: claims}}
	}
	o, s, x := string(owner), string(second), string(third)
	for _, test := range []struct {
		name    string
		answers []answer[node.Explanation]
		want    string
		differ  []string
	}{
		{"agreed", []answer[node.Explanation]{said(second, p, true, node.Found, claim("p", 1, true)), said(third, p, false, node.Unknown), said(owner, p, true, node.Found, claim("p", 1, true))},
			"FOUND", nil},
		{"absent", []answer[node.Explanation]{said(owner, p, true, node.Absent), said(second, p, true, node.Absent)}, "ABSENT", nil},
		{"one is not open", []answer[node.Explanation]{said(owner, p, true, node.Absent), said(second, p, false, node.Unknown)}, "UNKNOWN",
			[]string{s + " may not say ABSENT: the shard is not in force there", o + " says ABSENT, " + s + " says UNKNOWN"}},
		{"one lacks the claim", []answer[node.Explanation]{said(owner, p, true, node.Found, claim("p", 2, true)), said(second, p, true, node.Absent)}, "FOUND",
			[]string{o + " says FOUND, " + s + " says ABSENT", o + " has a claim of p (generation 2) that " + s + " has not"}},
		{"another generation", []answer[node.Explanation]{said(owner, p, true, node.Found, claim("p", 2, true)), said(second, p, true, node.Found, claim("p", 3, true))}, "FOUND",
			[]string{o + " has a claim of p (generation 2) that " + s + " has not", s + " has a claim of p (generation 3) that " + o + " has not"}},
		{"another view", []answer[node.Explanation]{said(owner, p, true, node.Absent), said(second, other, true, node.Absent)}, "UNKNOWN",
			[]string{s + " has view " + other.Fingerprint().String() + ", not " + p.Fingerprint().String(), s + " has the list " + list(other.List(l.Shard))}},
		{"a former holder", []answer[node.Explanation]{said(owner, p, true, node.Absent), said(second, p, true, node.Absent), said(third, p, false, node.Found, claim("p", 1, true))}, "FOUND",
			[]string{x + " holds no copy by this view, and still has 1 claims"}},
		{"no answer", []answer[node.Explanation]{said(owner, p, true, node.Absent), {from: ring.Member{ID: second}, err: errors.New("gone")}}, "UNKNOWN",
			[]string{s + " did not answer: gone"}},
	} {
		e := compareAnswers(p, l, test.answers)
		if e.Answer != test.want {
			t.Errorf("%s: %s, want %s", test.name, e.Answer, test.want)
		}
		if diff := cmp.Diff(append([]string{}, test.differ...), e.Differ); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if e.Trackers[0].Tracker != owner {
			t.Errorf("%s: %s is first, want the owner", test.name, e.Trackers[0].Tracker)
		}
	}
}

func TestForesee(t *testing.T) {
	p := place(t, "t-0=a", "t-1=b", "t-2=a")
	seats := [][]ring.MemberID{{"t-0", "t-1", "t-2"}}
	for _, test := range []struct {
		name     string
		change   change
		added    []ring.MemberID
		zone     string // of the first that is added
		warnings []string
	}{
		{"one joins", change{add: 1}, []ring.MemberID{"t-3"}, "b", nil},
		{"two join in zones of their own", change{add: 2, zones: []string{"c"}}, []ring.MemberID{"t-3", "t-4"}, "c", nil},
		{"a seat goes", change{remove: []string{"t-1"}}, []ring.MemberID{}, "", []string{"t-1 is a seat"}},
		{"most seats go", change{remove: []string{"t-1", "t-2"}}, []ring.MemberID{}, "",
			[]string{"1 trackers are fewer than the 2 copies", "no holder of", "too few of the seats"}},
	} {
		f, err := foresee(p, test.change, seats)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(test.added, f.Added); diff != "" {
			t.Errorf("%s: added (-want +got):\n%s", test.name, diff)
		}
		gained, lost, before, after := 0, 0, 0, 0
		for _, e := range f.Trackers {
			gained, lost, before, after = gained+e.Gained, lost+e.Lost, before+e.Before, after+e.After
			if len(f.Added) > 0 && e.ID == f.Added[0] && e.Zone != test.zone {
				t.Errorf("%s: %s comes in zone %q, want %q", test.name, e.ID, e.Zone, test.zone)
			}
			if e.After != e.Before+e.Gained-e.Lost {
				t.Errorf("%s: %+v", test.name, e)
			}
		}
		if gained != f.Copies || before != 128 || after != f.Total || gained == 0 && len(test.change.remove) < 2 {
			t.Errorf("%s: gained %d, lost %d, %d before, %d after: %+v", test.name, gained, lost, before, after, f)
		}
		if len(f.Warnings) != len(test.warnings) {
			t.Errorf("%s: warnings %q, want %q", test.name, f.Warnings, test.warnings)
			continue
		}
		for i, w := range test.warnings {
			if !strings.Contains(f.Warnings[i], w) {
				t.Errorf("%s: warning %q, want %q", test.name, f.Warnings[i], w)
			}
		}
	}
	if _, err := foresee(p, change{remove: []string{"t-0", "t-1", "t-2"}}, seats); err == nil {
		t.Error("all can go")
	}
}

// Colours are for terminals, and what a proxy calls itself does not steer one.
func TestRender(t *testing.T) {
	g := grid{header: []string{"proxy", "copies"}, right: []int{1}}
	g.add(toned(bad, "p\x1b[2J-1"), number(7))
	g.add(toned(faint, ""), number(1000))
	for _, test := range []struct {
		colours bool
		want    string
	}{
		{false, "PROXY    COPIES\np\uFFFD[2J-1       7\n           1000\n"},
		{true, "PROXY    COPIES\n\x1b[31mp\uFFFD[2J-1\x1b[0m       7\n           1000\n"},
	} {
		var b strings.Builder
		g.render(&b, test.colours)
		if diff := cmp.Diff(test.want, b.String()); diff != "" {
			t.Errorf("colours %v (-want +got):\n%s", test.colours, diff)
		}
	}
}

// On a terminal a drain's progress is written over; else each change has its line.
func TestProgress(t *testing.T) {
	for live, want := range map[bool]string{
		false: "2 left\n1 left\n",
		true:  "\r\x1b[K2 left\r\x1b[K2 left\r\x1b[K1 left\r\x1b[K",
	} {
		var b strings.Builder
		p := &progress{w: &b, live: live}
		for _, s := range []string{"2 left", "2 left", "1 left"} {
			p.tell(s)
		}
		p.done()
		if b.String() != want {
			t.Errorf("live %v: %q, want %q", live, b.String(), want)
		}
	}
}
