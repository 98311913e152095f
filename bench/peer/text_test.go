package peer

import (
	"context"
	"net"
	"strings"
	"testing"
)

// answering returns the address of a server that says the same to whoever comes.
func answering(t *testing.T, reply string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 4096)); err == nil {
			_, _ = conn.Write([]byte(reply))
		}
	}()
	return l.Addr().String()
}

func TestAnswersAreChecked(t *testing.T) {
	ids := []string{"n0", "n1"}
	for _, tt := range []struct {
		name, reply, fault string
		peer               dialect
	}{
		{"redis, right", "$8\r\nproxy-00\r\n$8\r\nproxy-01\r\n", "", newResp("", "", "", ids).dialect},
		{"redis, another proxy", "$8\r\nproxy-00\r\n$8\r\nproxy-07\r\n", "proxy-07", newResp("", "", "", ids).dialect},
		{"redis, a miss", "$8\r\nproxy-00\r\n$-1\r\n", "$-1", newResp("", "", "", ids).dialect},
		{"redis, an error", "-ERR no\r\n", "-ERR no", newResp("", "", "", ids).dialect},
		{"memcached, right", "VA 8\r\nproxy-00\r\nVA 8\r\nproxy-01\r\n", "", NewMemcached("", ids).(*memcached).dialect},
		{"memcached, a miss", "VA 8\r\nproxy-00\r\nEN\r\n", "EN", NewMemcached("", ids).(*memcached).dialect},
	} {
		c, err := dialText(context.Background(), answering(t, tt.reply), tt.peer)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Lookup([]uint32{0, 1})
		c.Close()
		if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.fault)
		}
	}
}

func TestFigure(t *testing.T) {
	const text = "# HELP a b\nused_memory:1234\nSTAT bytes 77\ngo_bytes 1.5e+06\n"
	for name, want := range map[string]int64{"used_memory": 1234, "STAT bytes": 77, "go_bytes": 1_500_000} {
		if got, err := figure(text, name); got != want || err != nil {
			t.Errorf("%s is %d, %v; want %d", name, got, err, want)
		}
	}
	if _, err := figure(text, "memory"); err == nil {
		t.Error("there is no line that begins with memory, but a figure")
	}
}
