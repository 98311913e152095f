package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/bench/load"
)

// replyTime is within which a reply to a batch is there.
const replyTime = 10 * time.Second

// A dialect is what a text protocol calls the operations: each appends commands
// for nodes to out, and their expected replies to want.
type dialect struct {
	add, lookup, together, keep speech
}

type speech func(out, want []byte, nodes []uint32) ([]byte, []byte)

// A textConn speaks a dialect.
type textConn struct {
	dialect
	conn           net.Conn
	out, want, got []byte
}

func dialText(ctx context.Context, addr string, d dialect) (*textConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &textConn{dialect: d, conn: conn}, nil
}

func (c *textConn) Close() { _ = c.conn.Close() } // nothing is under way

func (c *textConn) Add(nodes []uint32) error            { return c.exchange(c.add, nodes) }
func (c *textConn) Lookup(nodes []uint32) error         { return c.exchange(c.lookup, nodes) }
func (c *textConn) LookupTogether(nodes []uint32) error { return c.exchange(c.together, nodes) }
func (c *textConn) Keep(nodes []uint32) error           { return c.exchange(c.keep, nodes) }

// exchange sends commands together, and compares the replies.
func (c *textConn) exchange(say speech, nodes []uint32) error {
	c.out, c.want = say(c.out[:0], c.want[:0], nodes)
	if err := c.conn.SetDeadline(time.Now().Add(replyTime)); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	c.got = slices.Grow(c.got[:0], len(c.want))
	for rest := c.want; len(rest) > 0; {
		n, err := c.conn.Read(c.got[:len(rest)])
		if got := c.got[:n]; err != nil || !bytes.Equal(got, rest[:n]) {
			return fmt.Errorf("asked %.80q the server said %.80q, not %.80q (%v)", c.out, got, rest, err)
		}
		rest = rest[n:]
	}
	return nil
}

// command returns what a server says to a line, to the end of its first line or,
// where until is given, to that.
func (c *textConn) command(line, until string) (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(replyTime)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		return "", err
	}
	var said []byte
	for b := make([]byte, 4096); !bytes.HasSuffix(said, []byte(until)); {
		n, err := c.conn.Read(b)
		if err != nil {
			return "", err
		}
		said = append(said, b[:n]...)
	}
	return string(said), nil
}

// A textServer is what the peers with a text protocol have in common.
type textServer struct {
	server
	dialect
}

func (s *textServer) Dial(ctx context.Context, _ int, _ Use) (Conn, error) {
	return dialText(ctx, loopback(s.port), s.dialect)
}

// loadBatch is the batch in which Load adds nodes.
const loadBatch = 256

// Load adds the nodes with a TTL that outlasts the run.
func (s *textServer) Load(ctx context.Context) error {
	return addAll(ctx, len(s.ids), s.Dial)
}

func addAll(ctx context.Context, n int, dial dialer) error {
	conns, err := DialAll(ctx, load.Proxies, ToAdd, dial)
	if err != nil {
		return err
	}
	defer CloseAll(conns)
	_, err = load.Drive(ctx, load.Plan{Workers: len(conns), Batch: loadBatch}, load.Homed(n, len(conns)),
		func(w int, nodes []uint32) error { return conns[w].Add(nodes) })
	return err
}

// ask sends one command on a connection of its own.
func (s *textServer) ask(ctx context.Context, line, until string) (string, error) {
	c, err := dialText(ctx, loopback(s.port), s.dialect)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.command(line, until)
}

// A dialer is a Peer's Dial.
type dialer = func(ctx context.Context, i int, use Use) (Conn, error)

// DialAll opens so many connections. The caller closes them.
func DialAll(ctx context.Context, n int, use Use, dial dialer) ([]Conn, error) {
	var conns []Conn
	for i := range n {
		c, err := dial(ctx, i, use)
		if err != nil {
			CloseAll(conns)
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// CloseAll closes connections.
func CloseAll(conns []Conn) {
	for _, c := range conns {
		c.Close()
	}
}
