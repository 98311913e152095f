package node

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckProxy(t *testing.T) {
	good := Proxy{ID: "p-1", Addr: "10.0.0.1:7000", Cluster: "c", Zone: "z"}
	tests := []struct {
		name   string
		change func(*Proxy)
		field  string // that is at fault, or none
	}{
		{"good", func(*Proxy) {}, ""},
		{"no cluster or zone", func(p *Proxy) { p.Cluster, p.Zone = "", "" }, ""},
		{"host name", func(p *Proxy) { p.Addr = "proxy.example:1" }, ""},
		{"IPv6", func(p *Proxy) { p.Addr = "[::1]:65535" }, ""},
		{"empty ID", func(p *Proxy) { p.ID = "" }, "proxy_id"},
		{"long ID", func(p *Proxy) { p.ID = ProxyID(strings.Repeat("p", 256)) }, "proxy_id"},
		{"ID not UTF-8", func(p *Proxy) { p.ID = "\xff" }, "proxy_id"},
		{"no address", func(p *Proxy) { p.Addr = "" }, "proxy_addr"},
		{"no port", func(p *Proxy) { p.Addr = "10.0.0.1" }, "proxy_addr"},
		{"no host", func(p *Proxy) { p.Addr = ":7000" }, "proxy_addr"},
		{"IPv6 without brackets", func(p *Proxy) { p.Addr = "::1:7000" }, "proxy_addr"},
		{"port 0", func(p *Proxy) { p.Addr = "h:0" }, "proxy_addr"},
		{"port too high", func(p *Proxy) { p.Addr = "h:65536" }, "proxy_addr"},
		{"named port", func(p *Proxy) { p.Addr = "h:http" }, "proxy_addr"},
		{"signed port", func(p *Proxy) { p.Addr = "h:+7000" }, "proxy_addr"},
		{"long address", func(p *Proxy) { p.Addr = strings.Repeat("h", 255) + ":1" }, "proxy_addr"},
		{"long cluster", func(p *Proxy) { p.Cluster = strings.Repeat("c", 256) }, "cluster_name"},
		{"zone not UTF-8", func(p *Proxy) { p.Zone = "z\x80" }, "zone"},
	}
	for _, tt := range tests {
		p := good
		tt.change(&p)
		err := CheckProxy(p)
		var invalid *InvalidError
		switch {
		case tt.field == "":
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		case !errors.As(err, &invalid) || invalid.Field != tt.field:
			t.Errorf("%s: got %v, want an *InvalidError for %s", tt.name, err, tt.field)
		}
	}
}
