package trackercmd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/devcerts"
	"github.com/trackerpool/trackerpool/internal/trackercmd"
	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/rpc"
)

// certs makes certificates for a pool, into files.
type certs struct {
	*testing.T
	*devcerts.Authority
	identities access.Identities
}

func newCerts(t *testing.T) certs {
	t.Helper()
	ids, err := access.ParseIdentities(access.DefaultRule)
	if err != nil {
		t.Fatal(err)
	}
	a, err := devcerts.Open(t.TempDir(), ids, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return certs{t, a, ids}
}

func (c certs) files(role access.Role, name string) rpc.TLSFiles {
	c.Helper()
	pair, err := c.Issue(role, name, nil, time.Hour)
	if err != nil {
		c.Fatal(err)
	}
	return rpc.TLSFiles{KeyPairs: []rpc.KeyPair{rpc.KeyPair(pair)}, CAFile: c.CAFile(), Identities: &c.identities}
}

// flags are those of a tracker that shows a certificate.
func (c certs) flags(files rpc.TLSFiles) []string {
	pair := files.KeyPairs[0]
	return []string{"--https-keypairs", pair.CertFile + "," + pair.KeyFile, "--ca-file", c.CAFile(), "--client-ca-file", c.CAFile()}
}

func (c certs) tracker(id string) []string { return c.flags(c.files(access.Tracker, id)) }

func (c certs) dial(addr string, files rpc.TLSFiles) *rpc.Client {
	c.Helper()
	creds, err := rpc.ClientCredentials(files, nil)
	if err != nil {
		c.Fatal(err)
	}
	client, err := rpc.Dial(addr, creds)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { client.Close() })
	return client
}

// open returns a proxy's client, or a reader's for an empty ID.
func (c certs) open(addr, proxy string, files rpc.TLSFiles) *pool.Client {
	c.Helper()
	creds, err := rpc.ClientCredentials(files, nil)
	if err != nil {
		c.Fatal(err)
	}
	cfg := pool.Config{Trackers: []string{addr}, CacheSize: -1, CountWait: patience, Dial: func(addr string) (*rpc.Client, error) { return rpc.Dial(addr, creds) }}
	if proxy != "" {
		cfg.Proxy = node.Proxy{ID: node.ProxyID(proxy), Addr: "192.0.2.1:3022"}
	}
	client, err := pool.Open(c.Context(), cfg)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { client.Close() })
	return client
}

// With certificates of roles a joiner learns the seats, the trackers give each other
// their word, and proxies speak for themselves alone.
func TestRoles(t *testing.T) {
	ca := newCerts(t)
	seat := start(t, flags("t-0", append(ca.tracker("t-0"), "--seats", "t-0", "--new-pool")...)...)
	seat.ready()
	joiner := start(t, flags("t-1", append(ca.tracker("t-1"), "--join", seat.addr("gossip_addr"))...)...)
	joiner.ready()
	joiner.metric(`tracker_shards{state="open"}`, "64")
	seat.metric(`tracker_shards{state="open"}`, "64")
	addr := seat.addr("listen_addr")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	proxy := ca.files(access.Proxy, "p-1")
	owner := ca.open(addr, "p-1", proxy)
	if err := owner.Add(ctx, node.Claim{Node: "n"}); err != nil {
		t.Fatal(err)
	}
	reader := ca.open(joiner.addr("listen_addr"), "", ca.files(access.Reader, "r"))
	if answer, claims, err := reader.Lookup(ctx, "n"); err != nil || answer != node.Found || claims[0].Proxy.ID != "p-1" {
		t.Errorf("a reader's lookup: %v, %v, %v", answer, claims, err)
	}
	thief := ca.dial(addr, ca.files(access.Proxy, "p-2"))
	denied := func(what string, err error) {
		t.Helper()
		if _, ok := errors.AsType[*node.DeniedError](err); !ok {
			t.Errorf("%s: got %v, want a DeniedError", what, err)
		}
	}
	denied("another proxy's RemoveProxy", thief.RemoveProxy(ctx, "p-1", 0))
	_, err := thief.AddNode(ctx, node.Claim{Node: "n", Proxy: node.Proxy{ID: "p-1", Addr: "192.0.2.66:1"}})
	denied("another proxy's AddNode", err)
	denied("another proxy's Hello", hello(ctx, thief, "p-1"))
	_, err = ca.dial(addr, ca.files(access.Operator, "o-1")).AddNode(ctx, node.Claim{Node: "n", Proxy: node.Proxy{ID: "p-1", Addr: "192.0.2.66:1"}})
	denied("an operator's AddNode", err)
	if answer, claims, err := owner.Lookup(ctx, "n"); err != nil || answer != node.Found || len(claims) != 1 || claims[0].Proxy.Addr != "192.0.2.1:3022" {
		t.Errorf("after all that: %v, %v, %v", answer, claims, err)
	}
	seat.logged("denied")
	seat.metric("tracker_denied_total", "4")

	if err := ca.dial(addr, ca.files(access.Operator, "o-2")).RemoveProxy(ctx, "p-1", 0); err != nil {
		t.Errorf("an operator's RemoveProxy: %v", err)
	}
}

// With certificates of roles gossip is for trackers that have shown theirs.
func TestGossipIsForTrackers(t *testing.T) {
	ca := newCerts(t)
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(membership.NewKey()+"\n"+membership.NewKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	seat := start(t, flags("t-0", append(ca.tracker("t-0"), "--seats", "t-0", "--new-pool", "--gossip-key-file", keys)...)...)
	seat.ready()
	joiner := start(t, flags("t-1", append(ca.tracker("t-1"), "--join", seat.addr("gossip_addr"), "--gossip-key-file", keys)...)...)
	joiner.ready()
	seat.metric("tracker_members", "2")
	seat.metric("tracker_gossip_keys", "2")
	seat.metric(`tracker_gossip_refused_total{reason="tracker"}`, "0")
	start(t, flags("t-2", "--join", seat.addr("gossip_addr"), "--gossip-key-file", keys)...).logged("waiting for a tracker of the pool to tell the seats; give seats if there is no pool yet")
	line := seat.logged("gossip is refused")
	if why := fmt.Sprint(line["err"]); line["reason"] != "tracker" || !strings.Contains(why, "give all trackers https_keypairs, ca_file and client_ca_file") {
		t.Errorf("gossip is refused for reason %v: %s", line["reason"], why)
	}
	seat.metric("tracker_members", "2")
}

// hello returns how a session that another one's Hello asks for ends.
func hello(ctx context.Context, c *rpc.Client, proxy node.ProxyID) error {
	s, err := c.Session(ctx)
	if err == nil {
		err = s.Send(&node.ProxyFrame{Hello: &node.Hello{Proxy: node.Proxy{ID: proxy, Addr: "192.0.2.66:1"}, Incarnation: node.Incarnation{Number: 1 << 62, Random: 1}}})
	}
	if err == nil {
		_, err = s.Recv()
	}
	return err
}

// A tracker whose certificate is another's is not started, and says what it needs.
func TestTrackerNeedsItsOwnCertificate(t *testing.T) {
	ca := newCerts(t)
	for name, files := range map[string]rpc.TLSFiles{"another tracker's": ca.files(access.Tracker, "t-1"), "a proxy's": ca.files(access.Proxy, "t-0")} {
		_, _, result := run(t.Context(), append(loopback(), append(ca.flags(files), "--id", "t-0")...)...)
		want := "spiffe://trackerpool.internal/trackerpool/tracker/t-0"
		if err := <-result; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s certificate: %v, want an error that says %q", name, err, want)
		}
	}
}

// Off loopback the admin address is for operators; the probe address is for all, and
// has no more than they need.
func TestAdminIsForOperators(t *testing.T) {
	ca := newCerts(t)
	p := start(t, flags("t-0", append(ca.tracker("t-0"), "--seats", "t-0", "--new-pool", "--pprof", "--admin-addr", "0.0.0.0:0", "--probe-addr", "0.0.0.0:0",
		"--gossip-addr", "127.0.0.1:0")...)...)
	roots := x509.NewCertPool()
	text, err := os.ReadFile(ca.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(text)
	get := func(role access.Role, path string) (int, error) {
		cfg := &tls.Config{RootCAs: roots, InsecureSkipVerify: true} // the certificate has no address; rpc's clients look at the identity
		if role != access.Nobody {
			pair := ca.files(role, "x").KeyPairs[0]
			cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Certificates = []tls.Certificate{cert}
		}
		transport := &http.Transport{TLSClientConfig: cfg}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get("https://" + port(t, p.addr("admin_addr")) + path)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		return resp.StatusCode, nil
	}
	for _, test := range []struct {
		role access.Role
		want int
	}{{access.Operator, 200}, {access.Reader, 403}, {access.Proxy, 403}, {access.Tracker, 403}, {access.Nobody, 0}} {
		path := "/debug/pprof/cmdline"
		if got, err := get(test.role, path); got != test.want || (err != nil) != (test.want == 0) {
			t.Errorf("%v gets %s: %d, %v; want %d", test.role, path, got, err, test.want)
		}
	}
	probe := "http://" + port(t, p.addr("probe_addr"))
	for path, want := range map[string]int{trackercmd.HealthPath: 200, trackercmd.MetricsPath: 200, "/debug/pprof/": 404, "/": 404} {
		resp, err := http.Get(probe + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("whoever likes gets %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// A name that a stranger has lead to loopback does not make a browser's page a reader.
func TestAdminIsNotForOthersNames(t *testing.T) {
	p := start(t, flags("t-0", "--seats", "t-0", "--new-pool")...)
	for host, want := range map[string]int{"": 200, "localhost": 200, "[::1]:80": 200, "rebound.example:7948": 421, "127.0.0.1.example": 421} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.addr("admin_addr")+trackercmd.HealthPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("host %q: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

// port is the port of an address that is all addresses, on loopback.
func port(t *testing.T, addr string) string {
	t.Helper()
	i := strings.LastIndexByte(addr, ':')
	if i < 0 {
		t.Fatalf("%q is no address", addr)
	}
	return "127.0.0.1" + addr[i:]
}

// At every start the log says what is open to strangers.
func TestInsecureIsSaid(t *testing.T) {
	p := start(t, flags("t-0", "--seats", "t-0", "--new-pool", "--insecure", "--listen-addr", "0.0.0.0:0", "--advertise-addr", "127.0.0.1")...)
	line := p.logged("insecure: whoever reaches these addresses can read where nodes are, and hijack their connections")
	if got := fmt.Sprint(line["addresses"]); got != "[listen_addr=0.0.0.0:0]" {
		t.Errorf("open are %s", got)
	}
	p.ready()
	start(t, flags("t-0", "--seats", "t-0", "--new-pool")...).logged("plain text on loopback: whoever has a process on this machine can read where nodes are, and hijack their connections")
}
