package loadtest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// relayDialTime is after how long a relay gives up reaching what it relays to.
const relayDialTime = 5 * time.Second

// A relay passes TCP connections on to an address until it is told not to. It is
// safe for concurrent use.
type relay struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	isCut bool
	flows chan struct{} // closed unless the relay hangs
	conns map[net.Conn]struct{}
}

// newRelay returns a relay on loopback.
func newRelay(to string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l, to: to, flows: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	close(r.flows)
	r.wg.Go(r.serve)
	return r, nil
}

func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) serve() {
	for {
		conn, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // of one connection, or too many open files: others may do better
			time.Sleep(relayDialTime / 1000)
			continue
		}
		r.wg.Go(func() { r.pass(conn) })
	}
}

// pass relays one connection, and returns when it has ended.
func (r *relay) pass(in net.Conn) {
	if !r.take(in) {
		return
	}
	defer r.reset(in)
	<-r.flowing()
	out, err := net.DialTimeout("tcp", r.to, relayDialTime)
	if err != nil || !r.take(out) {
		return
	}
	defer r.reset(out)
	var wg sync.WaitGroup
	wg.Go(func() { r.stream(out, in) })
	r.stream(in, out)
	wg.Wait()
}

// stream copies from one connection to the other, and ends both.
func (r *relay) stream(to, from net.Conn) {
	for {
		// A deadline is how hang interrupts a copy that the kernel does.
		_, err := io.Copy(to, from)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		<-r.flowing()
	}
	r.reset(to)
	r.reset(from)
}

// take notes a connection, or ends it and reports false where the relay is cut.
func (r *relay) take(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isCut {
		abort(conn)
		return false
	}
	r.conns[conn] = struct{}{}
	select {
	case <-r.flows:
	default:
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
	return true
}

func (r *relay) reset(conn net.Conn) {
	r.mu.Lock()
	delete(r.conns, conn)
	r.mu.Unlock()
	abort(conn)
}

// abort ends a connection as a crash does. It may have ended already.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (r *relay) flowing() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flows
}

// cut ends all connections, and every later one as soon as it is made.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isCut = true
	for conn := range r.conns {
		abort(conn)
	}
}

// hang holds back all that is sent, without a word, as a network does that loses
// every packet. What is being copied may still pass.
func (r *relay) hang() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flows = make(chan struct{})
	for conn := range r.conns {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// heal ends cut and hang: what was held back goes on.
func (r *relay) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isCut = false
	for conn := range r.conns {
		_ = conn.SetReadDeadline(time.Time{})
	}
	select {
	case <-r.flows:
	default:
		close(r.flows)
	}
}

// close ends the relay and all its connections.
func (r *relay) close() error {
	err := r.listener.Close()
	r.cut()
	r.mu.Lock()
	select {
	case <-r.flows:
	default:
		close(r.flows)
	}
	r.mu.Unlock()
	r.wg.Wait()
	return err
}
