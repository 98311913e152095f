package freeport

import (
	"net"
	"testing"
)

func TestLoopback(t *testing.T) {
	addrs, err := Loopback(50)
	if err != nil {
		t.Fatal(err)
	}
	if len(addrs) != 50 {
		t.Fatalf("%d addresses, want 50", len(addrs))
	}
	for _, a := range addrs { // all at once: none is given twice
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		u, err := net.ListenPacket("udp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
	}
}
