package node

import (
	"fmt"
	"net"
	"strconv"
	"unicode/utf8"
)

// maxTextBytes is the longest address, cluster or zone of a proxy.
const maxTextBytes = 255

// CheckProxy returns an *InvalidError unless p's ID is 1 to MaxIDBytes bytes of
// UTF-8, its address host:port with a port of 1 to 65535, and its address,
// cluster and zone are UTF-8 of at most 255 bytes; cluster and zone may be empty.
func CheckProxy(p Proxy) error {
	if err := CheckProxyID(p.ID); err != nil {
		return err
	}
	if problem := addrProblem(p.Addr); problem != "" {
		return &InvalidError{Field: "proxy_addr", Value: shorten(p.Addr), Problem: problem}
	}
	if problem := textProblem(p.Cluster); problem != "" {
		return &InvalidError{Field: "cluster_name", Value: shorten(p.Cluster), Problem: problem}
	}
	if problem := textProblem(p.Zone); problem != "" {
		return &InvalidError{Field: "zone", Value: shorten(p.Zone), Problem: problem}
	}
	return nil
}

// CheckProxyID returns an *InvalidError where a proxy ID is empty, longer than
// MaxIDBytes or not UTF-8.
func CheckProxyID(id ProxyID) error {
	if problem := idProblem(string(id)); problem != "" {
		return &InvalidError{Field: "proxy_id", Value: shorten(string(id)), Problem: problem}
	}
	return nil
}

func addrProblem(addr string) string {
	if problem := textProblem(addr); problem != "" {
		return problem
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return "is not host:port; give both, and an IPv6 host in brackets"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Sprintf("has no valid port (%q); give a number of 1 to 65535", shorten(port))
	}
	return ""
}

func textProblem(text string) string {
	switch {
	case len(text) > maxTextBytes:
		return "is longer than 255 bytes; shorten it"
	case !utf8.ValidString(text):
		return "is not valid UTF-8; encode it"
	}
	return ""
}
