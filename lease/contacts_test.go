package lease

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestContactsKeepTheLatest(t *testing.T) {
	c := NewContacts(simTerm)
	tell := func(want ...Contact) {
		t.Helper()
		got := c.since(at(10*time.Second), 0)
		if diff := cmp.Diff(want, got, cmpopts.SortSlices(func(a, b Contact) bool { return a.Proxy < b.Proxy })); diff != "" {
			t.Errorf("contacts (-want +got):\n%s", diff)
		}
	}
	c.Heard(at(0), "p", life(1), false)
	tell(Contact{Proxy: "p", Incarnation: life(1), Age: 10 * time.Second})
	c.Heard(at(5*time.Second), "p", life(1), true)
	c.Heard(at(3*time.Second), "p", life(1), false)
	tell(Contact{Proxy: "p", Incarnation: life(1), Age: 5 * time.Second, Claims: true})
	c.Report(at(10*time.Second), Contact{Proxy: "p", Incarnation: life(1), Age: 2 * time.Second})
	tell(Contact{Proxy: "p", Incarnation: life(1), Age: 2 * time.Second, Claims: true})
	c.Report(at(10*time.Second), Contact{Proxy: "p", Incarnation: life(3), Age: 9 * time.Second})
	c.Heard(at(10*time.Second), "p", life(2), true)
	tell(Contact{Proxy: "p", Incarnation: life(3), Age: 9 * time.Second})
	c.Report(at(10*time.Second), Contact{Proxy: "p", Incarnation: life(3), Age: -time.Hour})
	tell(Contact{Proxy: "p", Incarnation: life(3)})
	c.End(at(0), "p", life(3))
	c.End(at(0), "p", life(2))
	c.Report(at(10*time.Second), Contact{Proxy: "q", Floor: life(9), FloorAge: time.Hour})
	tell(Contact{Proxy: "p", Incarnation: life(3), Floor: life(3), FloorAge: 10 * time.Second}, Contact{Proxy: "q", Floor: life(9), FloorAge: time.Hour})
	before := c.version
	c.Heard(at(9*time.Second), "p", life(3), false)
	c.End(at(20*time.Second), "q", life(9))
	if c.version != before || c.since(at(0), before) != nil {
		t.Error("what is no news counts as a change")
	}
}

func TestContactsStalledMarks(t *testing.T) {
	c := NewContacts(simTerm)
	c.Heard(at(0), "p", life(1), true)
	age := func(now time.Duration) time.Duration {
		for _, r := range c.since(at(now), 0) {
			if r.Proxy == "p" && r.Stalled {
				return r.StalledAge
			}
		}
		return -1
	}
	check := func(what string, got, want time.Duration) {
		t.Helper()
		if got != want {
			t.Errorf("%s: the mark's age is %v, want %v (-1ns: none)", what, got, want)
		}
	}
	check("none", age(0), -1)
	c.ReportStalled(at(1), proc("a"), []ProxyID{"p"})
	marks := c.marks
	c.ReportStalled(at(2), proc("b"), []ProxyID{"p"})
	check("two holders", age(11), 10)
	c.ReportStalled(at(3), proc("a"), nil)
	check("one of them no longer", age(11), 10)
	if c.marks != marks {
		t.Error("the mark counts as changed though one holder still says so")
	}
	end, ok := c.next()
	if want := at(2 + simTerm.Given()); !ok || !end.Equal(want) {
		t.Errorf("next = %v, %v, want when the other's report ends, %v", end, ok, want)
	}
	c.Advance(end.Add(-1))
	check("before the end", age(simTerm.Given()), simTerm.Given()-1)
	c.Advance(end)
	check("at the end", age(simTerm.Given()), -1)
	if _, ok := c.next(); ok || c.marks == marks || c.marked != 0 {
		t.Error("the mark ended, but that is no change, or another end is to come")
	}
	c.ReportStalled(at(simTerm.Given()+5), proc("a"), []ProxyID{"p"})
	check("a new mark", age(simTerm.Given()+6), 1)
}

func TestContactsForget(t *testing.T) {
	c := NewContacts(simTerm)
	c.Heard(at(0), "heard", life(1), true)
	c.End(at(0), "floor", life(1))
	c.ReportStalled(at(0), proc("a"), []ProxyID{"marked"})
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{simTerm.Forgotten(), 2}, {simTerm.Forgotten() + simTerm.Given() + 1, 1}, {FloorKept, 1}, {FloorKept + 1, 0}} {
		c.Advance(at(tt.after))
		if got := c.Len(); got != tt.want {
			t.Errorf("after %v %d are kept, want %d", tt.after, got, tt.want)
		}
	}
}

func TestIncarnations(t *testing.T) {
	ordered := []Incarnation{{}, {1, 0}, {1, 5}, Incarnation{1, 5}.Next(), {1, 1<<64 - 1}, Incarnation{1, 1<<64 - 1}.Next(), {2, 1}, {1 << 63, 0}}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := a.Less(b); got != (i < j) {
				t.Errorf("%v < %v = %v", a, b, got)
			}
		}
		if a.IsZero() != (i == 0) {
			t.Errorf("%v is zero: %v", a, a.IsZero())
		}
	}
}
