package membership

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

func TestValidate(t *testing.T) {
	good := Config{Pool: "p", Shards: 4096, Term: 10 * time.Second}
	for _, c := range []struct {
		name string
		edit func(*Config)
		want []string // what the error says; none: there is none
	}{
		{"defaults", func(*Config) {}, nil},
		{"all good", func(c *Config) {
			c.BindAddr, c.AdvertiseAddr = "[::1]:0", "tracker-0.trackers"
			c.Join = []string{"a", "a.b:7946", "10.0.0.1", "[fe80::1]:5", "::1", "[::1]"}
			c.Seats = [][]ring.MemberID{ids("a"), ids("a b c")}
		}, nil},
		{"zero", func(c *Config) { *c = Config{} }, []string{"pool", "shards 0", "term 0s"}},
		{"all bad", func(c *Config) {
			*c = Config{
				Pool: strings.Repeat("p", 64), KeyInterval: -1, BindAddr: "localhost:1", AdvertiseAddr: "a:0", Join: []string{"", "a:b", "a:70000"},
				Shards: 1 << 17, Term: time.Microsecond, RejoinInterval: -1, Seats: [][]ring.MemberID{{}, ids("a b a"), {""}},
			}
		}, []string{
			"64 bytes", `host "localhost"`, `advertise address: "a:0"`, `join: ""`, `"a:b"`, `"a:70000"`,
			"shards 131072", "term 1µs", "rejoin interval -1ns", "key interval -1ns", "0 trackers", `"a" is given twice`, "has 0 bytes",
		}},
		{"bind without port", func(c *Config) { c.BindAddr = "10.0.0.1" }, []string{`bind address: "10.0.0.1"`}},
		{"too many seat sets", func(c *Config) { c.Seats = slices.Repeat([][]ring.MemberID{ids("a")}, 5) }, []string{"5 sets"}},
		{"unknown network", func(c *Config) { c.Sockets = machine{} }, []string{"names no host"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.edit(&cfg)
			err := cfg.Validate()
			if err == nil {
				if c.want != nil {
					t.Fatal("no error")
				}
				return
			}
			if c.want == nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestValidateSelf(t *testing.T) {
	if err := validateSelf(someMeta().Member); err != nil {
		t.Error(err)
	}
	err := validateSelf(ring.Member{Boot: maxBoot, Zone: strings.Repeat("z", 64), State: 3, Algorithm: ring.Algorithm + 1})
	for _, want := range []string{"id", "boot", "addr", "zone", "state", "algorithm", "replicas"} {
		if err == nil || !strings.Contains(err.Error(), want+":") && !strings.Contains(err.Error(), want+" ") {
			t.Errorf("error does not name %q:\n%v", want, err)
		}
	}
}

func TestSplitHostPort(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a 1", "a:7": "a 7", "10.0.0.1": "10.0.0.1 1", "10.0.0.1:7": "10.0.0.1 7",
		"::1": "::1 1", "[::1]": "::1 1", "[::1]:7": "::1 7", "": "", ":7": "", "a:": "", "a:0": "", "[a": "", "a:1:2": "",
	} {
		host, port, err := splitHostPort(in, 1)
		got := strings.TrimSpace(host + " " + string(rune('0'+port)))
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestChooseAddr(t *testing.T) {
	for _, c := range []struct{ name, have, want string }{
		{"private IPv4 first", "127.0.0.1 fe80::1 8.8.8.8 fd00::1 10.1.2.3", "10.1.2.3"},
		{"private IPv6", "127.0.0.1 8.8.8.8 fd00::1", "fd00::1"},
		{"public", "::1 fe80::1 8.8.8.8", "8.8.8.8"},
		{"loopback alone", "127.0.0.1 ::1", "127.0.0.1"},
		{"link local alone", "fe80::1", ""},
	} {
		var ips []netip.Addr
		for s := range strings.FieldsSeq(c.have) {
			ips = append(ips, netip.MustParseAddr(s))
		}
		got, ok := chooseAddr(ips)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s: %v, %v; want %q", c.name, got, ok, c.want)
		}
	}
}

func TestAdvertised(t *testing.T) {
	cfg := Config{Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "t-0" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.9")}, nil
	}}
	bound := netip.MustParseAddrPort("10.0.0.1:5")
	for give, want := range map[string]string{"": "10.0.0.1:5", "t-0": "10.0.0.9:5", "t-0:6": "10.0.0.9:6", "1.2.3.4:7": "1.2.3.4:7", "t-1": ""} {
		cfg.AdvertiseAddr = give
		got, err := cfg.advertised(t.Context(), bound)
		if err != nil && want != "" || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v; want %q", give, got, err, want)
		}
	}
}

func TestLogLines(t *testing.T) {
	var records []string
	log := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) { records = append(records, string(b)) }), nil))
	ended := false
	w := &logWriter{log: log, open: func() bool { return !ended }, warned: make(seldom)}
	lines := []string{
		"[DEBUG] memberlist: Stream connection from=1",
		"[WARN] memberlist: Refuting a suspect message (from: a)",
		"[WARN] memberlist: Refuting a suspect message (from: b)",
		"[ERR] memberlist: Decrypt packet failed: no key",
		"[WARN] memberlist: ignoring alive message for 'x': shards differ",
		"no level",
	}
	for _, line := range lines {
		if n, err := w.Write([]byte(line + "\n")); n != len(line)+1 || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	ended = true
	w.Write([]byte("[ERR] memberlist: use of closed connection\n"))
	if got := strings.Join(records, ""); len(records) != 2 || !strings.Contains(got, "from: a") || !strings.Contains(got, "Decrypt") {
		t.Errorf("at warn and above: %q, want the first of each of two kinds", records)
	}
	now := time.Unix(0, 0)
	for i := range 3 * maxKinds {
		if !w.warned.fresh(strings.Repeat("x", i), now) {
			t.Fatalf("kind %d was not new", i)
		}
	}
	if len(w.warned) > maxKinds {
		t.Errorf("%d kinds are kept, want at most %d", len(w.warned), maxKinds)
	}
	if w.warned.fresh(strings.Repeat("x", 3*maxKinds-1), now.Add(repeatAfter-1)) || !w.warned.fresh(strings.Repeat("x", 3*maxKinds-1), now.Add(repeatAfter)) {
		t.Errorf("a kind is not repeated after exactly %v", repeatAfter)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }
