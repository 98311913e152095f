package pool

import (
	"fmt"
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

// While shards move to a tracker that stores nothing, the client keeps a place for
// each shard and no copy of its claims; writes go on, and are counted elsewhere.
func TestSlowTrackerGrowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const claims, churn = 20_000, 5000
		w := newWorld(t, 1, 64)
		w.setView("a", "b", "c")
		c := w.open(t.Context(), "p")
		defer c.Close()
		for first := 0; first < claims; first += 1000 {
			if err := w.write(t.Context(), c, true, editsFrom(t, first, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
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
