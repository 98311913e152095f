package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// TestUnknownByReason asks for what a tracker cannot say, and looks what it counts.
func TestUnknownByReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, y := settled(t, 1, "t-0", "t-1", "t-2")
		tracker := c.at("t-0")
		before := tracker.Stats().Unknown
		counted := func(why string, want uint64) {
			t.Helper()
			if got := tracker.Stats().Unknown[why] - before[why]; got != want {
				t.Errorf("%s: %d lookups were UNKNOWN, want %d; all: %v", why, got, want, tracker.Stats().Unknown)
			}
		}
		here := nodesOf(1, heldBy(p, "t-0"))[0]
		there := nodesOf(1, func(sh ring.Shard) bool { return !p.Held("t-0").Has(sh) })[0]
		absent := ID("")
		for _, id := range nodesOf(400, heldBy(p, "t-0"))[350:] { // beyond what x and y have
			if c.look("t-0", id).Answer == Absent {
				absent = id
			}
		}
		if absent == "" || c.look("t-0", here).Answer != Found {
			t.Fatal("the pool is not settled")
		}
		if a := c.look("t-0", there).Answer; a != Unknown {
			t.Fatalf("%s is %v where its shard is not placed", there, a)
		}
		counted("not_held", 1)

		x.close() // without a word: the leases go on for a term
		y.close()
		time.Sleep(poolTerm + poolTerm/4)
		if a := c.look("t-0", here).Answer; a != Unknown {
			t.Fatalf("%s is %v after its proxy's lease has run out", here, a)
		}
		counted("no_lease", 1)

		before = tracker.Stats().Unknown
		c.isolate("t-0", "t-1", "t-2")
		time.Sleep(2 * poolTerm)
		if a := c.look("t-0", absent).Answer; a != Unknown {
			t.Fatalf("%s is %v at a tracker that no seat speaks to", absent, a)
		}
		counted("not_in_force", 1)
	})
}

// TestFilled: a joiner fills once, and the time is that until its shards are open.
func TestFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		old := c.at("t-0").Stats()
		c.start("t-3")
		p := c.show("t-0", "t-1", "t-2", "t-3")
		time.Sleep(poolTerm / 2) // proxies take their time
		if s := c.at("t-3").Stats(); s.Filled != 0 || s.Filling != poolTerm/2 {
			t.Errorf("before a proxy came: filled %d times, %v", s.Filled, s.Filling)
		}
		x.connect("t-3")
		y.connect("t-3")
		x.follow(p)
		y.follow(p)
		c.awaitOpen(time.Second, "t-0", "t-1", "t-2", "t-3")
		s := c.at("t-3").Stats()
		if s.Filled != 1 || s.Filling < poolTerm/2 || s.Filling > poolTerm/2+2*time.Second {
			t.Errorf("filled %d times in %v, want once in some %v", s.Filled, s.Filling, poolTerm/2)
		}
		if s.ReplaceBytes == 0 || s.Ended["forgotten"] != 0 {
			t.Errorf("the joiner received %d bytes of shards, and forgot %d proxies", s.ReplaceBytes, s.Ended["forgotten"])
		}
		if now := c.at("t-0").Stats(); now.Filled < old.Filled {
			t.Errorf("an old member filled %d times, and then %d", old.Filled, now.Filled)
		}
	})
}

// TestAgree: a tracker counts the seats whose words are by its own view, and how its
// shards compare with an even share.
func TestAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _, _ := settled(t, 2, "t-0", "t-1", "t-2")
		s := c.at("t-1").Status()
		if s.Seats.All != 3 || s.Seats.Granting != 3 || s.Seats.Agree != 3 {
			t.Errorf("seats %+v, want 3 of everything", s.Seats)
		}
		owned, share := 0, 0.0
		for _, id := range []ring.MemberID{"t-0", "t-1", "t-2"} {
			s := c.at(id).Status()
			owned += s.Owned
			share += s.Share
		}
		if owned != poolShards || share < 2.999 || share > 3.001 {
			t.Errorf("%d shards have an owner, want %d; the shares add up to %v, want 3", owned, poolShards, share)
		}
		members := p.View().Members()
		c.showTo([]ring.MemberID{"t-1"}, members[1:]...) // it alone has another view
		synctest.Wait()
		if s := c.at("t-1").Status(); s.Seats.Granting < 2 || s.Seats.Agree > 1 {
			t.Errorf("with a view of its own: seats %+v, want at most itself to agree", s.Seats)
		}
	})
}

// TestEnded tells why lives of proxies ended.
func TestEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		c.hello("t-0", "p", 1, 1)
		second := c.hello("t-0", "p", 2, 2)
		second.add("a")
		second.stored()
		second.send(&ProxyFrame{Goodbye: true})
		third := c.hello("t-0", "p", 3, 3)
		third.add("a")
		third.stored()
		if err := c.at("t-0").RemoveProxy(t.Context(), "p", 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * sweepPause)
		s := c.at("t-0").Stats()
		for why, want := range map[string]uint64{"superseded": 1, "goodbye": 1, "removed": 1, "forgotten": 0} {
			if got := s.Ended[why]; got != want {
				t.Errorf("%s: %d lives, want %d", why, got, want)
			}
		}
		if s.Swept != 2 || s.BatchBytes == 0 {
			t.Errorf("%d claims dropped, want 2; %d bytes of claims came", s.Swept, s.BatchBytes)
		}
	})
}
