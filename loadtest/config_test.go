package loadtest

import (
	"io"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	start := func([]string, io.Writer) (Process, error) { panic("not called") }
	good := Config{Start: start, Nodes: 10, Proxies: 2, Replicas: 2}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string // part of the error; empty for none
	}{
		{"good", func(*Config) {}, ""},
		{"all events", func(c *Config) { c.Events = []Kind{Join, Kill, Restart, Leave, RestartProxy} }, ""},
		{"restart of a seat", func(c *Config) { c.Events = []Kind{Restart} }, ""},
		{"no nodes", func(c *Config) { c.Nodes = 0 }, "nodes 0"},
		{"one proxy", func(c *Config) { c.Proxies = 1 }, "proxies 1"},
		{"replicas", func(c *Config) { c.Replicas = 16 }, "replicas 16"},
		{"rate", func(c *Config) { c.Rate = -1 }, "rate -1"},
		{"no trackers", func(c *Config) { c.Start = nil }, "trackers"},
		{"unknown event", func(c *Config) { c.Events = []Kind{"flood"} }, `event "flood"`},
		{"two kills", func(c *Config) { c.Events = []Kind{Kill, Kill} }, "event kill"},
		{"leave alone", func(c *Config) { c.Events = []Kind{Leave} }, "event leave"},
		{"more leave than join", func(c *Config) { c.Events = []Kind{Join, Leave, Leave} }, "event leave"},
		{"restart with two seats", func(c *Config) { c.Events = []Kind{Kill, Restart} }, "event restart"},
		{"kill in another's pool", func(c *Config) { c.Trackers, c.Events = []string{"a:1"}, []Kind{Kill} }, "--tracker"},
		{"proxy in another's pool", func(c *Config) { c.Trackers, c.Events = []string{"a:1"}, []Kind{RestartProxy} }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.change(&c)
			err := c.Validate()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want none", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want one with %q", err, tt.want)
			}
		})
	}
}
