package directorytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/node"
)

// A Writer is a Directory that makes claims for one proxy. Several Writers may share
// a Directory.
type Writer struct {
	node.Directory
	Proxy node.Proxy
}

// patience is how long an answer may lag behind a write: a client's cache is up to a
// second behind, and what is not counted at once is soon.
const patience = 10 * time.Second

// Run checks a Directory. open returns Writers for so many proxies, all of one pool that
// is open and holds no claim, and has all of it end with the test. Every Writer must see
// what the others write.
func Run(t *testing.T, open func(t *testing.T, proxies int) []Writer) {
	for _, tt := range []struct {
		name    string
		proxies int
		test    func(*suite)
	}{
		{"AddLookupRemove", 1, (*suite).addLookupRemove},
		{"Absent", 1, (*suite).absent},
		{"Renewal", 1, (*suite).renewal},
		{"SeveralProxies", 3, (*suite).severalProxies},
		{"RemoveByAnother", 2, (*suite).removeByAnother},
		{"IDs", 1, (*suite).ids},
		{"Many", 1, (*suite).many},
		{"None", 1, (*suite).none},
		{"Invalid", 1, (*suite).invalid},
		{"Cancelled", 1, (*suite).cancelled},
		{"Concurrent", 2, (*suite).concurrent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			writers := open(t, tt.proxies)
			if len(writers) != tt.proxies {
				t.Fatalf("open gave %d writers, want %d", len(writers), tt.proxies)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			tt.test(&suite{t, ctx, writers})
		})
	}
}

// A suite is one test's view of the directory.
type suite struct {
	*testing.T
	ctx     context.Context
	writers []Writer
}

const uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

// claim is writer w's claim of a node.
func (s *suite) claim(w int, id node.ID) node.Claim {
	return node.Claim{Node: id, Proxy: s.writers[w].Proxy}
}

// add makes claims. What is stored and not counted yet is good enough.
func (s *suite) add(w int, claims ...node.Claim) {
	s.Helper()
	if err := s.writers[w].Add(s.ctx, claims...); err != nil && !errors.Is(err, node.ErrNotCounted) {
		s.Fatalf("add %d claims: %v", len(claims), err)
	}
}

func (s *suite) remove(w int, ids ...node.ID) {
	s.Helper()
	if err := s.writers[w].Remove(s.ctx, s.writers[w].Proxy.ID, ids...); err != nil && !errors.Is(err, node.ErrNotRemoved) {
		s.Fatalf("remove %d nodes: %v", len(ids), err)
	}
}

// expect waits until every writer's Directory answers with the proxies of the given
// writers, in that order: with none ABSENT, else FOUND.
func (s *suite) expect(id node.ID, writers ...int) {
	s.Helper()
	for w := range s.writers {
		s.expectAt(w, id, writers...)
	}
}

func (s *suite) expectAt(at int, id node.ID, writers ...int) {
	s.Helper()
	answer := node.Absent
	var want []node.Proxy
	for _, w := range writers {
		answer = node.Found
		want = append(want, s.writers[w].Proxy)
	}
	s.await(id, func() string {
		a, claims, err := s.writers[at].Lookup(s.ctx, id)
		if err != nil {
			return fmt.Sprintf("error %v", err)
		}
		var got []node.Proxy
		for _, c := range claims {
			if c.Node != id {
				s.Fatalf("lookup of %q gave a claim of %q", id, c.Node)
			}
			got = append(got, c.Proxy)
		}
		if a != answer || !slices.Equal(got, want) {
			return fmt.Sprintf("%v (-want %v +got):\n%s", a, answer, cmp.Diff(want, got))
		}
		return ""
	})
}

// await waits until nothing is wrong.
func (s *suite) await(id node.ID, wrong func() string) {
	s.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		what := wrong()
		if what == "" {
			return
		}
		if time.Now().After(end) {
			s.Fatalf("lookup of %q, after %v: %s", id, patience, what)
		}
	}
}

func (s *suite) addLookupRemove() {
	s.expect(uuid)
	s.add(0, s.claim(0, uuid))
	s.expect(uuid, 0)
	s.remove(0, uuid)
	s.expect(uuid)
	s.remove(0, uuid) // what is not there is no error
	s.add(0, s.claim(0, uuid))
	s.expect(uuid, 0)
}

// absent: a node that nobody claims is ABSENT, without claims and without an error.
func (s *suite) absent() {
	s.add(0, s.claim(0, "there"))
	s.expect("there", 0)
	s.expect("not there")
}

// renewal: adding again is no error, and changes what was said.
func (s *suite) renewal() {
	c := s.claim(0, uuid)
	for g := range uint64(3) {
		c.Generation, c.Age = g, time.Duration(g+1)*time.Hour
		s.add(0, c)
		s.await(uuid, func() string {
			a, claims, err := s.writers[0].Lookup(s.ctx, uuid)
			if err != nil || a != node.Found || len(claims) != 1 || claims[0].Generation != g {
				return fmt.Sprintf("%v %+v, %v; want generation %d", a, claims, err, g)
			}
			if late := claims[0].Age - c.Age; late < -time.Second || late > patience+time.Second {
				return fmt.Sprintf("age %v, want %v and a little", claims[0].Age, c.Age)
			}
			return ""
		})
	}
}

// severalProxies: of a node's proxies the one with the higher generation comes first,
// then the one with the younger connection.
func (s *suite) severalProxies() {
	for i, tt := range []struct {
		generations [3]uint64
		ages        [3]time.Duration
		want        []int
	}{
		{[3]uint64{1, 3, 2}, [3]time.Duration{0, time.Hour, 0}, []int{1, 2, 0}},
		{[3]uint64{0, 0, 0}, [3]time.Duration{time.Hour, time.Minute, 3 * time.Hour}, []int{1, 0, 2}},
		{[3]uint64{1 << 40, 7, 1 << 40}, [3]time.Duration{time.Hour, 0, time.Minute}, []int{2, 0, 1}},
	} {
		id := node.ID(fmt.Sprintf("several-%d", i))
		for w := range s.writers {
			c := s.claim(w, id)
			c.Generation, c.Age = tt.generations[w], tt.ages[w]
			s.add(w, c)
		}
		s.expect(id, tt.want...)
		s.remove(tt.want[0], id)
		s.expect(id, tt.want[1:]...)
	}
}

// removeByAnother: the proxy that a node left does not remove its new route.
func (s *suite) removeByAnother() {
	s.add(0, s.claim(0, uuid))
	s.expect(uuid, 0)
	s.remove(1, uuid)
	s.expect(uuid, 0)
	c := s.claim(1, uuid)
	c.Generation = 1
	s.add(1, c)
	s.expect(uuid, 1, 0)
	s.remove(0, uuid)
	s.expect(uuid, 1)
	s.remove(0, uuid)
	s.expect(uuid, 1)
}

// ids: IDs are opaque, and no two are taken for one.
func (s *suite) ids() {
	ids := []node.ID{
		"a", "A", " ", "\x00", "a\x00", "é", "e\u0301", "節点",
		uuid, node.ID(strings.ToUpper(uuid)), uuid + "0", node.ID(uuid[1:]), "{" + uuid + "}",
		"00000000-0000-0000-0000-000000000000", "6ba7b8109dad11d180b400c04fd430c8",
		"fifteen-bytes--", "sixteen-bytes---", "seventeen-bytes--",
		node.ID(strings.Repeat("x", node.MaxIDBytes-1)), node.ID(strings.Repeat("x", node.MaxIDBytes)),
		node.ID(strings.Repeat("é", node.MaxIDBytes/2)),
	}
	for i, id := range ids {
		s.expect(id)
		c := s.claim(0, id)
		c.Generation = uint64(i)
		s.add(0, c)
	}
	for i, id := range ids {
		s.await(id, func() string {
			a, claims, err := s.writers[0].Lookup(s.ctx, id)
			if err != nil || a != node.Found || len(claims) != 1 || claims[0].Node != id || claims[0].Generation != uint64(i) {
				return fmt.Sprintf("%v %+v, %v; want generation %d", a, claims, err, i)
			}
			return ""
		})
	}
	s.remove(0, ids[1:]...)
	s.expect(ids[0], 0)
	for _, id := range ids[1:] {
		s.expect(id)
	}
}

// many: one call may carry more than one message does.
func (s *suite) many() {
	const n = 2500
	var claims []node.Claim
	var ids []node.ID
	for i := range n {
		ids = append(ids, node.ID(fmt.Sprintf("many-%04d", i)))
		claims = append(claims, s.claim(0, ids[i]))
	}
	s.add(0, claims...)
	for i := 0; i < n; i += 100 {
		s.expect(ids[i], 0)
	}
	s.remove(0, ids[1:]...)
	s.expect(ids[0], 0)
	for i := 100; i < n; i += 100 {
		s.expect(ids[i])
	}
}

// none: calls about nothing do nothing.
func (s *suite) none() {
	if err := s.writers[0].Add(s.ctx); err != nil {
		s.Errorf("add of nothing: %v", err)
	}
	if err := s.writers[0].Remove(s.ctx, s.writers[0].Proxy.ID); err != nil {
		s.Errorf("remove of nothing: %v", err)
	}
}

// invalid: an argument that is not valid is refused by the name of its field, and the
// call does nothing.
func (s *suite) invalid() {
	w := s.writers[0]
	s.add(0, s.claim(0, "a"))
	bad := map[string]node.ID{"empty": "", "too long": node.ID(strings.Repeat("x", node.MaxIDBytes+1)), "no UTF-8": "\xff", "cut off": "\xc3"}
	check := func(name, field string, err error) {
		s.Helper()
		var invalid *node.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != field || invalid.Problem == "" {
			s.Errorf("%s: got error %v, want an InvalidError for %s", name, err, field)
		}
	}
	for name, id := range bad {
		check("add "+name, "node_id", w.Add(s.ctx, s.claim(0, id)))
		check("remove "+name, "node_id", w.Remove(s.ctx, w.Proxy.ID, id))
		a, claims, err := w.Lookup(s.ctx, id)
		check("lookup "+name, "node_id", err)
		if a != node.Unknown || claims != nil {
			s.Errorf("lookup %s: %v %v", name, a, claims)
		}
		if id != "" { // an empty one may mean the writer's own
			check("remove from a proxy "+name, "proxy_id", w.Remove(s.ctx, node.ProxyID(id), "a"))
		}
	}
	s.expect("a", 0)
}

// cancelled: a call whose context has ended returns at once, and says truly how far it
// got.
func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	w := s.writers[0]
	s.add(0, s.claim(0, "before"))
	began := time.Now()
	if a, claims, err := w.Lookup(ctx, "nowhere"); !errors.Is(err, context.Canceled) || a != node.Unknown || claims != nil {
		s.Errorf("lookup: %v %v, %v; want %v", a, claims, err, context.Canceled)
	}
	if err := w.Add(ctx, s.claim(0, "a")); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, node.ErrNotCounted) {
		s.Errorf("add: %v", err)
	} else if err == nil || errors.Is(err, node.ErrNotCounted) {
		s.expect("a", 0)
	}
	if err := w.Remove(ctx, w.Proxy.ID, "before"); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, node.ErrNotRemoved) {
		s.Errorf("remove: %v", err)
	} else if err == nil || errors.Is(err, node.ErrNotRemoved) {
		s.expect("before")
	}
	if d := time.Since(began); d > patience {
		s.Errorf("it took %v", d)
	}
}

// concurrent: calls from many goroutines at once each do what they say.
func (s *suite) concurrent() {
	const goroutines, rounds = 8, 20
	var wg sync.WaitGroup
	for g := range goroutines {
		w := g % len(s.writers)
		id := node.ID(fmt.Sprintf("concurrent-%d", g))
		wg.Go(func() {
			for range rounds {
				if err := s.writers[w].Add(s.ctx, s.claim(w, id), s.claim(w, "shared")); err != nil && !errors.Is(err, node.ErrNotCounted) {
					s.Errorf("add: %v", err)
				}
				if _, _, err := s.writers[w].Lookup(s.ctx, id); err != nil {
					s.Errorf("lookup: %v", err)
				}
				if err := s.writers[w].Remove(s.ctx, s.writers[w].Proxy.ID, id); err != nil && !errors.Is(err, node.ErrNotRemoved) {
					s.Errorf("remove: %v", err)
				}
			}
			if err := s.writers[w].Add(s.ctx, s.claim(w, id)); err != nil && !errors.Is(err, node.ErrNotCounted) {
				s.Errorf("add: %v", err)
			}
		})
	}
	wg.Wait()
	for g := range goroutines {
		s.expect(node.ID(fmt.Sprintf("concurrent-%d", g)), g%len(s.writers))
	}
	for w := range s.writers {
		s.remove(w, "shared")
	}
	s.expect("shared")
}
