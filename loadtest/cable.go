package loadtest

import (
	"context"
	"errors"
	"net"
	"sync"
)

// A cable is all connections of one proxy, so that they can end at once and without
// a word, as they do when a process dies. The zero cable works. It is safe for
// concurrent use.
type cable struct {
	mu    sync.Mutex // guards the fields below
	conns map[net.Conn]struct{}
	isCut bool
}

var errCut = errors.New("the proxy is dead")

// dial dials over the cable.
func (c *cable) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	plugged := &plug{Conn: conn, cable: c}
	c.mu.Lock()
	cut := c.isCut
	if !cut {
		if c.conns == nil {
			c.conns = make(map[net.Conn]struct{})
		}
		c.conns[plugged] = struct{}{}
	}
	c.mu.Unlock()
	if cut {
		return nil, errors.Join(errCut, conn.Close())
	}
	return plugged, nil
}

// cut ends all connections, and every later one.
func (c *cable) cut() {
	c.mu.Lock()
	conns := c.conns
	c.conns, c.isCut = nil, true
	c.mu.Unlock()
	for conn := range conns {
		_ = conn.Close() // the other side is told by the kernel; there is nobody here to tell
	}
}

// A plug is a connection over a cable.
type plug struct {
	net.Conn
	cable *cable
}

func (p *plug) Close() error {
	p.cable.mu.Lock()
	delete(p.cable.conns, p)
	p.cable.mu.Unlock()
	return p.Conn.Close()
}
