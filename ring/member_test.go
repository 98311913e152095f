package ring

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewViewRefuses(t *testing.T) {
	long := MemberID(strings.Repeat("x", maxIDLen))
	for _, tt := range []struct {
		name string
		ids  []MemberID
		want string // in the error; "" for none
	}{
		{"none", nil, ""},
		{"longest", []MemberID{long, "a"}, ""},
		{"empty", []MemberID{"a", ""}, `member ID "" has 0 bytes`},
		{"overlong", []MemberID{"a", long + "x"}, "has 64 bytes: give it 1 to 63"},
		{"twice", []MemberID{"b", "a", "b"}, `member ID "b" is given twice`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := NewView(serving(tt.ids)...)
			if tt.want == "" {
				if err != nil || v.Len() != len(tt.ids) {
					t.Errorf("got %d members, error %v; want %d", v.Len(), err, len(tt.ids))
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestView(t *testing.T) {
	members := serving([]MemberID{"c", "a", "b"})
	members[0].State, members[1].State = Joining, Leaving
	v := mustView(t, members...)
	if diff := cmp.Diff([]Member{members[1], members[2], members[0]}, v.Members()); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if v.Placed() != 1 {
		t.Errorf("got %d placed, want 1", v.Placed())
	}
	if got, ok := v.Member("c"); !ok || got != members[0] {
		t.Errorf("Member(c): got %v, %v", got, ok)
	}
	for _, id := range []MemberID{"", "aa", "d"} {
		if got, ok := v.Member(id); ok || got != (Member{}) {
			t.Errorf("Member(%q): got %v, want none", id, got)
		}
	}
	members[1].Addr = "changed"
	if got, _ := v.Member("a"); got.Addr == "changed" {
		t.Error("the view changes with the slice it was made of")
	}
	if empty := mustView(t); empty.Sum() != (View{}).Sum() || empty.Placed() != 0 {
		t.Error("a view of no member differs from the zero View")
	}
}

// The sum covers every field and no order; two members do not exchange bytes.
func TestViewSum(t *testing.T) {
	base := serving([]MemberID{"a", "b"}, "z1", "z2")
	was := mustView(t, base...).Sum()
	if got := mustView(t, base[1], base[0]).Sum(); got != was {
		t.Errorf("the sum depends on order: %x, %x", was, got)
	}
	sums := map[uint64]string{was: "base"}
	for name, change := range map[string]func(*Member){
		"ID":        func(m *Member) { m.ID = "aa" },
		"Boot":      func(m *Member) { m.Boot++ },
		"Addr":      func(m *Member) { m.Addr += "1" },
		"Zone":      func(m *Member) { m.Zone += "1" },
		"shift":     func(m *Member) { m.Addr, m.Zone = m.Addr+m.Zone[:1], m.Zone[1:] },
		"State":     func(m *Member) { m.State = Leaving },
		"Algorithm": func(m *Member) { m.Algorithm++ },
		"Replicas":  func(m *Member) { m.Replicas.Add(3) },
	} {
		m := base[0]
		change(&m)
		sum := mustView(t, m, base[1]).Sum()
		if other, ok := sums[sum]; ok {
			t.Errorf("%s and %s have the same sum", name, other)
		}
		sums[sum] = name
	}
}

func TestReplicas(t *testing.T) {
	rs := ReplicasOf(3, 1, 15, 0, 16, -1)
	for r := -1; r <= 64; r++ {
		if want := r == 1 || r == 3 || r == 15; rs.Has(r) != want {
			t.Errorf("Has(%d): got %v, want %v", r, rs.Has(r), want)
		}
	}
	for _, tt := range []struct {
		set  Replicas
		want string
	}{{rs, "1,3,15"}, {0, "none"}, {1, "none"}, {ReplicasOf(2), "2"}} {
		if got := tt.set.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestStateString(t *testing.T) {
	got := fmt.Sprint(Joining, Serving, Leaving, State(9))
	if want := "joining serving leaving state(9)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParamsValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    Params
		want []string
	}{
		{"least", Params{1, 1, 1}, nil},
		{"most", Params{Algorithm, 65536, 15}, nil},
		{"zero", Params{}, []string{"algorithm 0", "shards 0", "replicas 0"}},
		{"above", Params{Algorithm + 1, 65537, 16}, []string{"algorithm 2", "shards 65537", "replicas 16"}},
		{"negative", Params{1, -1, -1}, []string{"shards -1", "replicas -1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.p.Validate()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestResolve(t *testing.T) {
	type given struct {
		id        MemberID
		state     State
		algorithm uint8
		replicas  Replicas
	}
	for _, tt := range []struct {
		name    string
		members []given
		shards  int
		want    Params
		errs    []string
	}{
		{"one", []given{{"a", Serving, 1, ReplicasOf(3)}}, 64, Params{1, 64, 3}, nil},
		{"smallest in common", []given{{"a", Serving, 1, ReplicasOf(3, 2)}, {"b", Serving, 1, ReplicasOf(1, 2, 3)}}, 64, Params{1, 64, 2}, nil},
		{"lowest algorithm", []given{{"a", Serving, 7, ReplicasOf(2)}, {"b", Serving, 1, ReplicasOf(2)}}, 64, Params{1, 64, 2}, nil},
		{"those not placed count too", []given{{"a", Serving, 9, ReplicasOf(2, 3)}, {"b", Joining, 1, ReplicasOf(3)}}, 64, Params{1, 64, 3}, nil},
		{"empty view", nil, 64, Params{}, []string{"view is empty"}},
		{"none in common", []given{{"a", Serving, 1, ReplicasOf(2)}, {"b", Leaving, 1, ReplicasOf(3)}, {"c", Serving, 1, ReplicasOf(2)}}, 64,
			Params{}, []string{"2: a, c; 3: b"}},
		{"bit 0 in common", []given{{"a", Serving, 1, 1}, {"b", Serving, 1, 1}}, 64, Params{}, []string{"none: a, b"}},
		{"newer than this code", []given{{"a", Serving, 9, ReplicasOf(2)}}, 64, Params{}, []string{"algorithm 9", `"a"`}},
		{"shards", []given{{"a", Serving, 1, ReplicasOf(2)}}, 0, Params{}, []string{"shards 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var members []Member
			for _, g := range tt.members {
				members = append(members, Member{ID: g.id, State: g.state, Algorithm: g.algorithm, Replicas: g.replicas})
			}
			got, err := Resolve(mustView(t, members...), tt.shards)
			if (err == nil) != (tt.errs == nil) || got != tt.want {
				t.Fatalf("got %+v, %v; want %+v, %q", got, err, tt.want, tt.errs)
			}
			for _, want := range tt.errs {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

// The error of a pool of many members is not a list of all of them.
func TestResolveNamesFew(t *testing.T) {
	members := serving(ordinals(1000))
	members[500].Replicas = ReplicasOf(3)
	_, err := Resolve(mustView(t, members...), 64)
	if err == nil || len(err.Error()) > 250 || !strings.Contains(err.Error(), "and 994 more") || !strings.Contains(err.Error(), "3: tracker-500") {
		t.Errorf("got %v", err)
	}
}
