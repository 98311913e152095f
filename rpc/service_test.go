package rpc

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A service does what a test says; whatever the test leaves out panics.
type service struct {
	node.Service
	addNode     func(node.Claim) (node.Written, error)
	removeNode  func(node.ID, node.ProxyID) (node.Removed, error)
	getProxies  func(node.ID) (node.Answer, []node.Claim, error)
	removeProxy func(node.ProxyID, uint64) error
	view        func(ring.Fingerprint) (node.ViewInfo, error)
	watchView   func(context.Context, func(node.ViewSums) error) error
	session     func(context.Context, node.SessionStream) error
	find        func(context.Context, node.FindStream) error
	seat        func(context.Context, node.SeatStream) error
	copies      func(context.Context, node.CopyStream) error
	store       func(node.StoreRequest) (node.StoreReply, error)
	forget      func(node.ProxyID, node.Incarnation) error
	stay        func() (node.Staying, error)
}

func (s *service) AddNode(_ context.Context, c node.Claim) (node.Written, error) { return s.addNode(c) }
func (s *service) RemoveNode(_ context.Context, id node.ID, p node.ProxyID) (node.Removed, error) {
	return s.removeNode(id, p)
}
func (s *service) GetProxies(_ context.Context, id node.ID) (node.Answer, []node.Claim, error) {
	return s.getProxies(id)
}
func (s *service) RemoveProxy(_ context.Context, p node.ProxyID, n uint64) error {
	return s.removeProxy(p, n)
}
func (s *service) View(_ context.Context, fp ring.Fingerprint) (node.ViewInfo, error) {
	return s.view(fp)
}
func (s *service) WatchView(ctx context.Context, changed func(node.ViewSums) error) error {
	return s.watchView(ctx, changed)
}
func (s *service) Session(ctx context.Context, st node.SessionStream) error {
	return s.session(ctx, st)
}
func (s *service) Find(ctx context.Context, st node.FindStream) error   { return s.find(ctx, st) }
func (s *service) Seat(ctx context.Context, st node.SeatStream) error   { return s.seat(ctx, st) }
func (s *service) Copies(ctx context.Context, st node.CopyStream) error { return s.copies(ctx, st) }
func (s *service) Store(_ context.Context, r node.StoreRequest) (node.StoreReply, error) {
	return s.store(r)
}
func (s *service) Forget(_ context.Context, p node.ProxyID, floor node.Incarnation) error {
	return s.forget(p, floor)
}
func (s *service) Stay(context.Context) (node.Staying, error) { return s.stay() }

// serve serves svc on loopback until the test ends.
func serve(t testing.TB, svc node.Service, opts ...ServerOption) (*Server, string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(svc, opts...)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(lis); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return s, lis.Addr().String()
}

func dial(t testing.TB, addr string, creds Credentials, opts ...Option) *Client {
	t.Helper()
	c, err := Dial(addr, creds, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func check(t testing.TB, what string, got, want any, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, got, equally()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// A lockedBuffer is a buffer that a server's goroutines may write to.
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
