package pool

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// editsFrom makes so many claims, from a number on.
func editsFrom(t *testing.T, first, n int) []edit {
	t.Helper()
	edits := make([]edit, n)
	for i := range edits {
		h, k := key(t, fmt.Sprintf("node-%d", first+i))
		edits[i] = edit{key: k, hash: h}
	}
	return edits
}

// fill makes claims, and returns when each is at all its holders and counted there.
func (w *world) fill(c *Client, claims int) {
	w.t.Helper()
	for first := 0; first < claims; first += 1000 {
		if err := w.write(w.t.Context(), c, true, editsFrom(w.t, first, 1000)); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := c.Settled(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// sessionAt returns the one with a tracker, and what of it is not acknowledged.
func (c *Client) sessionAt(id ring.MemberID) (s *session, unacked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s = c.links[id].session
	return s, s.unacked
}

// A session has no more claims on their way than its credits, which the tracker may
// change; one tracker's are not another's.
func TestCredits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 64)
		w.window = 100
		w.setView("a", "b", "c")
		c := w.open(t.Context(), "p")
		defer c.Close()
		if err := c.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.each(func(f *fake) { f.silent = true })
		for i := range 20 {
			if err := w.write(t.Context(), c, true, editsFrom(t, 100*i, 100)); err != nil {
				t.Fatal(err)
			}
		}
		// What is left of the credits is not worth a frame where it is less than a quarter.
		check := func(when string, id ring.MemberID, most int) {
			t.Helper()
			synctest.Wait()
			if _, unacked := c.sessionAt(id); unacked > most || unacked <= most*3/4 {
				t.Errorf("%s: %d claims are on their way to %s, want nearly %d", when, unacked, id, most)
			}
		}
		for _, id := range []ring.MemberID{"a", "b", "c"} {
			check("at first", id, 100)
		}
		credits := func(n uint32) {
			t.Helper()
			s, _ := c.sessionAt("a")
			if err := s.apply(&node.TrackerFrame{Credits: n}); err != nil {
				t.Fatal(err)
			}
		}
		credits(250)
		check("with more", "a", 250)
		check("with more at a", "b", 100)
		credits(30)
		check("with less than are on their way", "a", 250)
		w.each(func(f *fake) { f.silent = false })
		// Once the first are acknowledged there are never more than 30 again.
		for least := 250; c.Stats().Queued > 0; time.Sleep(time.Millisecond) {
			if _, unacked := c.sessionAt("a"); unacked > max(least, 30) {
				t.Fatalf("%d claims are on their way after %d were", unacked, least)
			} else {
				least = min(least, unacked)
			}
		}
		if err := c.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.check(c)
	})
}

// Claims that are sent again give way to a lookup that waits, and all are sent in the end.
func TestGiveWay(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world, c *Client) {
		const claims = 20_000
		w.fill(c, claims)
		again := func() time.Duration {
			t.Helper()
			if err := c.Settled(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.each(func(f *fake) {
				if f.id == "a" {
					f.restartLocked()
				}
			})
			began := time.Now()
			synctest.Wait()
			if err := c.Settled(t.Context()); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		if took := again(); took > 200*ms {
			t.Errorf("took %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var waits sync.WaitGroup
		waits.Go(func() { _, _, _ = c.Lookup(ctx, "n") }) // no tracker answers
		time.Sleep(20 * ms)
		least := claims / 2 / fillClaims * giveWayTicks * hedgeTick // a holds more than half
		if took := again(); took < least || took > 4*least {
			t.Errorf("while a lookup waits: took %v, want at least %v, and not much more", took, least)
		}
		cancel()
		waits.Wait()
	})
}

// A view that lasts for a moment costs little: what it placed at a tracker, and was
// not sent yet, is not sent.
func TestForgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const claims = 20_000
		w := newWorld(t, 1, 64)
		w.window = 400
		w.setView("a", "d", "e")
		w.each(func(f *fake) { f.uncount = f.id != "a" }) // so that nothing is released meanwhile
		w.setView("a", "b", "c")
		c := w.open(t.Context(), "p")
		defer c.Close()
		w.fill(c, claims)
		replaced := func() (n int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.trackers["a"].replaced
		}
		before, had := replaced(), c.Placement().Held("a").Clone()
		w.each(func(f *fake) { f.silent = f.id == "a" }) // so that its credits are soon used
		for _, ids := range [][]ring.MemberID{{"a"}, {"a", "d", "e"}} {
			w.setView(ids...)
			time.Sleep(200 * time.Millisecond)
			if got := c.View().Placed(); got != len(ids) {
				t.Fatalf("the client goes by a view of %d trackers, want %d", got, len(ids))
			}
		}
		w.each(func(f *fake) { f.silent = false })
		time.Sleep(time.Second)
		w.each(func(f *fake) { f.uncount = false })
		w.setView("a", "d", "e") // something to say
		if err := c.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		most := int(w.window)
		gained := c.Placement().Held("a").Clone()
		gained.AndNot(had)
		for shard := range gained.All() {
			most += int(c.claims.sums[shard].Count)
		}
		if got := replaced() - before; got > most {
			t.Errorf("%d claims were sent, want at most those of the shards that a has gained, and its credits for a view that did not last: %d", got, most)
		}
		w.check(c)
	})
}

// No Renew vouches for a view of which something was not sent, as the tracker checks.
func TestForgoneViewIsNotVouchedFor(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) { forgoneViewRun(t, seed) })
	}
}

func forgoneViewRun(t *testing.T, seed uint64) {
	w := newWorld(t, seed, 1024)
	w.window = 40 // two shards
	w.setView("a", "d", "e", "f", "g")
	w.each(func(f *fake) { f.uncount = f.id != "a" }) // so that nothing is released meanwhile
	w.setView("a", "b", "c")
	c := w.open(t.Context(), "p")
	defer c.Close()
	w.fill(c, 20_000)
	for _, ids := range [][]ring.MemberID{{"a", "d", "e"}, {"a", "f", "g"}} {
		w.setView(ids...)
		time.Sleep(fetchFloor + 10*ms)
		if _, ok := c.View().Member(ids[1]); !ok {
			t.Fatalf("the client does not go by the view of %v", ids)
		}
	}
	time.Sleep(2 * time.Second)
	w.each(func(f *fake) { f.uncount = false })
	w.setView("a", "f", "g") // something to say
	if err := c.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	w.check(c)
}

// While shards move to a tracker that stores nothing, the client keeps a place for
// each shard and no copy of its claims; writes go on, and are counted elsewhere.
func TestSlowTrackerGrowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const claims, churn = 20_000, 5000
		w := newWorld(t, 1, 64)
		w.setView("a", "b", "c")
		c := w.open(t.Context(), "p")
		defer c.Close()
		w.fill(c, claims)
		w.mu.Lock()
		w.window = 60
		w.mu.Unlock()
		w.setView("a", "b", "c", "d")
		w.mu.Lock()
		slow := w.trackers["d"]
		slow.silent = true
		w.mu.Unlock()
		for c.Stats().Sessions < 4 {
			time.Sleep(time.Millisecond)
		}
		queue := func() (n, buffered int) {
			c.mu.Lock()
			defer c.mu.Unlock()
			s := c.links["d"].session
			return s.ops.len(), cap(s.partial.rest)
		}
		moved := c.Placement().Held("d").Len()
		if n, _ := queue(); n == 0 {
			t.Fatal("nothing waits to be sent to d")
		}
		for first := 0; first < churn; first += 500 { // they are in the snapshots that are yet to be taken
			if err := w.write(t.Context(), c, first%1000 == 0, editsFrom(t, first, 500)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		perShard := claims / 64
		if n, buffered := queue(); n > moved+2*churn/64 || buffered > 2*perShard {
			t.Errorf("%d changes wait, and %d claims are copied; %d shards of some %d claims move to d", n, buffered, moved, perShard)
		}
		w.mu.Lock()
		slow.silent = false
		w.mu.Unlock()
		if err := c.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.check(c)
	})
}
