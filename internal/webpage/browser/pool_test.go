package browser_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/rpc"
)

// patience bounds each wait for something that a healthy pool does in less.
const patience = 40 * time.Second

var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "page-test-")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "tracker")
	out, err := exec.Command("go", "build", "-C", "../../..", "-o", name, "./cmd/tracker").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build cmd/tracker: %w\n%s", err, out)
	}
	return name, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if name, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(code)
}

// A tracker is a real process on ports of its own choice.
type tracker struct {
	cmd                   *exec.Cmd
	Listen, Gossip, Admin string
	ended                 chan struct{}
}

// start starts a tracker of the pool "demo", whose seats are a, b and c.
func start(t *testing.T, id, zone, join string) *tracker {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--id", id, "--pool", "demo", "--seats", "a,b,c", "--zone", zone, "--new-pool", "--term", "2s",
		"--listen-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--log-format", "json"}
	if join != "" {
		args = append(args, "--join", join)
	}
	p := &tracker{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan struct{})
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var line struct {
				Msg    string `json:"msg"`
				Listen string `json:"listen_addr"`
				Gossip string `json:"gossip_addr"`
				Admin  string `json:"admin_addr"`
			}
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "tracker serving" {
				p.Listen, p.Gossip, p.Admin = line.Listen, line.Gossip, line.Admin
				close(serving)
			}
		}
		_ = p.cmd.Wait() // killed, mostly
	}()
	t.Cleanup(p.kill)
	select {
	case <-serving:
	case <-p.ended:
		t.Fatalf("tracker %s ended", id)
	case <-time.After(patience):
		t.Fatalf("tracker %s does not serve after %v", id, patience)
	}
	return p
}

func (p *tracker) kill() {
	_ = p.cmd.Process.Kill() // it has ended, perhaps
	<-p.ended
}

// claim registers nodes n-0, n-1, ... at a proxy, and looks up one after the other,
// until the test ends.
func claim(t *testing.T, tracker, proxy string, nodes int) {
	t.Helper()
	client, err := pool.Open(t.Context(), pool.Config{
		Trackers:  []string{tracker},
		Proxy:     node.Proxy{ID: node.ProxyID(proxy), Addr: "192.0.2.1:3022"},
		Dial:      func(addr string) (*rpc.Client, error) { return rpc.Dial(addr, rpc.Insecure()) },
		Logger:    slog.New(slog.DiscardHandler),
		CacheSize: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		looking.Wait()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	claims := make([]node.Claim, nodes)
	for i := range claims {
		claims[i].Node = node.ID(fmt.Sprintf("n-%d", i))
	}
	if err := client.Add(t.Context(), claims...); err != nil && !errors.Is(err, node.ErrNotCounted) { // the trackers have only just met
		t.Fatal(err)
	}
	looking.Go(func() {
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for i := 0; ctx.Err() == nil; i = (i + 1) % (2 * nodes) {
			_, _, _ = client.Lookup(ctx, node.ID(fmt.Sprintf("n-%d", i))) // half are not there; this is for the page to show
			<-pace.C
		}
	})
}
