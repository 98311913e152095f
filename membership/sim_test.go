package membership

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/internal/memnet"
	"github.com/trackerpool/trackerpool/ring"
)

// simulate runs a test in virtual time, and gives memberlist's probes the time
// to end before the bubble does.
func simulate(t *testing.T, test func(t *testing.T, s *sim)) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		s := &sim{net: memnet.New(seed)}
		s.net.SetQuality(memnet.Quality{Delay: time.Millisecond, Jitter: time.Millisecond})
		test(t, s)
		for _, g := range s.all {
			if err := g.Close(); err != nil {
				t.Errorf("close %q: %v", g.Self().ID, err)
			}
		}
		time.Sleep(30 * time.Second)
	})
}

type sim struct {
	net *memnet.Network
	all []*Gossip
}

func simHost(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}) }

// start starts tracker i, which is to join tracker 0.
func (s *sim) start(t *testing.T, i int) *Gossip {
	t.Helper()
	cfg := someConfig()
	cfg.BindAddr = netip.AddrPortFrom(simHost(i), DefaultPort).String()
	cfg.Sockets = s.net.Host(simHost(i))
	cfg.Join = []string{simHost(0).String()}
	g, err := Join(t.Context(), someSelf(ring.MemberID(fmt.Sprintf("t-%d", i))), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.all = append(s.all, g)
	return g
}

func (s *sim) startAll(t *testing.T, n int) []*Gossip {
	t.Helper()
	for i := range n {
		s.start(t, i)
	}
	awaitAll(t, "all members", s.all...)
	return s.all
}

func TestCrash(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim) {
		all := s.startAll(t, 5)
		time.Sleep(time.Minute)
		start := time.Now()
		s.net.Detach(simHost(4))
		awaitAll(t, "a crash", all[:4]...)
		took := time.Since(start)
		t.Logf("a crash was seen by all of 5 after %v", took)
		if took > 6*time.Second {
			t.Errorf("a crash was seen after %v, want at most 6s", took)
		}

		// A new process at the same address.
		if err := all[4].Close(); err != nil {
			t.Fatal(err)
		}
		s.net.ResetHost(simHost(4))
		s.net.Attach(simHost(4))
		start = time.Now()
		again := s.start(t, 4)
		awaitAll(t, "the second boot", all[0], all[1], all[2], all[3], again)
		t.Logf("the second boot was seen by all after %v", time.Since(start))
	})
}

// A split that lasts much longer than memberlist remembers the dead heals, also
// between members that no one was told to join.
func TestSplitHeals(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim) {
		all := s.startAll(t, 5)
		left, right := all[:2], all[2:]
		for i := range left {
			for j := range right {
				s.net.Cut(simHost(i), simHost(len(left)+j))
			}
		}
		start := time.Now()
		awaitAll(t, "its own side", left...)
		awaitAll(t, "its own side", right...)
		t.Logf("the split was seen by all after %v", time.Since(start))
		time.Sleep(3 * time.Minute)
		s.net.HealAll()
		start = time.Now()
		awaitAll(t, "all again", all...)
		took := time.Since(start)
		t.Logf("the split had healed after %v", took)
		if took > 20*time.Second {
			t.Errorf("the split took %v to heal, want at most 20s", took)
		}
	})
}

// Trackers that start before the one they are to join find it soon after.
func TestJoinLater(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim) {
		s.net.Host(simHost(0)) // it refuses connections
		s.start(t, 1)
		s.start(t, 2)
		time.Sleep(300 * time.Millisecond)
		s.start(t, 0)
		start := time.Now()
		awaitAll(t, "all members", s.all...)
		took := time.Since(start)
		t.Logf("all had joined after %v", took)
		if took > 3*time.Second {
			t.Errorf("all had joined after %v, want at most 3s: nobody was joined, so tries are frequent", took)
		}
	})
}

// Loss alone changes no view, and who does not read views gets the latest.
func TestLoss(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim) {
		all := s.startAll(t, 5)
		<-all[0].Views()
		before := all[1].View().Sum()
		s.net.SetQuality(memnet.Quality{Delay: time.Millisecond, Jitter: 10 * time.Millisecond, Drop: 0.1})
		time.Sleep(5 * time.Minute)
		select {
		case v := <-all[0].Views():
			t.Errorf("10%% loss changed a view: %+v", v.Members())
		default:
		}
		for _, state := range []ring.State{ring.Serving, ring.Leaving, ring.Serving} {
			if err := all[1].SetState(state); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
		}
		if v := <-all[0].Views(); v.Sum() != all[1].View().Sum() || v.Sum() == before {
			t.Errorf("a slow reader gets %+v, want the latest view %+v", v.Members(), all[1].View().Members())
		}
	})
}

// Gossip says a thing some times and no more. Whom none of that reaches has missed a
// change of state, and would learn it with the next exchange of all state, in half a
// minute in a large pool, while nothing opens anywhere: so it is said again.
func TestMissedStateIsSaidAgain(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim) {
		all := s.startAll(t, 3)
		for _, state := range []ring.State{ring.Leaving, ring.Serving, ring.Leaving, ring.Serving, ring.Leaving} {
			time.Sleep(20 * time.Second)
			s.net.CutOneWay(simHost(0), simHost(2))
			s.net.CutOneWay(simHost(1), simHost(2))
			if err := all[0].SetState(state); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			s.net.HealAll()
			start := time.Now()
			awaitAll(t, "the change", all...)
			if took := time.Since(start); took > 4*time.Second {
				t.Errorf("a change of state that was missed is seen after %v, want at most 4s", took)
			}
		}
	})
}

// A join to black holes takes no longer than it says, and to leave or close
// works all the same.
func TestBlackHole(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim) {
		cfg := someConfig()
		cfg.BindAddr, cfg.Sockets = netip.AddrPortFrom(simHost(0), 1).String(), s.net.Host(simHost(0))
		for i := range 50 {
			cfg.Join = append(cfg.Join, simHost(100+i).String())
		}
		start := time.Now()
		g, err := Join(t.Context(), someSelf("t-0"), cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.all = append(s.all, g)
		if took := time.Since(start); took > joinTimeout {
			t.Errorf("Join took %v, want at most %v", took, joinTimeout)
		}
		if err := g.SetState(ring.Leaving); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		if err := g.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("Leave and Close took %v, want no time: nobody is there", took)
		}
	})
}
