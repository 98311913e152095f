package pool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// inBubble runs a test in virtual time with three trackers and one client.
func inBubble(t *testing.T, cfg Config, test func(t *testing.T, w *world, c *Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 64)
		w.setView("a", "b", "c")
		cfg.Trackers, cfg.CacheSize, cfg.Now, cfg.Logger = []string{"a"}, -1, time.Now, slog.New(slog.DiscardHandler)
		cfg.Proxy = node.Proxy{ID: "p", Addr: "10.0.0.1:7000"}
		c := w.openWith(t.Context(), cfg)
		defer c.Close()
		if err := c.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		test(t, w, c)
	})
}

// each does something to all trackers.
func (w *world) each(do func(f *fake)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.trackers {
		do(f)
	}
}

func down(f *fake) { f.up = false; f.cutLocked() }
func up(f *fake)   { f.up = true }

// took runs do and checks its error and how long it took.
func took(t *testing.T, what string, want error, least, most time.Duration, do func() error) {
	t.Helper()
	began := time.Now()
	if err := do(); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	if d := time.Since(began); d < least || d > most {
		t.Errorf("%s took %v, want %v to %v", what, d, least, most)
	}
}

func TestAddPromise(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world, c *Client) {
		ctx := t.Context()
		add := func() error { return c.Add(ctx, node.Claim{Node: "n"}) }
		took(t, "counted", nil, 0, 100*time.Millisecond, add)

		w.each(func(f *fake) { f.uncount = true })
		took(t, "not counted", node.ErrNotCounted, time.Second, time.Second, add)
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		took(t, "not counted, and no time", context.DeadlineExceeded, 0, 100*time.Millisecond, func() error { return c.Add(short, node.Claim{Node: "n"}) })

		time.AfterFunc(500*time.Millisecond, func() { w.each(func(f *fake) { f.uncount = false }) })
		time.AfterFunc(600*time.Millisecond, func() { w.setView("a", "b", "c") }) // something to say
		took(t, "counted by a later State", nil, 500*time.Millisecond, 700*time.Millisecond, add)

		w.each(down)
		took(t, "nobody is there", node.ErrUnavailable, 10*time.Second, 10*time.Second, add)
		time.AfterFunc(200*time.Millisecond, func() { w.each(up) })
		took(t, "they come back", nil, 200*time.Millisecond, 2*time.Second, add)

		w.each(down)
		time.AfterFunc(3*time.Second, func() { w.each(up) })
		took(t, "they come back late", nil, 3*time.Second, 5*time.Second, add)
	})
}

// TestAddWithoutOneHolder checks that a tracker without a session does not hold up
// an Add.
func TestAddWithoutOneHolder(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world, c *Client) {
		list := c.Placement().List(c.Placement().ShardOf("n"))
		w.mu.Lock()
		down(w.trackers[list[0]])
		w.mu.Unlock()
		synctest.Wait()
		took(t, "add", nil, 0, 100*time.Millisecond, func() error { return c.Add(t.Context(), node.Claim{Node: "n"}) })
	})
}

// TestAddWhileItsShardMoves checks that an Add which its first holders never counted
// returns as soon as the holders to which its shard moved count it.
func TestAddWhileItsShardMoves(t *testing.T) {
	all := []ring.MemberID{"a", "b", "c", "d", "e"}
	for name, at := range map[string][]ring.MemberID{
		"to trackers that have a session": all,
		"to trackers that join":           all[:3],
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{CountWait: time.Minute}, func(t *testing.T, w *world, c *Client) {
				w.setView(at...)
				time.Sleep(time.Second)
				if err := c.Settled(t.Context()); err != nil {
					t.Fatal(err)
				}
				former := c.Placement().List(c.Placement().ShardOf("n"))
				rest := slices.DeleteFunc(slices.Clone(all), func(id ring.MemberID) bool { return slices.Contains(former, id) })
				w.each(func(f *fake) { f.uncount = slices.Contains(former, f.id) })
				time.AfterFunc(500*time.Millisecond, func() { w.setView(rest...) })
				took(t, "add", nil, 500*time.Millisecond, 2*time.Second, func() error { return c.Add(t.Context(), node.Claim{Node: "n"}) })
			})
		})
	}
}

func TestRemovePromise(t *testing.T) {
	inBubble(t, Config{CountWait: time.Minute}, func(t *testing.T, w *world, c *Client) {
		ctx := t.Context()
		holder := c.Placement().List(c.Placement().ShardOf("n"))[0]
		remove := func() error { return c.Remove(ctx, "", "n") }
		add := func() {
			t.Helper()
			if err := c.Add(ctx, node.Claim{Node: "n"}); err != nil {
				t.Fatal(err)
			}
		}
		took(t, "never claimed", nil, 0, 100*time.Millisecond, remove)
		add()
		took(t, "all are told", nil, 0, 100*time.Millisecond, remove)

		add()
		time.Sleep(10 * time.Second) // Renews have gone
		w.mu.Lock()
		down(w.trackers[holder])
		w.mu.Unlock()
		synctest.Wait()
		term := lease.DefaultTerm
		took(t, "a holder is away", nil, term.Given()-term.Renewal(), term.Given()+time.Second, remove)
		w.each(up)
		if err := c.Settled(ctx); err != nil {
			t.Fatal(err)
		}

		add()
		w.mu.Lock()
		down(w.trackers[holder])
		w.mu.Unlock()
		synctest.Wait()
		time.AfterFunc(2*time.Second, func() { w.each(up) })
		took(t, "a holder comes back", nil, 2*time.Second, 3*time.Second+time.Second/2, remove)

		add()
		w.mu.Lock()
		down(w.trackers[holder])
		w.mu.Unlock()
		synctest.Wait()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		took(t, "no time to wait for it", node.ErrNotRemoved, time.Second, time.Second, func() error { return c.Remove(short, "", "n") })
	})
}

// TestQueueLimit checks that writes wait while a tracker stores nothing, and go on
// once it does.
func TestQueueLimit(t *testing.T) {
	inBubble(t, Config{QueueLimit: 100}, func(t *testing.T, w *world, c *Client) {
		w.each(func(f *fake) { f.silent = true }) // no tracker acknowledges anything
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var err error
		for i := 0; err == nil && i < 10_000; i++ {
			h, k := key(t, string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)))
			_, err = c.write(ctx, true, []edit{{key: k, hash: h}})
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("writes without an end: %v", err)
		}
		if queued := c.Stats().Queued; queued > 2*3*100 {
			t.Errorf("%d changes are queued", queued)
		}
		w.each(func(f *fake) { f.silent = false })
		if err := c.Add(t.Context(), node.Claim{Node: "n"}); err != nil {
			t.Errorf("once there is room: %v", err)
		}
	})
}

func TestIncarnation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 64)
		w.setView("a", "b", "c")
		later := lease.Incarnation{Number: 1 << 60, Random: 7}
		w.each(func(f *fake) { f.know = later })
		c := w.open(t.Context(), "p")
		defer c.Close()
		if err := c.Add(t.Context(), node.Claim{Node: "n"}); err != nil {
			t.Fatalf("with an incarnation that an earlier life had passed: %v", err)
		}
		c.mu.Lock()
		got := c.inc
		c.mu.Unlock()
		if got.Number != later.Number+1 {
			t.Errorf("incarnation %d, want one after %d", got.Number, later.Number)
		}

		later.Number += 2
		w.each(func(f *fake) { f.know = later; f.cutLocked() })
		select {
		case <-c.Done():
		case <-time.After(10 * time.Second):
			t.Fatal("goes on beside a later process")
		}
		if err := c.Err(); !errors.Is(err, node.ErrSuperseded) {
			t.Errorf("err %v", err)
		}
		if err := c.Add(t.Context(), node.Claim{Node: "n"}); !errors.Is(err, node.ErrSuperseded) {
			t.Errorf("add: %v", err)
		}
	})
}

// TestReleaseWaitsForACount checks that a former holder is told until a holder of
// the new list counts.
func TestReleaseWaitsForACount(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world, c *Client) {
		ctx := t.Context()
		add := func(id node.ID) error { return c.Add(ctx, node.Claim{Node: id}) }
		if err := add("n"); err != nil {
			t.Fatal(err)
		}
		shard := c.Placement().ShardOf("n")
		before := c.Placement().List(shard)
		w.each(func(f *fake) { f.uncount = true })
		former := before[0] // the next view lacks it, so that its place moves
		var rest []ring.MemberID
		for _, id := range []ring.MemberID{"a", "b", "c", "d"} {
			if id != former {
				rest = append(rest, id)
			}
		}
		w.setView(rest...)
		w.each(func(f *fake) { f.uncount = true })
		time.Sleep(4 * time.Second)
		if err := c.Remove(ctx, "", "n"); err != nil {
			t.Fatal(err)
		}
		if err := add("n"); !errors.Is(err, node.ErrNotCounted) {
			t.Errorf("add: %v", err)
		}
		has := func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.trackers[former].table.SumOf(shard, own).Count > 0
		}
		if !has() {
			t.Error("the former holder is not told any more, though nobody counts")
		}
		w.each(func(f *fake) { f.uncount = false })
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if has() {
			t.Error("the former holder still has the claim, though the new ones count")
		}
	})
}

func TestDrop(t *testing.T) {
	asked := make(chan []node.ID, 1)
	cfg := Config{Drop: func(ids []node.ID, _ string) []node.ID { asked <- ids; return []node.ID{"kept"} }}
	synctest.Test(t, func(t *testing.T) {
		asked = make(chan []node.ID, 1)
		w := newWorld(t, 1, 64)
		w.setView("a", "b", "c")
		cfg.Trackers, cfg.CacheSize, cfg.Now, cfg.Logger = []string{"a"}, -1, time.Now, slog.New(slog.DiscardHandler)
		cfg.Proxy = node.Proxy{ID: "p", Addr: "10.0.0.1:7000"}
		c := w.openWith(t.Context(), cfg)
		defer c.Close()
		if err := c.Add(t.Context(), node.Claim{Node: "kept"}, node.Claim{Node: "dropped"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // another holder may have counted the claims before a had a session
		c.mu.Lock()
		s := c.links["a"].session
		c.dropAskedLocked(s, &node.Drop{Token: 7, IDs: []node.ID{"kept", "dropped"}, Why: "test"})
		c.mu.Unlock()
		<-asked
		time.Sleep(time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		got := w.trackers["a"].answered
		if len(got) != 1 || got[0].Token != 7 || len(got[0].Kept) != 1 || got[0].Kept[0] != "kept" {
			t.Errorf("answers %+v", got)
		}
		if n := c.claims.table.Len(); n != 1 {
			t.Errorf("%d claims are left, want 1", n)
		}
	})
}

// TestSilentTracker checks that a session is given up whose tracker says nothing.
func TestSilentTracker(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world, c *Client) {
		w.mu.Lock()
		a := w.trackers["a"]
		a.silent = true
		w.mu.Unlock()
		c.mu.Lock()
		first := c.links["a"].session
		c.mu.Unlock()
		time.Sleep(node.PingTimeout + 2*time.Second)
		w.mu.Lock()
		a.silent = false
		w.mu.Unlock()
		time.Sleep(5 * time.Second)
		select {
		case <-first.ended:
		default:
			t.Error("the session goes on")
		}
		if err := c.Settled(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
