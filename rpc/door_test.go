package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/node"
)

func look(t *testing.T, c *Client) error {
	t.Helper()
	_, _, err := c.GetProxies(t.Context(), "n")
	return err
}

// until calls again and again until it goes well.
func until(t *testing.T, what string, call func() error) {
	t.Helper()
	var err error
	eventually(t, what, func() bool { err = call(); return err == nil })
}

func TestMostConnections(t *testing.T) {
	server, addr := serve(t, drained(nil), WithLimits(Limits{Connections: 2}))
	first, second, third := dial(t, addr, Insecure()), dial(t, addr, Insecure()), dial(t, addr, Insecure())
	for _, c := range []*Client{first, second} {
		if err := look(t, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := look(t, third); !errors.Is(err, node.ErrUnavailable) {
		t.Errorf("the third: %v, want ErrUnavailable", err)
	}
	if full, _, _ := server.Refused(); full == 0 {
		t.Error("no connection was counted as refused")
	}
	if err := errors.Join(look(t, first), look(t, second)); err != nil {
		t.Errorf("those that are in: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the third is in when the first has gone", func() error { return look(t, third) })
}

// A handshake that does not end keeps others out for as long as it may take, and is
// then dropped; so is a connection in plain text that says nothing.
func TestHandshakesThatDoNotEnd(t *testing.T) {
	ca := newSecured(t)
	limits := WithLimits(Limits{Handshakes: 1, HandshakeTime: 300 * time.Millisecond})
	_, secure := serve(t, drained(nil), WithServerCredentials(ca.server(t, "t-0")), limits)
	_, plain := serve(t, drained(nil), limits)
	for name, addr := range map[string]string{"TLS": secure, "plain text": plain} {
		mute, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer mute.Close()
		if _, err := mute.Write([]byte{0x16}); err != nil {
			t.Fatal(err)
		}
		if err := mute.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, mute); err != nil {
			if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
				t.Errorf("%s: a connection that says nothing is still open", name)
			}
		}
	}
	c := dial(t, secure, ca.client(t, access.Proxy, "p"))
	until(t, "others are in", func() error { return look(t, c) })
}

func TestMostStreamsOfAConnection(t *testing.T) {
	_, addr := serve(t, drained(nil), WithLimits(Limits{Streams: 2}))
	c := dial(t, addr, Insecure())
	var cancels []context.CancelFunc
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cancels = append(cancels, cancel)
		if _, err := c.FindStream(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// The client learns of the limit with the first answer of the connection.
	eventually(t, "a third call waits", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, _, err := c.GetProxies(ctx, "n")
		return errors.Is(err, context.DeadlineExceeded)
	})
	cancels[0]()
	if err := look(t, c); err != nil {
		t.Errorf("after one of them: %v", err)
	}
}

func TestMostOfOneIdentity(t *testing.T) {
	ca := newSecured(t)
	_, addr := serve(t, holding{drained(nil)}, WithServerCredentials(ca.server(t, "t-0")), WithIdentities(ca.identities),
		WithLimits(Limits{ConnectionsPerIdentity: 2, CallsPerIdentity: 3, SessionsPerIdentity: 1}))
	creds, others := ca.client(t, access.Proxy, "p"), ca.client(t, access.Proxy, "q")
	a, b, c := dial(t, addr, creds), dial(t, addr, creds), dial(t, addr, creds)
	if err := errors.Join(look(t, a), look(t, b)); err != nil {
		t.Fatal(err)
	}
	if err := look(t, c); !errors.Is(err, node.ErrUnavailable) {
		t.Errorf("a third connection: %v, want ErrUnavailable", err)
	}
	if err := look(t, dial(t, addr, others)); err != nil {
		t.Errorf("another identity's: %v", err)
	}

	overloaded := func(what string, err error) {
		t.Helper()
		if overload, ok := errors.AsType[*node.OverloadError](err); !ok || overload.After <= 0 {
			t.Errorf("%s: got %v, want an OverloadError that says when to come back", what, err)
		}
	}
	hello := func(c *Client, proxy string) (*node.TrackerFrame, error) {
		s, err := c.Session(t.Context())
		if err != nil {
			return nil, err
		}
		f := &node.ProxyFrame{Hello: &node.Hello{Proxy: node.Proxy{ID: node.ProxyID(proxy), Addr: "a:1"}, Incarnation: node.Incarnation{Number: 1, Random: 1}}}
		if err := s.Send(f); err != nil && !errors.Is(err, errStreamEnded) {
			return nil, err
		}
		return s.Recv()
	}
	if _, err := hello(a, "p"); err != nil {
		t.Fatal(err)
	}
	_, err := hello(b, "p")
	overloaded("a second session", err)
	for range 2 { // with the session three calls
		s, err := a.FindStream(t.Context())
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	overloaded("a fourth call", look(t, b))
	if err := look(t, dial(t, addr, others)); err != nil {
		t.Errorf("another identity's call: %v", err)
	}
}

// holding is a service whose streams answer once, and then go on.
type holding struct{ *service }

func (holding) Session(ctx context.Context, s node.SessionStream) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	return errors.Join(s.Send(&node.TrackerFrame{Ack: 1}), wait(ctx))
}

func (holding) Find(ctx context.Context, s node.FindStream) error {
	return errors.Join(s.Send(&node.FindReply{}), wait(ctx))
}

func wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestIdleConnectionsAreClosed(t *testing.T) {
	_, addr := serve(t, drained(nil), WithLimits(Limits{IdleTime: 100 * time.Millisecond}))
	c := dial(t, addr, Insecure())
	if err := look(t, c); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is closed", func() bool { return c.conn.GetState() == connectivity.Idle })
	if err := look(t, c); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// Who does not read what is sent is closed, and what was sent to him ends.
func TestClientsThatDoNotRead(t *testing.T) {
	ended := make(chan error, 1)
	svc := &service{getProxies: absent, find: func(_ context.Context, s node.FindStream) error {
		for {
			if err := s.Send(&node.FindReply{Answers: make(node.Answers, 1<<14)}); err != nil {
				ended <- err
				return err
			}
		}
	}}
	server, addr := serve(t, svc, WithLimits(Limits{SendTime: 200 * time.Millisecond}))
	if _, err := dial(t, addr, Insecure()).FindStream(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended without an error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the stream still waits for its client")
	}
	if _, slow, _ := server.Refused(); slow != 1 {
		t.Errorf("%d connections were counted as slow, want 1", slow)
	}
	if err := look(t, dial(t, addr, Insecure())); err != nil {
		t.Errorf("others: %v", err)
	}
}
