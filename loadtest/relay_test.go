package loadtest

import (
	"io"
	"net"
	"testing"
	"time"
)

// echo serves a listener that says again what it hears.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func TestRelay(t *testing.T) {
	r, err := newRelay(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", r.addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	said := func(conn net.Conn, wait time.Duration) error {
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadFull(conn, make([]byte, 4))
		return err
	}
	say := func(conn net.Conn) {
		if _, err := conn.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
	}
	const long, short = 10 * time.Second, 50 * time.Millisecond

	conn := dial()
	say(conn)
	if err := said(conn, long); err != nil {
		t.Fatalf("a word over the relay: %v", err)
	}
	r.hang()
	say(conn)
	if err := said(conn, short); err == nil { // the copy of the word before had not quite ended
		say(conn)
		if err := said(conn, short); err == nil {
			t.Error("words come although the relay hangs")
		}
	}
	late := dial()
	say(late)
	if err := said(late, short); err == nil {
		t.Error("a word of a new connection came although the relay hangs")
	}
	r.heal()
	for _, c := range []net.Conn{conn, late} {
		if err := said(c, long); err != nil {
			t.Errorf("a word that was held back: %v", err)
		}
	}
	r.cut()
	if err := said(conn, long); err == nil {
		t.Error("a connection goes on after the cut")
	}
	if c, err := net.Dial("tcp", r.addr()); err == nil { // else it ended before it was there
		defer c.Close()
		if said(c, long) == nil {
			t.Error("a new connection goes on after the cut")
		}
	}
	r.heal()
	again := dial()
	say(again)
	if err := said(again, long); err != nil {
		t.Errorf("a word after the relay was healed: %v", err)
	}
	r.hang() // close does not wait for the end of it
}
