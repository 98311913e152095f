package suite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Config says how much is done.
type Config struct {
	Nodes  int // at each peer, but for etcd
	Etcd   int // nodes at etcd, which costs a hundred times as much
	Unary  int // nodes that are added by unary calls
	Rounds int

	Window time.Duration // of each lookup at saturation, and of what has a rate
	Steady time.Duration // for how long nodes are kept alive, in the last round; 0 leaves it out
	Crowd  int           // how many proxies keep nodes alive beside the ten, in the last round; 0 leaves it out
	Hold   time.Duration // for how long 256 callers go on, in the last round; 0 leaves it out

	Watch time.Duration // for how long the processors are watched before a turn

	Rate      float64 // nodes a second of what is measured at a moderate rate, in batches of 64
	UnaryRate float64 // the same for unary calls

	Seed  uint64
	Peers []string // some of Known; empty for all

	// Dir is for logs and certificates.
	Dir string
	// Log is told what is under way. By default nobody is.
	Log func(format string, args ...any)
}

// Known are the peers that there are, in the order in which they have their turns.
var Known = []string{"trackerpool", "redis", "valkey", "memcached", "etcd", "olric", "prototype"}

// Batches are the sizes of batches at saturation.
var Batches = []int{16, 64, 256}

const (
	rateBatch = 64
	workers   = 10 // connections, one for each proxy
	unaries   = 5  // callers on each of them, where calls are unary

	// renewal is how often nodes are kept alive: a third of the default term.
	renewal = 10 * time.Second / 3
)

// Validate returns all faults of c, joined.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value int
		least int
	}{{"nodes", c.Nodes, 1000}, {"etcd", c.Etcd, 1000}, {"unary", c.Unary, 1000}, {"rounds", c.Rounds, 1}} {
		if f.value < f.least {
			errs = append(errs, fmt.Errorf("%s %d: choose %d or more", f.name, f.value, f.least))
		}
	}
	if c.Etcd > c.Nodes || c.Unary > c.Nodes {
		errs = append(errs, fmt.Errorf("etcd %d, unary %d: choose at most nodes, %d", c.Etcd, c.Unary, c.Nodes))
	}
	if c.Window <= 0 || c.Watch <= 0 || c.Steady < 0 || c.Hold < 0 {
		errs = append(errs, fmt.Errorf("time %v, watch %v, steady %v, hold %v: give positive ones, or 0 for the last two", c.Window, c.Watch, c.Steady, c.Hold))
	}
	if c.Rate <= 0 || c.UnaryRate <= 0 {
		errs = append(errs, fmt.Errorf("rate %v, unary rate %v: give positive ones", c.Rate, c.UnaryRate))
	}
	if c.Crowd < 0 || c.Crowd > 10_000 {
		errs = append(errs, fmt.Errorf("crowd %d: choose up to 10,000, or 0 to leave it out", c.Crowd))
	}
	for _, p := range c.Peers {
		if !slices.Contains(Known, p) {
			errs = append(errs, fmt.Errorf("peer %q: choose of %s", p, strings.Join(Known, ", ")))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if len(c.Peers) == 0 {
		c.Peers = Known
	}
	if c.Log == nil {
		c.Log = func(string, ...any) {}
	}
	return c
}
