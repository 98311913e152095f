package trackercmd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
)

// A tracker that is restarted in order, or killed, finds its claims in data_dir; the
// proxy sends none of them again.
func TestRestartWithDataDir(t *testing.T) {
	dir := t.TempDir()
	args := flags("t-0", "--new-pool", "--data-dir", dir, "--save-interval", "1s", "--term", "1s", "--drain-deadline", "2s")
	p := start(t, args...)
	p.ready()
	addr := p.addr("listen_addr")
	c, err := pool.Open(t.Context(), pool.Config{Trackers: []string{addr}, Proxy: node.Proxy{ID: "p-1", Addr: "192.0.2.1:3022"}, CountWait: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	claims := make([]node.Claim, 1000)
	for i := range claims {
		claims[i] = node.Claim{Node: node.ID(fmt.Sprintf("node-%d", i))}
	}
	if err := c.Add(t.Context(), claims...); err != nil {
		t.Fatal(err)
	}
	p.metric("tracker_snapshot_errors_total", "0")
	for _, stop := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		eventually(t, func() error { // one with all claims
			if info, err := os.Stat(filepath.Join(dir, "t-0.claims")); err != nil || info.Size() < 8*int64(len(claims)) {
				return fmt.Errorf("no whole snapshot yet: %v", err)
			}
			return nil
		})
		p.signal(stop)
		p.exit()
		p = start(t, append(args, "--listen-addr", addr)...)
		if n := p.logged("claims restored; they are answered when their proxies have confirmed them")["claims"]; fmt.Sprint(n) != fmt.Sprint(len(claims)) {
			t.Errorf("after %v: %v claims restored, want %d", stop, n, len(claims))
		}
		eventually(t, func() error {
			a, _, err := c.Lookup(t.Context(), "node-7")
			if a != node.Found {
				return fmt.Errorf("node-7 is %v, %w", a, err)
			}
			return nil
		})
		p.metric("tracker_restored_proxies", "0")
		p.metric("tracker_claim_changes_total", "0")
		p.metric(`tracker_claims{kind="session"}`, fmt.Sprint(len(claims)))
	}
}

// In a rolling restart a tracker hands over what it holds before it stops. What it saved
// before is of use all the same: when it is back the proxy sends what changed meanwhile,
// and no more.
func TestRollingRestartWithDataDir(t *testing.T) {
	dir := t.TempDir()
	seat := func(id string, more ...string) *process {
		return start(t, flags(id, append([]string{"--seats", threeSeats, "--data-dir", dir, "--term", "2s"}, more...)...)...)
	}
	first := seat("t-0", "--new-pool")
	join := first.addr("gossip_addr")
	others := []*process{seat("t-1", "--new-pool", "--join", join), seat("t-2", "--new-pool", "--join", join)}
	for _, p := range append(others, first) {
		p.ready()
		p.metric("tracker_members", "3")
	}
	c, err := pool.Open(t.Context(), pool.Config{Trackers: []string{first.addr("listen_addr")}, Proxy: node.Proxy{ID: "p-1", Addr: "192.0.2.1:3022"}, CountWait: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const claims = 5000
	add := func(from, n int) {
		t.Helper()
		batch := make([]node.Claim, n)
		for i := range batch {
			batch[i] = node.Claim{Node: node.ID(fmt.Sprintf("node-%d", from+i))}
		}
		if err := c.Add(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	add(0, claims)
	if err := c.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := value(t, others[1], `tracker_claims{kind="session"}`)
	others[1].signal(syscall.SIGTERM)
	if code := others[1].exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	others[1].logged("drained")
	add(claims, 1) // in one shard of 64

	p := seat("t-2", "--join", join)
	if n := fmt.Sprint(p.logged("claims restored; they are answered when their proxies have confirmed them")["claims"]); n != before {
		t.Errorf("%s claims restored, want %s", n, before)
	}
	p.ready()
	eventually(t, func() error {
		if n, open := held(t, p), value(t, p, `tracker_shards{state="open"}`); n == "0" || n != open {
			return fmt.Errorf("%s shards held, %s open", n, open)
		}
		return c.Settled(t.Context())
	})
	sent, err := strconv.Atoi(value(t, p, "tracker_claim_changes_total"))
	if err != nil || sent > 3*claims/64 {
		t.Errorf("the proxy sent %d claims again of %s, %v; want those of one shard", sent, before, err)
	}
	t.Logf("%s claims, %d sent again", before, sent)
}
