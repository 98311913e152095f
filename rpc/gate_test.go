package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/devcerts"
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// secured is an authority whose certificates give identities.
type secured struct {
	*devcerts.Authority
	identities access.Identities
}

func newSecured(t testing.TB, rules ...string) secured {
	t.Helper()
	ids, err := access.ParseIdentities(append(rules, access.DefaultRule)...)
	if err != nil {
		t.Fatal(err)
	}
	a, err := devcerts.Open(t.TempDir(), ids, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return secured{a, ids}
}

// files returns those of a new certificate.
func (s secured) files(t testing.TB, role access.Role, name string) TLSFiles {
	t.Helper()
	pair, err := s.Issue(role, name, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return TLSFiles{KeyPairs: []KeyPair{KeyPair(pair)}, CAFile: s.CAFile(), Identities: &s.identities}
}

func (s secured) client(t testing.TB, role access.Role, name string) Credentials {
	t.Helper()
	creds, err := ClientCredentials(s.files(t, role, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

func (s secured) server(t testing.TB, name string) Credentials {
	t.Helper()
	creds, err := ServerCredentials(s.files(t, access.Tracker, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

// drained is a service that takes everything. Its streams read one message.
func drained(hellos chan<- node.Hello) *service {
	return &service{
		getProxies:  absent,
		addNode:     func(node.Claim) (node.Written, error) { return node.Written{}, nil },
		removeNode:  func(node.ID, node.ProxyID) (node.Removed, error) { return node.Removed{}, nil },
		removeProxy: func(node.ProxyID, uint64) error { return nil },
		store:       func(node.StoreRequest) (node.StoreReply, error) { return node.StoreReply{}, nil },
		forget:      func(node.ProxyID, node.Incarnation) error { return nil },
		stay:        func() (node.Staying, error) { return node.Staying{}, nil },
		session: func(_ context.Context, s node.SessionStream) error {
			f, err := s.Recv()
			if err == nil {
				hellos <- *f.Hello
			}
			return err
		},
		find:   func(_ context.Context, s node.FindStream) error { _, err := s.Recv(); return err },
		seat:   func(_ context.Context, s node.SeatStream) error { _, err := s.Recv(); return err },
		copies: func(_ context.Context, s node.CopyStream) error { _, err := s.Recv(); return err },
	}
}

// Each call of the API is made by every role, as itself and as another.
func TestRolesOverTheWire(t *testing.T) {
	ca := newSecured(t)
	hellos := make(chan node.Hello, 100)
	operated := WithOperator(&operator{
		proxies: func(node.ProxyID, int) ([]node.ProxyReport, bool, error) { return nil, false, nil },
		drain:   func(bool, func(node.DrainStep) error) error { return nil },
	})
	server, addr := serve(t, drained(hellos), operated, WithServerCredentials(ca.server(t, "t-0")), WithIdentities(ca.identities), WithLogger(slog.New(slog.DiscardHandler)))
	const own, other = "own", "other"
	claim := func(name string) node.Claim {
		return node.Claim{Node: "n", Proxy: node.Proxy{ID: node.ProxyID(name), Addr: "a:1"}}
	}
	unary := node.UnaryClaim{Node: "n", Proxy: node.Proxy{ID: "p", Addr: "a:1"}}
	calls := []struct {
		name      string
		roles     []access.Role // who may do it as itself
		strangers []access.Role // who may do it as or to another
		call      func(ctx context.Context, c *Client, name string) error
	}{
		{"GetProxies", access.Roles(), access.Roles(), func(ctx context.Context, c *Client, _ string) error { _, _, err := c.GetProxies(ctx, "n"); return err }},
		{"AddNode", []access.Role{access.Proxy}, nil, func(ctx context.Context, c *Client, name string) error {
			_, err := c.AddNode(ctx, claim(name))
			return err
		}},
		{"RemoveNode", []access.Role{access.Proxy, access.Operator}, []access.Role{access.Operator}, func(ctx context.Context, c *Client, name string) error {
			_, err := c.RemoveNode(ctx, "n", node.ProxyID(name))
			return err
		}},
		{"RemoveNode of all", []access.Role{access.Operator}, []access.Role{access.Operator}, func(ctx context.Context, c *Client, _ string) error {
			_, err := c.RemoveNode(ctx, "n", "")
			return err
		}},
		{"RemoveProxy", []access.Role{access.Proxy, access.Operator}, []access.Role{access.Operator}, func(ctx context.Context, c *Client, name string) error {
			return c.RemoveProxy(ctx, node.ProxyID(name), 0)
		}},
		{"Session", []access.Role{access.Proxy}, nil, func(ctx context.Context, c *Client, name string) error {
			s, err := c.Session(ctx)
			return firstAnswer(s, err, &node.ProxyFrame{Hello: &node.Hello{Proxy: claim(name).Proxy, Incarnation: node.Incarnation{Number: 1, Random: 1}}})
		}},
		{"Find", access.Roles(), access.Roles(), func(ctx context.Context, c *Client, _ string) error {
			s, err := c.FindStream(ctx)
			return firstAnswer(s, err, &node.FindRequest{})
		}},
		{"Seat", []access.Role{access.Tracker}, nil, func(ctx context.Context, c *Client, name string) error {
			s, err := c.Seat(ctx)
			return firstAnswer(s, err, &lease.Ask{From: lease.Process{ID: ring.MemberID(name), Boot: 1}})
		}},
		{"Copies", []access.Role{access.Tracker}, nil, func(ctx context.Context, c *Client, name string) error {
			s, err := c.Copies(ctx)
			return firstAnswer(s, err, &node.CopyFrame{From: lease.Process{ID: ring.MemberID(name), Boot: 1}})
		}},
		{"Store", []access.Role{access.Tracker}, []access.Role{access.Tracker}, func(ctx context.Context, c *Client, _ string) error {
			_, err := c.Store(ctx, node.StoreRequest{Claim: unary})
			return err
		}},
		{"Forget", []access.Role{access.Tracker}, []access.Role{access.Tracker}, func(ctx context.Context, c *Client, _ string) error {
			return c.Forget(ctx, "p", node.Incarnation{Number: 1})
		}},
		{"Stay", []access.Role{access.Tracker}, []access.Role{access.Tracker}, func(ctx context.Context, c *Client, _ string) error {
			_, err := c.Stay(ctx)
			return err
		}},
		{"Proxies", []access.Role{access.Operator}, []access.Role{access.Operator}, func(ctx context.Context, c *Client, _ string) error {
			_, _, err := c.Proxies(ctx, "", 1)
			return err
		}},
		{"Drain", []access.Role{access.Operator}, []access.Role{access.Operator}, func(ctx context.Context, c *Client, _ string) error {
			return c.Drain(ctx, false, func(node.DrainStep) error { return nil })
		}},
		{"health", access.Roles(), access.Roles(), func(ctx context.Context, c *Client, _ string) error {
			_, err := grpc_health_v1.NewHealthClient(c.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			return err
		}},
	}
	var denials uint64
	for _, role := range access.Roles() {
		c := dial(t, addr, ca.client(t, role, own), WithShards(testShards))
		for _, call := range calls {
			for name, may := range map[string]bool{own: slices.Contains(call.roles, role), other: slices.Contains(call.strangers, role)} {
				err := call.call(t.Context(), c, name)
				_, denied := errors.AsType[*node.DeniedError](err)
				if denied == may || may && err != nil {
					t.Errorf("%s of %s by %v %q: got %v; may: %t", call.name, name, role, own, err, may)
				}
				if denied {
					denials++
					if status.Code(err) != codes.PermissionDenied {
						t.Errorf("%s: code %v", call.name, status.Code(err))
					}
				}
			}
		}
	}
	if got := server.Denied(); got != denials {
		t.Errorf("%d refusals were counted, want %d", got, denials)
	}
	close(hellos)
	for h := range hellos {
		if want := strings.NewReplacer("{role}", "proxy", "{name}", own).Replace(access.DefaultRule); h.By != want {
			t.Errorf("a Hello is by %q, want %q", h.By, want)
		}
	}
}

// firstAnswer sends one message and returns how the stream then ends, nil if well.
func firstAnswer[In, Out any](s node.Stream[In, Out], err error, m Out) error {
	if err != nil {
		return err
	}
	if err := s.Send(m); err != nil && !errors.Is(err, errStreamEnded) {
		return err
	}
	if _, err = s.Recv(); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// A method that stands in no table is nobody's.
func TestEveryMethodIsGated(t *testing.T) {
	server := NewServer(&service{}, WithOperator(&operator{}))
	defer server.Stop()
	for name, info := range server.GetServiceInfo() {
		for _, m := range info.Methods {
			if method := "/" + name + "/" + m.Name; actionOf(method) == 0 {
				t.Errorf("nobody may call %s: add it to actionOf", method)
			}
		}
	}
	if actionOf("/trackerpool.v1.NodeTracker/New") != 0 {
		t.Error("a method that is not known can be called")
	}
}

// Whoever has no identity is told why, and so is the log, once a second at most.
func TestStrangers(t *testing.T) {
	ca := newSecured(t)
	var log lockedBuffer
	options := []ServerOption{WithIdentities(ca.identities), WithLogger(slog.New(slog.NewTextHandler(&log, nil)))}
	old := makeFiles(t) // certificates without such names
	mixed, err := ServerCredentials(TLSFiles{KeyPairs: old.server.KeyPairs, CAFile: old.server.CAFile}, nil)
	if err != nil {
		t.Fatal(err)
	}
	nameless, err := ClientCredentials(old.client, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, secure := serve(t, &service{getProxies: absent}, append(options, WithServerCredentials(mixed))...)
	_, plain := serve(t, &service{getProxies: absent}, options...)
	for addr, test := range map[string]struct {
		creds Credentials
		says  string
	}{
		secure: {nameless, "none of its names gives an identity here; get one with a name like " + access.DefaultRule},
		plain:  {Insecure(), "none was presented; connect with TLS"},
	} {
		c := dial(t, addr, test.creds)
		for range 3 {
			_, _, err := c.GetProxies(t.Context(), "n")
			if _, ok := errors.AsType[*node.DeniedError](err); !ok || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want a DeniedError that says %q", err, test.says)
			}
		}
	}
	if lines := strings.Count(log.String(), "msg=denied identity=nobody"); lines < 2 {
		t.Errorf("%d refusals are logged, want one or more of each server:\n%s", lines, log.String())
	}
}

// Who dials a tracker wants its certificate, not one for its address.
func TestDialedTrackersProveWhoTheyAre(t *testing.T) {
	ca, elsewhere := newSecured(t), newSecured(t)
	_, addr := serve(t, &service{getProxies: absent}, WithServerCredentials(ca.server(t, "t-0")), WithIdentities(ca.identities))
	impostor, err := ServerCredentials(ca.files(t, access.Proxy, "t-0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, hijacked := serve(t, &service{getProxies: absent}, WithServerCredentials(impostor), WithIdentities(ca.identities))
	_, foreign := serve(t, &service{getProxies: absent}, WithServerCredentials(elsewhere.server(t, "t-0")), WithIdentities(ca.identities))
	creds := ca.client(t, access.Tracker, "t-1")
	for name, test := range map[string]struct {
		addr    string
		tracker ring.MemberID
		ok      bool
	}{
		"any tracker":                       {addr, "", true},
		"the right one":                     {addr, "t-0", true},
		"another one":                       {addr, "t-2", false},
		"a proxy of the same name":          {hijacked, "", false},
		"another authority's, of that name": {foreign, "t-0", false},
	} {
		_, _, err := dial(t, test.addr, creds, WithTracker(test.tracker)).GetProxies(t.Context(), "n")
		if (err == nil) != test.ok {
			t.Errorf("%s: got %v, want success: %t", name, err, test.ok)
		}
	}
	if _, err := ClientCredentials(TLSFiles{Identities: &ca.identities}, nil); err == nil {
		t.Error("identities are taken from any authority of the system")
	}
}

// A client that comes again resumes its session, and is still known; after the
// authority has changed it is not.
func TestResumption(t *testing.T) {
	ca := newSecured(t)
	serverFiles, clientFiles := ca.files(t, access.Tracker, "t-0"), ca.files(t, access.Proxy, "p")
	dir := t.TempDir()
	serverFiles.CAFile = filepath.Join(dir, "clients.crt")
	copyFile(t, ca.CAFile(), serverFiles.CAFile)
	serving, err := ServerCredentials(serverFiles, nil)
	if err != nil {
		t.Fatal(err)
	}
	resumed := make(chan bool, 10)
	_, addr := serve(t, drained(nil), WithServerCredentials(observed{serving, resumed}), WithIdentities(ca.identities))
	dialing, err := ClientCredentials(clientFiles, nil)
	if err != nil {
		t.Fatal(err)
	}
	call := func() error {
		_, err := dial(t, addr, dialing).AddNode(t.Context(), node.Claim{Node: "n", Proxy: node.Proxy{ID: "p", Addr: "a:1"}})
		return err
	}
	for _, want := range []bool{false, true} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
		if got := <-resumed; got != want {
			t.Errorf("the session is resumed: %t, want %t", got, want)
		}
	}

	open := dial(t, addr, dialing)
	stream, err := open.FindStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := open.GetProxies(t.Context(), "n"); err != nil { // it has connected
		t.Fatal(err)
	}
	<-resumed
	copyFile(t, newSecured(t).CAFile(), serverFiles.CAFile)
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(serverFiles.CAFile, later, later); err != nil {
		t.Fatal(err)
	}
	if err := call(); !errors.Is(err, node.ErrUnavailable) {
		t.Errorf("an authority that is no longer trusted lets a client in: %v", err)
	}
	if err := firstAnswer(stream, nil, &node.FindRequest{}); err != nil {
		t.Errorf("a stream from before did not go on: %v", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// observed are credentials that tell whether sessions are resumed.
type observed struct {
	Credentials
	resumed chan<- bool
}

func (o observed) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, auth, err := o.Credentials.ServerHandshake(raw)
	if err == nil {
		o.resumed <- auth.(credentials.TLSInfo).State.DidResume
	}
	return conn, auth, err
}

func (o observed) Clone() Credentials { return o }
