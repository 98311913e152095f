package node

import (
	"errors"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

func TestConfigValidate(t *testing.T) {
	seats := func(ids ...ring.MemberID) [][]ring.MemberID { return [][]ring.MemberID{ids} }
	for _, tt := range []struct {
		name, field string // of the fault; none: valid
		change      func(*Config)
	}{
		{"least", "", func(*Config) {}},
		{"two sets", "", func(c *Config) { c.Pool.Seats = append(seats("a", "b", "c"), seats("a", "b", "c", "d", "e")...) }},
		{"no name", "pool", func(c *Config) { c.Pool.Name = "" }},
		{"no seats", "seats", func(c *Config) { c.Pool.Seats = nil }},
		{"even", "seats", func(c *Config) { c.Pool.Seats = seats("a", "b") }},
		{"twice", "seats", func(c *Config) { c.Pool.Seats = seats("a", "b", "a") }},
		{"unnamed", "seats", func(c *Config) { c.Pool.Seats = seats("") }},
		{"too many in all", "seats", func(c *Config) {
			c.Pool.Seats = append(append(seats("a", "b", "c", "d", "e"), seats("f", "g", "h", "i", "j")...), seats("k")...)
		}},
		{"short term", "term", func(c *Config) { c.Pool.Term = lease.Term(time.Second - 1) }},
		{"long term", "term", func(c *Config) { c.Pool.Term = lease.Term(time.Hour) }},
		{"shards below 0", "shards", func(c *Config) { c.Shards = -1 }},
		{"too many shards", "shards", func(c *Config) { c.Shards = 1<<16 + 1 }},
		{"short interval", "proxy_keep_alive_interval", func(c *Config) { c.KeepAlive = time.Millisecond }},
		{"unary claims below 0", "max_unaries", func(c *Config) { c.MaxUnaries = -1 }},
		{"no clock", "now", func(c *Config) { c.Now = nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Pool: Pool{Name: "test", Seats: seats("t-0")}, Now: time.Now}
			tt.change(&c)
			_, err := New(ring.Member{ID: "t-0", Boot: 1}, c)
			var invalid *InvalidError
			switch {
			case tt.field == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.field != "" && (!errors.As(err, &invalid) || invalid.Field != tt.field):
				t.Errorf("got %v, want an InvalidError for %s", err, tt.field)
			}
		})
	}
}
