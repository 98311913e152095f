package trackercmd_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/trackerpool/trackerpool/node"
)

// A fleet is the trackers of a pool, by ID, of which each may be started anew.
type fleet struct {
	t    *testing.T
	all  map[string]*process
	args []string // of each, besides its own
}

// startFleet starts the trackers of a new pool, each with the arguments.
func startFleet(t *testing.T, ids []string, args ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, all: map[string]*process{}, args: args}
	for _, id := range ids {
		f.start(id, "--new-pool")
	}
	for _, p := range f.all {
		p.ready()
		p.metric("tracker_members", strconv.Itoa(len(ids)))
	}
	f.open()
	return f
}

// start starts a tracker that joins those that run.
func (f *fleet) start(id string, more ...string) {
	f.t.Helper()
	args := flags(id, slices.Concat(f.args, more)...)
	for _, other := range f.ids() {
		args = append(args, "--join", f.all[other].addr("gossip_addr"))
	}
	f.all[id] = start(f.t, args...)
	f.all[id].addr("gossip_addr")
}

func (f *fleet) ids() []string {
	var ids []string
	for id := range f.all {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (f *fleet) addrs() []string {
	var addrs []string
	for _, p := range f.all {
		addrs = append(addrs, p.addr("listen_addr"))
	}
	return addrs
}

// roll restarts all trackers with other arguments, one by one, each after the one
// before is ready: then it grants again, if it is a seat. The seats come last, as
// in Kubernetes: one that was given a new set grants nothing to a tracker that was not.
func (f *fleet) roll(args ...string) {
	f.t.Helper()
	f.args = args
	for _, id := range slices.Backward(f.ids()) {
		p := f.all[id]
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			f.t.Fatalf("tracker %s: exit code %d after SIGTERM, want 0", id, code)
		}
		delete(f.all, id)
		f.start(id)
		f.all[id].ready()
		for _, q := range f.all {
			q.metric("tracker_members", strconv.Itoa(len(f.all)))
		}
	}
}

// open waits until all shards of all trackers are open.
func (f *fleet) open() {
	f.t.Helper()
	for id, p := range f.all {
		eventually(f.t, func() error {
			held, open := held(f.t, p), value(f.t, p, `tracker_shards{state="open"}`)
			if held == "0" || held != open {
				return fmt.Errorf("tracker %s: %s of %s shards are open", id, open, held)
			}
			return nil
		})
	}
}

// copies waits until there are so many of each node that is registered throughout,
// and none of any other.
func (f *fleet) copies(l *traffic, replicas int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	if err := l.steady.Settled(ctx); err != nil {
		f.t.Fatal(err)
	}
	eventually(f.t, func() error {
		n := 0
		for _, p := range f.all {
			here, err := strconv.ParseFloat(value(f.t, p, `tracker_claims{kind="session"}`), 64)
			if err != nil {
				f.t.Fatal(err)
			}
			n += int(here)
		}
		if want := replicas * lasting; n != want {
			return fmt.Errorf("%d copies of %d claims, want %d", n, lasting, want)
		}
		return nil
	})
	if answer, _, err := l.reader.Lookup(ctx, "nobody"); answer != node.Absent {
		f.t.Errorf("a node that is nowhere is %v, %v", answer, err)
	}
}

// Seats are changed in two rolling restarts, under load: first all trackers have
// both sets, then the new one alone.
func TestChangeOfSeats(t *testing.T) {
	slow(t)
	t.Parallel()
	const three, five = "t-0,t-1,t-2", "t-0,t-1,t-2,t-3,t-4"
	term := []string{"--term", "1s", "--seats"}
	f := startFleet(t, []string{"t-0", "t-1", "t-2", "t-3", "t-4"}, append(term, three)...)
	l := startTraffic(t, f.addrs()...)
	f.roll(append(term, three, "--seats", five)...)
	f.open()
	f.roll(append(term, five)...)
	f.open()
	l.end()
	f.copies(l, 2)
	for id, p := range f.all {
		if got := value(t, p, "tracker_seat_granting"); got != "1" {
			t.Errorf("tracker %s: tracker_seat_granting is %s", id, got)
		}
	}
}

// R is changed in two rolling restarts, under load: first all trackers have both
// numbers, of which the smaller is in use, then the new one alone.
func TestChangeOfReplicas(t *testing.T) {
	slow(t)
	t.Parallel()
	common := []string{"--term", "1s", "--seats", threeSeats}
	f := startFleet(t, []string{"t-0", "t-1", "t-2", "t-3"}, append(common, "--replicas", "2")...)
	l := startTraffic(t, f.addrs()...)
	f.roll(append(common, "--replicas", "2", "--replicas", "3")...)
	f.open()
	f.roll(append(common, "--replicas", "3")...)
	f.open()
	l.end()
	f.copies(l, 3)
}

func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("restarts real processes many times")
	}
}
