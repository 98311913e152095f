package trackerctl

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
)

var update = flag.Bool("update", false, "write the golden files anew")

// patience bounds each wait for something that a healthy pool does in less.
const patience = 30 * time.Second

// A running tracker is one of this process, on ports that it picked itself.
type running struct {
	t    *testing.T
	log  lockedBuffer
	stop context.CancelCauseFunc
	done chan struct{} // closed when it has ended
	err  error         // of its end
}

// A lockedBuffer is a buffer that goroutines may write to.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancelCause(context.Background())
	r := &running{t: t, stop: stop, done: make(chan struct{})}
	all := append([]string{"--pool", "test", "--shards", "64", "--seats", "t-0,t-1,t-2", "--new-pool", "--log-format", "json",
		"--listen-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"}, args...)
	go func() {
		defer close(r.done)
		r.err = trackercmd.Run(ctx, all, &r.log, &r.log)
	}()
	t.Cleanup(func() {
		stop(trackercmd.ErrKilled)
		<-r.done
		if t.Failed() {
			t.Logf("log of tracker %q:\n%s", args, r.log.String())
		}
	})
	return r
}

// addr waits for the line that says where the tracker serves.
func (r *running) addr(kind string) string {
	r.t.Helper()
	var addr string
	eventually(r.t, func() error {
		for line := range strings.Lines(r.log.String()) {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == "tracker serving" {
				addr = fields[kind].(string)
				return nil
			}
		}
		return fmt.Errorf("it is not serving yet:\n%s", r.log.String())
	})
	return addr
}

func eventually(t *testing.T, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", patience, err)
		}
	}
}

// ctl runs a command line.
func ctl(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs lockedBuffer
	err = Run(t.Context(), args, &out, &errs)
	return out.String(), errs.String(), err
}

// variable is what differs from run to run in what a command says.
var variable = []struct {
	pattern *regexp.Regexp
	stands  string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDR"},
	{regexp.MustCompile(`\b1[0-9a-f]{15}\b`), "BOOT"},
	{regexp.MustCompile(`\b\d{13,}\b`), "LIFE"},
	{regexp.MustCompile(`\d+\.\d ms`), "TIME"},
	{regexp.MustCompile(`\b(\d+\.\ds|\d+m\d\ds)\b`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "CLOCK"},
	{regexp.MustCompile(` +`), " "}, // widths of columns go with the above
}

func steady(s string) string {
	for _, v := range variable {
		s = v.pattern.ReplaceAllString(s, v.stands)
	}
	return s
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// A testPool is three trackers, one proxy with claims, and one unary claim.
type testPool struct {
	trackers []*running
	proxy    *pool.Client
	entry    string // address of t-0
	last     int    // of t-1 and t-2 the one that is not drained
}

func startPool(t *testing.T) *testPool {
	t.Helper()
	p := &testPool{last: 1, trackers: []*running{start(t, "--id", "t-0", "--zone", "a")}}
	p.entry = p.trackers[0].addr("listen_addr")
	for i, zone := range []string{"b", "a"} {
		p.trackers = append(p.trackers, start(t, "--id", fmt.Sprint("t-", i+1), "--zone", zone, "--join", p.trackers[0].addr("gossip_addr")))
	}
	var err error
	p.proxy, err = pool.Open(t.Context(), pool.Config{Trackers: []string{p.entry}, Proxy: node.Proxy{ID: "p-1", Addr: "192.0.2.7:3022", Zone: "b"}, CountWait: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.proxy.Close() }) // a test may have removed it
	p.settle(t, 0)
	const claims = 20
	for i := range claims {
		if err := p.proxy.Add(t.Context(), node.Claim{Node: node.ID(fmt.Sprint("n-", i)), Generation: 3}); err != nil {
			t.Fatal(err)
		}
	}
	p.settle(t, 2*claims)
	return p
}

// settle waits until all agree, the proxy too, nothing keeps a shard from opening, and
// there are so many copies: none is left with a former holder.
func (p *testPool) settle(t *testing.T, copies int) {
	t.Helper()
	eventually(t, func() error {
		var m memberList
		if err := p.ask(t, &m, "members"); err != nil {
			return err
		}
		if v := p.proxy.Placement().Fingerprint().String(); v != m.View {
			return fmt.Errorf("the proxy goes by view %s, the trackers by %s", v, m.View)
		}
		left := copies
		for _, e := range m.Members {
			left -= e.Claims
			if !m.Agree || len(m.Members) != 3 || !e.Ready || e.Open < e.Held || e.Held == 0 || e.Sessions != 1 || e.State != "serving" {
				return fmt.Errorf("not settled: %+v", m)
			}
		}
		if left != 0 {
			return fmt.Errorf("not %d copies: %+v", copies, m)
		}
		return nil
	})
}

// ask runs a command at the pool, and reads its JSON.
func (p *testPool) ask(t *testing.T, into any, args ...string) error {
	t.Helper()
	stdout, _, err := ctl(t, append([]string{"--tracker", p.entry, "-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(stdout), into)
}
