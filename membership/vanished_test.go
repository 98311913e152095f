package membership

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/memberlist"

	"github.com/trackerpool/trackerpool/ring"
)

// awaitSuperseded waits until a member is told that a younger boot is known.
func awaitSuperseded(t *testing.T, g *Gossip, within time.Duration) {
	t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case <-g.Done():
	case <-limit.C:
		t.Errorf("boot %d of %q is not told within %v that a younger one is known", g.Self().Boot, g.Self().ID, within)
		return
	}
	if err := g.Err(); !errors.Is(err, ErrSuperseded) {
		t.Errorf("error %v, want ErrSuperseded", err)
	}
}

// A tracker starts again with an older boot, as its clock was set back, and nobody
// answers in time whom it could ask. Others never see its former boot alive any
// more, but they remember it.
func TestOlderBootUnasked(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim) {
		all := s.startAll(t, 3)
		s.net.Detach(simHost(2))
		awaitAll(t, "a crash", all[:2]...)
		if err := all[2].Close(); err != nil {
			t.Fatal(err)
		}
		s.net.ResetHost(simHost(2))
		cfg, self := someConfig(), someSelf("t-2")
		self.Boot = 5
		host := simHost(3)
		cfg.BindAddr, cfg.Sockets, cfg.Join = netip.AddrPortFrom(host, DefaultPort).String(), s.net.Host(host), []string{simHost(0).String()}
		s.net.Detach(host)
		again, err := Join(t.Context(), self, cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.all = append(s.all, again)
		if got := again.Self().Boot; got != 5 {
			t.Fatalf("boot %d, want 5: nobody was there to ask", got)
		}
		s.net.Attach(host)
		awaitSuperseded(t, again, 20*time.Second)
		for _, g := range all[:2] {
			if err := g.Err(); err != nil {
				t.Errorf("%q is told %v", g.Self().ID, err)
			}
		}
	})
}

// One member alone saw a younger boot alive, and has long forgotten all of it but
// that. It shows nothing of the tracker, and the others show the older boot: that is
// not to last.
func TestVanishedBoot(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim) {
		all := s.startAll(t, 3)
		former := someMeta()
		former.ID, former.Boot = "t-2", all[2].Self().Boot+1
		encoded, err := former.encode()
		if err != nil {
			t.Fatal(err)
		}
		seen := &memberlist.Node{Name: former.name(), Addr: simHost(9).AsSlice(), Port: DefaultPort, Meta: encoded}
		delegate{all[1]}.NotifyJoin(seen)
		delegate{all[1]}.NotifyLeave(seen)
		await(t, all[1], "that the younger boot is gone", func(v ring.View) bool { return v.Len() == 2 })
		awaitSuperseded(t, all[2], 5*time.Minute)
	})
}

func TestVanishedCodec(t *testing.T) {
	tab := newTable(someEntry("self", 5))
	tab.put(someEntry("a", 1))
	tab.put(someEntry("b", 7))
	if got := tab.vanished(); got != nil {
		t.Errorf("vanished boots %x, want none", got)
	}
	for _, id := range []ring.MemberID{"a", "b"} {
		tab.put(someEntry(id, 9))
		tab.drop(someEntry(id, 9).name())
	}
	got := tab.vanished()
	want := map[ring.MemberID]uint64{"a": 9, "b": 9}
	if diff := cmp.Diff(want, decodeVanished(got)); diff != "" {
		t.Errorf("vanished boots (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[ring.MemberID]uint64{"a": 9}, decodeVanished(got[:len(got)-1])); diff != "" {
		t.Errorf("of what was cut short (-want +got):\n%s", diff)
	}
}

func FuzzVanished(f *testing.F) {
	f.Add([]byte("\x01a\x09"))
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		for id, boot := range decodeVanished(b) {
			if len(id) == 0 || len(id) > maxIDLen || boot == 0 || boot >= maxBoot {
				t.Errorf("decoded %q, boot %d", id, boot)
			}
		}
	})
}
