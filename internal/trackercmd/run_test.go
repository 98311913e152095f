package trackercmd_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/trackerpool/trackerpool/internal/buildinfo"
	"github.com/trackerpool/trackerpool/internal/trackercmd"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

const threeSeats = "t-0,t-1,t-2"

func flags(id string, more ...string) []string {
	return append([]string{"--id", id, "--pool", "test", "--shards", "64"}, more...)
}

// startPool starts the three seats of a new pool, and returns when all are ready.
func startPool(t *testing.T) []*process {
	t.Helper()
	seats := []*process{start(t, flags("t-0", "--seats", threeSeats, "--new-pool")...)}
	for _, id := range []string{"t-1", "t-2"} {
		seats = append(seats, start(t, flags(id, "--seats", threeSeats, "--new-pool", "--join", seats[0].addr("gossip_addr"))...))
	}
	for _, p := range seats {
		p.ready()
		p.metric("tracker_members", "3")
	}
	return seats
}

func TestPool(t *testing.T) {
	seats := startPool(t)
	join := seats[1].addr("gossip_addr")

	t.Run("a joiner learns the seats", func(t *testing.T) {
		p := start(t, flags("t-3", "--join", join)...)
		if got := fmt.Sprint(p.logged("seats learnt")["seats"]); got != "[[t-0 t-1 t-2]]" {
			t.Errorf("seats learnt: %s", got)
		}
		p.ready()
		seats[0].metric("tracker_members", "4")
		p.metric(`tracker_shards{state="held"}`, fmt.Sprint(held(t, p)))
		eventually(t, func() error {
			if all, open := held(t, p), value(t, p, `tracker_shards{state="open"}`); all == "0" || all != open {
				return fmt.Errorf("%s shards held, %s open", all, open)
			}
			return nil
		})
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("exit code %d after SIGTERM, want 0", code)
		}
		p.logged("drained")
		seats[0].metric("tracker_members", "3")
	})

	t.Run("a joiner with other parameters is refused", func(t *testing.T) {
		p := start(t, "--id", "t-4", "--pool", "test", "--shards", "128", "--join", join)
		if code := p.exit(); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		if want := `ours 128, theirs 64`; !strings.Contains(p.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, p.log)
		}
	})

	t.Run("the younger of two under one ID stays", func(t *testing.T) {
		older := start(t, flags("t-5", "--join", join)...)
		older.ready()
		younger := start(t, flags("t-5", "--join", join)...)
		if code := older.exit(); code != 1 {
			t.Errorf("exit code %d of the older, want 1", code)
		}
		if want := "superseded"; !strings.Contains(older.log.String(), want) {
			t.Errorf("the older's log does not say %q:\n%s", want, older.log)
		}
		younger.ready()
		younger.signal(os.Interrupt)
		if code := younger.exit(); code != 0 {
			t.Errorf("exit code %d of the younger after SIGINT, want 0", code)
		}
	})
}

func held(t *testing.T, p *process) string { return value(t, p, `tracker_shards{state="held"}`) }

// value is what a metric is now.
func value(t *testing.T, p *process, name string) string {
	t.Helper()
	_, body := p.get(trackercmd.MetricsPath)
	_, rest, ok := strings.Cut(body, "\n"+name+" ")
	if !ok {
		t.Fatalf("no metric %s in:\n%s", name, body)
	}
	line, _, _ := strings.Cut(rest, "\n")
	return line
}

// The first signal waits for what another tracker, which is frozen, would have to
// confirm; the second does not.
func TestSecondSignal(t *testing.T) {
	seat := start(t, flags("t-0", "--seats", "t-0", "--new-pool")...)
	seat.ready()
	other := start(t, flags("t-1", "--join", seat.addr("gossip_addr"))...)
	other.ready()
	addNode(t, other)
	seat.signal(syscall.SIGSTOP)
	other.signal(syscall.SIGTERM)
	other.logged("leaving")
	if status, body := other.get(trackercmd.ReadyPath); status != http.StatusServiceUnavailable || !strings.Contains(body, "leaving") {
		t.Errorf("readyz of a tracker that leaves: %d %s", status, body)
	}
	eventually(t, func() error { // one that comes with the first is no second
		select {
		case <-other.done:
			return nil
		default:
		}
		if err := other.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		return errors.New("the tracker still runs")
	})
	if code := other.exit(); code != 1 {
		t.Errorf("exit code %d after a second signal, want 1", code)
	}
	if want := trackercmd.ErrInterrupted.Error(); !strings.Contains(other.log.String(), want) {
		t.Errorf("the log does not say %q:\n%s", want, other.log)
	}
}

func addNode(t *testing.T, p *process) {
	t.Helper()
	c, err := rpc.Dial(p.addr("listen_addr"), rpc.Insecure())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	claim := node.Claim{Node: "n-1", Proxy: node.Proxy{ID: "p-1", Addr: "192.0.2.1:3022"}}
	if err := c.Add(ctx, claim); err != nil && !errors.Is(err, node.ErrNotCounted) {
		t.Fatal(err)
	}
}

func TestSeatWithoutNewPoolWaits(t *testing.T) {
	p := start(t, flags("t-0", "--term", "1s")...)
	p.logged("this seat says nothing yet, since it may have given its word before it started; what is not found is UNKNOWN until most seats speak. If there was no pool before, start with --new-pool")
	p.ready()
	p.metric("tracker_seat_granting", "1")
}

func TestNewPoolIsIgnoredInAPoolThatRuns(t *testing.T) {
	first := start(t, flags("t-0", "--seats", threeSeats, "--term", "1s", "--new-pool")...)
	join := first.addr("gossip_addr")
	second := start(t, flags("t-1", "--seats", threeSeats, "--term", "1s", "--new-pool", "--join", join)...)
	second.metric("tracker_seat_granting", "1")
	eventually(t, func() error { // a term has gone by when another says so
		p := start(t, flags("t-2", "--seats", threeSeats, "--term", "1s", "--new-pool", "--join", join)...)
		defer func() { p.signal(os.Kill); p.exit() }()
		p.addr("listen_addr")
		if !strings.Contains(p.log.String(), "new_pool is ignored") {
			return errors.New("--new-pool is not ignored")
		}
		return nil
	})
}

func TestNoPoolToLearnFrom(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, stderr, result := run(ctx, append(loopback(), flags("t-1", "--join", "127.0.0.1:1")...)...)
	if _, err := stderr.await("waiting for a tracker of the pool to tell the seats; give seats if there is no pool yet", nil); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-result; err != nil {
		t.Errorf("stopped while it waits: %v, want no error", err)
	}
}

// loopback has addresses that can be used several times at once.
func loopback() []string {
	return []string{"--listen-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--log-format", "json"}
}

func TestKilled(t *testing.T) {
	ctx, kill := context.WithCancelCause(t.Context())
	defer kill(nil)
	_, stderr, result := run(ctx, loopback()...)
	if _, err := stderr.await("tracker serving", nil); err != nil {
		t.Fatal(err)
	}
	kill(trackercmd.ErrKilled)
	if err := <-result; !errors.Is(err, trackercmd.ErrKilled) {
		t.Errorf("Run returned %v, want ErrKilled", err)
	}
	if strings.Contains(stderr.String(), `"leaving"`) {
		t.Errorf("a tracker that was killed left in order:\n%s", stderr)
	}
}

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		name         string
		args         []string
		stdout, fail string // what they contain
	}{
		{"version", []string{"version"}, buildinfo.Read().Line("tracker") + "\n", ""},
		{"version by flag", []string{"--version"}, buildinfo.Read().Line("tracker") + "\n", ""},
		{"config", []string{"config", "--term", "3s"}, "\n# Given by --term\nterm: 3s\n", ""},
		{"help", []string{"--help"}, "--proxy-keep-alive-interval DURATION", ""},
		{"arguments", []string{"t-1"}, "", `unknown command "t-1"`},
		{"unknown flag", []string{"--shard", "3"}, "", "unknown flag: --shard"},
		{"faults", []string{"config", "--term", "3", "--shards", "0"}, "", `shards "0" (--shards)`},
		{"address in use", []string{"--admin-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--listen-addr", "192.0.2.1:1"}, "", `listen_addr "192.0.2.1:1"`},
		{"no certificate", append(loopback(), "--https-keypairs", "no.pem,key.pem", "--identities", "off"), "", "no.pem"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, result := run(t.Context(), tt.args...)
			err := <-result
			if (err == nil) != (tt.fail == "") || err != nil && !strings.Contains(err.Error(), tt.fail) {
				t.Errorf("error %v, want one with %q\n%s", err, tt.fail, stderr)
			}
			if !strings.Contains(stdout.String(), tt.stdout) {
				t.Errorf("stdout has no %q:\n%s", tt.stdout, stdout)
			}
		})
	}
}
