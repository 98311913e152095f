package pool

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/trackerpool/trackerpool/internal/clock"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

// A Config says how a Client finds its pool and who it is. A zero field means the
// default in its comment.
type Config struct {
	// Trackers are addresses, host:port, of any one or more trackers. They are
	// asked for the view at the start, and again when no tracker of the view
	// answers.
	Trackers []string

	// Proxy is whose claims this client makes. Without an ID the client is a
	// reader alone: Add and Remove fail.
	Proxy node.Proxy

	// Pool is the name that the pool must have; empty for any.
	Pool string

	// Dial opens a connection to a tracker without waiting for it. By default it is
	// rpc.Dial in plain text; give one with credentials outside of tests.
	Dial func(addr string) (*rpc.Client, error)

	// CountWait is how long Add waits for claims to be counted, and Remove for a
	// removal to be sure, before they return ErrNotCounted and ErrNotRemoved.
	// Default 1 s.
	CountWait time.Duration

	// CacheFound and CacheAbsent are how long after its question an answer FOUND or
	// ABSENT is used again. Default 1 s and 200 ms.
	CacheFound, CacheAbsent time.Duration

	// CacheSize is how many answers are kept; negative for none. Default 65,536.
	CacheSize int

	// QueueLimit is how many changes may wait to be sent to one tracker; Add and
	// Remove wait while it is reached. At most some 72 bytes each. Default 131,072.
	QueueLimit int

	// HedgeBudget is which share of lookups may ask a second holder because the
	// first is slow; negative for none. Default 0.05.
	HedgeBudget float64

	// Drop is asked when somebody else wants this proxy to drop claims, and says why.
	// It returns those that the proxy keeps; the client removes the others. It may
	// take its time, and call the client. By default all are kept.
	Drop func(ids []node.ID, why string) (keep []node.ID)

	// Metrics is told what happens. By default nobody is.
	Metrics Metrics

	// Logger gets a line per change of view and per lost session. Default
	// slog.Default().
	Logger *slog.Logger

	// Now is the clock by which leases are counted. By default it counts the time
	// for which the machine was suspended. For simulations.
	Now func() time.Time
}

// Validate returns all faults of c, joined.
func (c Config) Validate() error {
	var errs []error
	if len(c.Trackers) == 0 {
		errs = append(errs, errors.New("trackers: none given: give the address of at least one"))
	}
	if c.Proxy.ID != "" {
		if err := node.CheckProxy(c.Proxy); err != nil {
			errs = append(errs, err)
		}
	} else if c.Proxy != (node.Proxy{}) {
		errs = append(errs, &node.InvalidError{Field: "proxy_id", Problem: "is empty, but other fields of the proxy are given; give an ID, or none of them for a reader"})
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"count wait", c.CountWait}, {"cache found", c.CacheFound}, {"cache absent", c.CacheAbsent}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s %v: give a positive duration, or 0 for the default", d.name, d.value))
		}
	}
	if c.QueueLimit < 0 {
		errs = append(errs, fmt.Errorf("queue limit %d: give a positive number, or 0 for the default", c.QueueLimit))
	}
	if c.HedgeBudget > 1 {
		errs = append(errs, fmt.Errorf("hedge budget %v: give a share of at most 1", c.HedgeBudget))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	def(&c.CountWait, time.Second)
	def(&c.CacheFound, time.Second)
	def(&c.CacheAbsent, 200*time.Millisecond)
	def(&c.CacheSize, 1<<16)
	def(&c.QueueLimit, 1<<17)
	def(&c.HedgeBudget, 0.05)
	if c.Dial == nil {
		c.Dial = func(addr string) (*rpc.Client, error) { return rpc.Dial(addr, rpc.Insecure()) }
	}
	if c.Drop == nil {
		c.Drop = func(ids []node.ID, _ string) []node.ID { return ids }
	}
	if c.Metrics == nil {
		c.Metrics = noMetrics{}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = clock.Now
	}
	return c
}

// def sets v to its default where it is zero.
func def[T comparable](v *T, to T) {
	if *v == *new(T) {
		*v = to
	}
}
