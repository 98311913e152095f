package trackercmd_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/internal/freeport"
	"github.com/trackerpool/trackerpool/node"
)

// All trackers are killed at once and start again without --new-pool: they have
// forgotten all, and find the claims again as soon as the proxies are back; misses are
// UNKNOWN until the seats grant again, which is after two terms, and then ABSENT.
func TestColdStart(t *testing.T) {
	slow(t)
	t.Parallel()
	ids := strings.Split(threeSeats, ",")
	addrs, err := freeport.Loopback(2 * len(ids))
	if err != nil {
		t.Fatal(err)
	}
	grpc, gossip := addrs[:len(ids)], addrs[len(ids):]
	all := make([]*process, len(ids))
	startAll := func(more ...string) {
		t.Helper()
		for i, id := range ids {
			args := append(flags(id, "--seats", threeSeats, "--term", "2s", "--listen-addr", grpc[i], "--gossip-addr", gossip[i]), more...)
			for j := range ids {
				if j != i {
					args = append(args, "--join", gossip[j])
				}
			}
			all[i] = start(t, args...)
		}
	}
	startAll("--new-pool")
	for _, p := range all {
		p.ready()
		p.metric("tracker_members", "3")
	}
	l := startTraffic(t, grpc...)

	l.outage.Store(true)
	for _, p := range all {
		p.signal(os.Kill)
	}
	for _, p := range all {
		p.exit()
	}
	startAll()
	for _, p := range all {
		p.addr("listen_addr")
	}
	up := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	look := func(id node.ID) node.Answer { answer, _, _ := l.reader.Lookup(ctx, id); return answer }
	eventually(t, func() error {
		for i := range lasting {
			if answer := look(lastingNode(i)); answer != node.Found {
				return fmt.Errorf("%s is %v", lastingNode(i), answer)
			}
		}
		return nil
	})
	found := time.Since(up)
	if found > 10*time.Second {
		t.Errorf("all is found again after %v", found)
	}
	eventually(t, func() error {
		if answer := look("nobody"); answer != node.Absent {
			return fmt.Errorf("a node that is nowhere is %v", answer)
		}
		return nil
	})
	open := time.Since(up)
	if silence := 2 * 2 * time.Second; open < silence-time.Second {
		t.Errorf("a miss is ABSENT %v after the start, when no seat may grant for %v", open, silence)
	}
	l.outage.Store(false)
	if err := l.steady.Settled(ctx); err != nil {
		t.Error(err)
	}
	if err := l.steady.Add(ctx, node.Claim{Node: "new"}); err != nil {
		t.Errorf("after the cold start: %v", err)
	}
	l.end()
	t.Logf("all is found again %v after the trackers were up, a miss is ABSENT after %v", found.Round(time.Millisecond), open.Round(time.Millisecond))
}
