package lease

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/trackerpool/trackerpool/ring"
)

// TestStories tells what happens to a pool, step by step, in the simulation without
// chance faults. -rewrite writes the files anew. The steps:
//
//	pool 3 seats=3 replicas=2 late=1    a pool of 3 trackers, and one that starts later; 16 shards, one proxy
//	add 8                               the proxy adds claims
//	remove                              it removes all of them
//	crash t-1, start t-1, leave t-1, freeze t-1 15s
//	flap t-1                            all seats lose t-1 from their views, and have it back at once
//	unreachable t-1                     the proxy reaches t-1 no more
//	kill, goodbye, revive               the proxy ends; starts again
//	advance 10s
//
// Then it prints the shards of each tracker that are held, in force and open, and
// what readers are told of the claims.
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) < 5 {
		t.Fatalf("%d stories, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			var s story
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				for line := range strings.Lines(d.FullCmd() + "\n" + d.Input) {
					if f := strings.Fields(line); len(f) > 0 {
						if err := s.do(f); err != nil {
							d.Fatalf(t, "%s: %v", line, err)
						}
					}
				}
				return s.show()
			})
		})
	}
}

// story is a simulation that is led by hand.
type story struct{ *sim }

func (s *story) do(f []string) error {
	arg := strings.Join(f[1:], " ")
	switch f[0] {
	case "pool":
		return s.pool(f[1:])
	case "advance":
		d, err := time.ParseDuration(arg)
		s.until(s.now + d)
		return err
	case "add":
		n, err := strconv.Atoi(arg)
		for range n {
			s.proxies[0].add()
		}
		return err
	case "remove":
		for p := s.proxies[0]; len(p.claims) > 0; {
			p.remove(p.claims[0])
		}
	case "kill":
		s.proxies[0].stop()
	case "goodbye":
		s.goodbye(s.proxies[0])
	case "revive":
		s.startProxy(0, s.proxies[0].incarnation)
	default:
		return s.toTracker(f)
	}
	return nil
}

func (s *story) pool(args []string) error {
	c := simConfig{Seats: 3, Replicas: 2, Shards: 16, Proxies: 1, Faults: 1}
	for i, a := range args {
		if i == 0 {
			a = "trackers=" + a
		}
		name, value, _ := strings.Cut(a, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			return err
		}
		field, ok := map[string]*int{"trackers": &c.Trackers, "seats": &c.Seats, "replicas": &c.Replicas, "late": &c.Late}[name]
		if !ok {
			return fmt.Errorf("a pool has no %s", name)
		}
		*field = n
	}
	c.Trackers += c.Late
	s.sim = newSim(c, newPlaces(), nil)
	s.calm = true
	return nil
}

// toTracker does something to the tracker that the first argument names.
func (s *story) toTracker(f []string) error {
	if len(f) < 2 {
		return fmt.Errorf("say which tracker")
	}
	i, err := strconv.Atoi(strings.TrimPrefix(f[1], "t-"))
	if err != nil || i < 0 || i >= len(s.trackers) {
		return fmt.Errorf("there is no tracker %s", f[1])
	}
	t := s.trackers[i]
	switch f[0] {
	case "start":
		s.joinNow(i)
	case "crash":
		s.crash(t)
	case "leave":
		t.state = ring.Leaving
		t.adopt()
	case "freeze":
		d, err := time.ParseDuration(f[2])
		if err != nil {
			return err
		}
		t.frozen, t.downAt = s.now+d, s.now
	case "flap":
		for _, seat := range s.trackers[:s.cfg.Seats] {
			seat.in[i] = false
			seat.adopt()
			s.at(s.now+time.Millisecond, &seat.process, func() {
				seat.in[i] = true
				seat.adopt()
			})
		}
	case "unreachable":
		s.cfg.DeadLink, s.dead = true, [2]int{s.proxies[0].link, i}
		s.severAll(func(st *stream) bool { return st.a == &s.proxies[0].process && st.b == &t.process })
	default:
		return fmt.Errorf("no such step")
	}
	return nil
}

func (s *story) show() string {
	var b strings.Builder
	fmt.Fprintf(&b, "after %v\n", s.now)
	for i, t := range s.trackers {
		if t == nil || !t.up {
			fmt.Fprintf(&b, "t-%d: down\n", i)
			continue
		}
		held, force, open := t.l.Snapshot().Tally(t.now())
		fmt.Fprintf(&b, "t-%d: %d held, %d in force, %d open", i, held, force, open)
		if t.frozen > s.now {
			b.WriteString(", frozen")
		}
		b.WriteByte('\n')
	}
	told := map[byte]int{}
	counted := 0
	for _, n := range s.nodes {
		told[s.ask(n)]++
		if p := n.proxy; p.up && !n.removing && n.goneAt == 0 && n.promised(p.now()) {
			counted++
		}
	}
	if len(s.nodes) > 0 {
		fmt.Fprintf(&b, "claims: %d FOUND, %d UNKNOWN, %d ABSENT; %d count\n", told['F'], told['?'], told['N'], counted)
	}
	return b.String()
}

// ask asks all holders of the list that the first running tracker's view has.
func (s *story) ask(n *simNode) byte {
	for _, t := range s.trackers {
		if t == nil || !t.up || t.frozen > s.now || t.placed == nil {
			continue
		}
		answers := map[byte]bool{}
		for _, id := range t.placed.List(n.shard) {
			a := byte('?')
			if h := s.tracker(id); h != nil && h.up && h.frozen <= s.now {
				a = h.answer(n, t.placed.ListSum(n.shard))
			}
			answers[a] = true
		}
		for _, a := range []byte("F?N") {
			if answers[a] {
				return a
			}
		}
	}
	return '?'
}
