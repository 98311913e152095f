package membership

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

func someConfig() Config {
	return Config{
		Pool: "test", BindAddr: "127.0.0.1:0", Shards: 4096, Term: 10 * time.Second,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func someSelf(id ring.MemberID) ring.Member {
	return ring.Member{ID: id, Boot: NewBoot(time.Now(), 0), Addr: string(id) + ":7000", Algorithm: 1, Replicas: ring.ReplicasOf(2)}
}

// mustJoin joins a pool through the given members, and closes at the end.
func mustJoin(t *testing.T, self ring.Member, cfg Config, through ...*Gossip) *Gossip {
	t.Helper()
	for _, g := range through {
		cfg.Join = append(cfg.Join, g.Addr())
	}
	g, err := Join(t.Context(), self, cfg)
	if err != nil {
		t.Fatalf("join %q: %v", self.ID, err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("close %q: %v", self.ID, err)
		}
	})
	return g
}

// await waits until a view of g fits.
func await(t *testing.T, g *Gossip, what string, fits func(ring.View) bool) {
	t.Helper()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	for v := g.View(); !fits(v); {
		select {
		case v = <-g.Views():
		case <-timeout.C:
			t.Fatalf("%q does not see %s; its view: %+v", g.Self().ID, what, g.View().Members())
		}
	}
}

// sees reports whether exactly the given members are in a view.
func sees(members ...*Gossip) func(ring.View) bool {
	return func(v ring.View) bool {
		if v.Len() != len(members) {
			return false
		}
		for _, g := range members {
			if m, ok := v.Member(g.Self().ID); !ok || m != g.Self() {
				return false
			}
		}
		return true
	}
}

func awaitAll(t *testing.T, what string, members ...*Gossip) {
	t.Helper()
	for _, g := range members {
		await(t, g, what, sees(members...))
	}
}

func TestJoinStateLeave(t *testing.T) {
	cfg := someConfig()
	cfg.Seats = [][]ring.MemberID{ids("b a c")}
	a := mustJoin(t, someSelf("a"), cfg)
	if a.Joined() {
		t.Error("the first tracker has joined itself")
	}
	select {
	case v := <-a.Views():
		if !sees(a)(v) {
			t.Errorf("first view %+v, want a alone", v.Members())
		}
	default:
		t.Error("no view when Join has returned")
	}
	b := mustJoin(t, someSelf("b"), cfg, a)
	c := mustJoin(t, someSelf("c"), someConfig(), b)
	awaitAll(t, "three members", a, b, c)
	for _, g := range []*Gossip{a, b, c} {
		if !g.Joined() {
			t.Errorf("%q has not joined", g.Self().ID)
		}
	}

	if err := b.SetState(ring.Serving); err != nil {
		t.Fatal(err)
	}
	if b.Self().State != ring.Serving {
		t.Errorf("b is %v at once, want serving", b.Self().State)
	}
	awaitAll(t, "b serving", a, b, c)

	if seats, ok := a.SeatsOf("c"); !ok || seats.Known() {
		t.Errorf("seats of c: %v, %v; want none", seats, ok)
	}
	err := c.SetSeats([][]ring.MemberID{ids("a b")})
	if mismatch, ok := errors.AsType[*MismatchError](err); !ok || mismatch.Field != "seats" {
		t.Errorf("other seats than the pool's: error %v, want a mismatch of seats", err)
	}
	if err := c.SetSeats(cfg.Seats); err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, "a to know that c knows its seats", func() bool {
		seats, ok := a.SeatsOf("c")
		return ok && seats.Has(ids("c b a"))
	})
	if _, ok := a.SeatsOf("nobody"); ok {
		t.Error("a stranger has seats")
	}

	if err := c.Leave(t.Context()); err == nil {
		t.Error("a leave that was not announced succeeded")
	}
	if err := c.SetState(ring.Leaving); err != nil {
		t.Fatal(err)
	}
	awaitAll(t, "c leaving", a, b, c)
	start := time.Now()
	if err := c.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitAll(t, "c gone", a, b)
	t.Logf("a leave was seen by all after %v", time.Since(start))
	if err := c.SetState(ring.Serving); !errors.Is(err, ErrClosed) {
		t.Errorf("state after a leave: error %v, want ErrClosed", err)
	}

	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	<-c.Done()
	for what, err := range map[string]error{"Err": c.Err(), "Leave": c.Leave(t.Context()), "SetSeats": c.SetSeats(nil)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", what, err)
		}
	}
}

// awaitTrue waits for what is not in views.
func awaitTrue(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestRefused(t *testing.T) {
	cfg := someConfig()
	cfg.Seats = [][]ring.MemberID{ids("a b c")}
	a := mustJoin(t, someSelf("a"), cfg)
	b := mustJoin(t, someSelf("b"), cfg, a)
	awaitAll(t, "two members", a, b)
	for _, c := range []struct {
		field string
		edit  func(*ring.Member, *Config)
		want  MismatchError
	}{
		{"shards", func(_ *ring.Member, c *Config) { c.Shards = 1024 }, MismatchError{Ours: "1024", Theirs: "4096"}},
		{"term", func(_ *ring.Member, c *Config) { c.Term = time.Second }, MismatchError{Ours: "1s", Theirs: "10s"}},
		{"replicas", func(m *ring.Member, _ *Config) { m.Replicas = ring.ReplicasOf(3) }, MismatchError{Ours: "3", Theirs: "2"}},
		{"seats", func(_ *ring.Member, c *Config) { c.Seats = [][]ring.MemberID{ids("a")} }, MismatchError{Ours: "[[a]]", Theirs: "[[a b c]]"}},
	} {
		t.Run(c.field, func(t *testing.T) {
			self, cfg := someSelf("c"), cfg
			cfg.Join = []string{a.Addr()}
			c.edit(&self, &cfg)
			g, err := Join(t.Context(), self, cfg)
			if err == nil {
				g.Close()
			}
			got, ok := errors.AsType[*MismatchError](err)
			if !ok {
				t.Fatalf("error %v, want a *MismatchError", err)
			}
			c.want.Field, c.want.Member = c.field, got.Member
			if diff := cmp.Diff(&c.want, got); diff != "" || got.Member != "a" && got.Member != "b" {
				t.Errorf("mismatch (-want +got):\n%s", diff)
			}
			awaitTrue(t, "a to note the refusal", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				for _, e := range a.refusals.seen {
					if e.Field == c.field && e.Member == "c" {
						return true
					}
				}
				return false
			})
			if !sees(a, b)(a.View()) {
				t.Errorf("a stranger is in the view: %+v", a.View().Members())
			}
		})
	}
}

// Another pool's name or key looks like silence; a pool with both keys bridges
// a change of keys.
func TestNotUnderstood(t *testing.T) {
	keyFile := func(keys ...string) string {
		var text strings.Builder
		for _, k := range keys {
			fmt.Fprintln(&text, base64.StdEncoding.EncodeToString([]byte(strings.Repeat(k, 32))))
		}
		name := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	with := func(file string) Config {
		cfg := someConfig()
		cfg.KeyFile = file
		return cfg
	}
	a := mustJoin(t, someSelf("a"), with(keyFile("1")))
	other := with(a.cfg.KeyFile)
	other.Pool = "another"
	for what, cfg := range map[string]Config{"no key": with(""), "another key": with(keyFile("2")), "another pool": other} {
		g := mustJoin(t, someSelf("b"), cfg, a)
		if g.Joined() || !sees(g)(g.View()) || !sees(a)(a.View()) {
			t.Errorf("%s: joined %v, views %+v and %+v", what, g.Joined(), g.View().Members(), a.View().Members())
		}
	}
	c := mustJoin(t, someSelf("c"), with(keyFile("1", "2")), a)
	awaitAll(t, "two keys", a, c)
	if _, err := Join(t.Context(), someSelf("d"), with(filepath.Join(t.TempDir(), "none"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing key file: error %v", err)
	}
}

// A tracker that crashed and is back at another address takes its own place at
// once, though its former boot still looks alive.
func TestRestart(t *testing.T) {
	a := mustJoin(t, someSelf("a"), someConfig())
	b := mustJoin(t, someSelf("b"), someConfig(), a)
	awaitAll(t, "two members", a, b)
	former := b.Self()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	self := someSelf("b")
	self.Boot = NewBoot(time.Now(), former.Boot)
	start := time.Now()
	again := mustJoin(t, self, someConfig(), a)
	awaitAll(t, "the second boot", a, again)
	t.Logf("the second boot was seen after %v", time.Since(start))
	if again.Self().Boot != self.Boot {
		t.Errorf("boot %d was replaced by %d", self.Boot, again.Self().Boot)
	}
}

// One who comes with an older boot than is known takes a younger one, and the
// process that it supersedes is told.
func TestSuperseded(t *testing.T) {
	a := mustJoin(t, someSelf("a"), someConfig())
	first := mustJoin(t, someSelf("b"), someConfig(), a)
	awaitAll(t, "two members", a, first)
	for _, boot := range []uint64{1, first.Self().Boot} {
		self := someSelf("b")
		self.Boot = boot
		second := mustJoin(t, self, someConfig(), a)
		if second.Self().Boot <= first.Self().Boot {
			t.Errorf("boot %d, want more than %d, which is known", second.Self().Boot, first.Self().Boot)
		}
		awaitAll(t, "the second process", a, second)
		select {
		case <-first.Done():
		case <-time.After(30 * time.Second):
			t.Fatal("the first process is not told")
		}
		if err := first.Err(); !errors.Is(err, ErrSuperseded) {
			t.Errorf("error %v, want ErrSuperseded", err)
		}
		if err := second.Err(); err != nil {
			t.Errorf("the second process is told %v", err)
		}
		first = second
	}
}

func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	l.Close()
	cfg := someConfig()
	cfg.BindAddr = "[::1]:0"
	a := mustJoin(t, someSelf("a"), cfg)
	b := mustJoin(t, someSelf("b"), cfg, a)
	awaitAll(t, "two members", a, b)
	if !strings.HasPrefix(a.Addr(), "[::1]:") {
		t.Errorf("address %s, want one of [::1]", a.Addr())
	}
}

// A name stands for all of its addresses, ours among them, and is looked up
// again and again.
func TestJoinByName(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("no second loopback address here:", err)
	}
	l.Close()
	a := mustJoin(t, someSelf("a"), someConfig())
	port := netip.MustParseAddrPort(a.Addr()).Port()
	var lookups int // Join, then the one goroutine that tries again
	cfg := someConfig()
	cfg.BindAddr = fmt.Sprintf("127.0.0.2:%d", port)
	cfg.RejoinInterval = 20 * time.Millisecond
	cfg.Join = []string{"pool.example"}
	cfg.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
		if lookups++; lookups < 3 {
			return nil, fmt.Errorf("no such host: %s", host)
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	b := mustJoin(t, someSelf("b"), cfg)
	if b.Joined() {
		t.Error("joined by a name that is not known yet")
	}
	awaitAll(t, "two members", a, b)
}

func TestBadArguments(t *testing.T) {
	_, err := Join(t.Context(), ring.Member{}, Config{})
	for _, want := range []string{"pool", "id", "replicas"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %q: %v", want, err)
		}
	}
	a := mustJoin(t, someSelf("a"), someConfig())
	cfg := someConfig()
	cfg.BindAddr = a.Addr()
	if g, err := Join(t.Context(), someSelf("b"), cfg); err == nil {
		g.Close()
		t.Error("two trackers share an address")
	}
	if err := a.SetState(9); err == nil {
		t.Error("state 9 was taken")
	}
	if err := a.SetSeats([][]ring.MemberID{{}}); err == nil {
		t.Error("an empty seat set was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg = someConfig()
	cfg.Join = []string{a.Addr()}
	if g, err := Join(ctx, someSelf("b"), cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: error %v", err)
		if err == nil {
			g.Close()
		}
	}
}
