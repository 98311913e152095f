package freeport

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports lie below those that systems give to outgoing connections (Linux: from
// 32768, ip_local_port_range; others: from 49152, RFC 6335), so that no connection
// takes one between two starts.
const (
	firstPort = 16384
	lastPort  = 32767
)

// tries is how many ports may be taken by others.
const tries = 100

// Loopback returns n addresses of 127.0.0.1 whose TCP and UDP ports are free now.
func Loopback(n int) ([]string, error) {
	ports, err := Ports(n)
	if err != nil {
		return nil, err
	}
	addrs := make([]string, n)
	for i, p := range ports {
		addrs[i] = address(p)
	}
	return addrs, nil
}

// Ports returns n ports of 127.0.0.1 that are free now for both TCP and UDP.
func Ports(n int) ([]int, error) {
	var ports []int
	var held []io.Closer
	defer func() {
		for _, h := range held {
			_ = h.Close() // it was opened only to see that its port is free
		}
	}()
	for left := n + tries; len(ports) < n; left-- {
		if left == 0 {
			return nil, errors.New("no port of loopback is free for both TCP and UDP")
		}
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			continue
		}
		held = append(held, l)
		u, err := net.ListenPacket("udp", address(port))
		if err != nil {
			continue
		}
		held = append(held, u)
		ports = append(ports, port)
	}
	return ports, nil
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
