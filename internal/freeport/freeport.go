package freeport

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
)

// The ports lie below those that systems give to outgoing connections (Linux: from
// 32768, ip_local_port_range; others: from 49152, RFC 6335), so that no connection
// takes one between two starts.
const (
	firstPort = 16384
	lastPort  = 32767
)

const tries = 100

// Loopback returns n addresses of 127.0.0.1 whose TCP and UDP ports are free now.
func Loopback(n int) ([]string, error) {
	var addrs []string
	var held []io.Closer
	defer func() {
		for _, h := range held {
			_ = h.Close() // it was opened only to see that its port is free
		}
	}()
	for range n + tries {
		if len(addrs) == n {
			return addrs, nil
		}
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort+1))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		held = append(held, l)
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		held = append(held, u)
		addrs = append(addrs, addr)
	}
	if len(addrs) == n {
		return addrs, nil
	}
	return nil, errors.New("no port of loopback is free for both TCP and UDP")
}
