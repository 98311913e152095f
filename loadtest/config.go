package loadtest

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// A Config says what a run does. Where a zero field has a default, its comment says
// so.
type Config struct {
	// Trackers are addresses of a pool that runs already. Without any, Run starts
	// three trackers of its own on loopback, by Start.
	Trackers []string

	// Start starts a tracker; see StartProcess and StartInProcess. InProcess says that
	// it is the latter, so that the memory of trackers cannot be told apart.
	Start     Start
	InProcess bool

	Nodes    int // 1 to 100,000,000
	Proxies  int // 2 to 10,000: a node is looked up from another proxy than its own
	Replicas int // of the pool that Run starts; 1 to 15

	// Connections is how many clients look nodes up, each with a connection of its
	// own to every tracker. By default the proxies themselves do.
	Connections int

	// Duration is how long the mix goes on, at least: it ends after the last event
	// has settled. 0 without events leaves it out.
	Duration time.Duration

	// Rate is how many operations a second the mix offers; 0 for as fast as it goes.
	Rate float64

	// Seed fixes node IDs and the order of operations.
	Seed uint64

	Events []Kind

	// Faults are done to the trackers that Run starts, one after another, each when
	// the one before has healed: see AllFaults. There are four trackers then, with
	// relays in front of them where connections are cut. Not together with Events.
	Faults []Fault

	// QuietTime is for how long lookups are measured before the first of Faults.
	// Default 10 s.
	QuietTime time.Duration

	// Docker runs the trackers in containers, of an image that has this program alone,
	// on a network of their own, in place of Start. It must be linked statically, and
	// be a tracker if its first argument is "tracker".
	Docker bool

	// Term is the term of the pool. Default 10 s.
	Term time.Duration

	// CountWait is how long calls of Add and Remove wait for what they promise; see
	// pool.Config. Default 1 s.
	CountWait time.Duration

	// Progress is told how far the run is. By default nobody is.
	Progress Progress

	// Logger gets what the pool clients log. By default it is dropped.
	Logger *slog.Logger
}

// The seats and shards of the pool that a run starts, and the workload's shares.
const (
	seats  = 3
	shards = 4096

	missPerMille      = 100 // operations of the mix that look up a node that does not exist
	reconnectPerMille = 10  // operations of the mix that move a node to another proxy
)

// A Kind is a kind of event.
type Kind string

// The kinds of events.
const (
	Join         Kind = "join"          // a tracker joins, which is no seat
	Kill         Kind = "kill"          // SIGKILL of a seat, for good
	Restart      Kind = "restart"       // SIGKILL of a tracker, and at once again: of the joiner if a seat was killed, else of a seat
	Leave        Kind = "leave"         // SIGTERM of the tracker that joined last
	RestartProxy Kind = "restart-proxy" // a proxy dies without goodbye, and is at once there again
)

// Validate returns all faults of c, joined.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name        string
		value       int
		least, most int
	}{
		{"nodes", c.Nodes, 1, 100_000_000},
		{"proxies", c.Proxies, 2, 10_000},
		{"replicas", c.Replicas, 1, 15},
		{"connections", c.Connections, 0, 10_000},
	} {
		if f.value < f.least || f.value > f.most {
			errs = append(errs, fmt.Errorf("%s %d: choose %d to %d", f.name, f.value, f.least, f.most))
		}
	}
	if c.Duration < 0 {
		errs = append(errs, fmt.Errorf("duration %v: give a positive one, or 0", c.Duration))
	}
	if !(c.Rate >= 0 && c.Rate <= 10_000_000) {
		errs = append(errs, fmt.Errorf("rate %v: choose up to 10,000,000 a second, or 0 for as fast as it goes", c.Rate))
	}
	if c.Term < 0 {
		errs = append(errs, fmt.Errorf("term %v: give a positive one, or 0 for the default", c.Term))
	}
	if c.QuietTime < 0 {
		errs = append(errs, fmt.Errorf("quiet time %v: give a positive one, or 0 for the default", c.QuietTime))
	}
	if c.CountWait < 0 || c.CountWait > callTime/2 {
		errs = append(errs, fmt.Errorf("count wait %v: choose up to %v, or 0 for the default", c.CountWait, callTime/2))
	}
	if len(c.Trackers) == 0 && c.Start == nil && !c.Docker {
		errs = append(errs, errors.New("trackers: none given, and no way to start one: give one of the two"))
	}
	return errors.Join(append(errs, c.validateEvents(), c.validateFaults())...)
}

// validateEvents plays the events without a pool.
func (c Config) validateEvents() error {
	var errs []error
	joined, killed := 0, 0
	for _, k := range c.Events {
		if len(c.Trackers) > 0 && k != RestartProxy {
			errs = append(errs, fmt.Errorf("event %s: the trackers were not started here: leave out --tracker, or the event", k))
		}
		switch k {
		case Join:
			joined++
		case Kill:
			if killed++; killed > 1 {
				errs = append(errs, errors.New("event kill: a second of three seats leaves no majority: give it once"))
			}
		case Restart:
			if killed > 0 && joined == 0 {
				errs = append(errs, errors.New("event restart: after a kill it needs a tracker that is no seat: give join before it"))
			}
		case Leave:
			if joined--; joined < 0 {
				errs = append(errs, errors.New("event leave: no tracker has joined: give join before it"))
				joined = 0
			}
		case RestartProxy:
		default:
			errs = append(errs, fmt.Errorf("event %q: choose of %s, %s, %s, %s, %s", k, Join, Kill, Restart, Leave, RestartProxy))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Term == 0 {
		c.Term = 10 * time.Second
	}
	if c.QuietTime == 0 {
		c.QuietTime = 10 * time.Second
	}
	if c.CountWait == 0 {
		c.CountWait = time.Second
	}
	if c.Progress == nil {
		c.Progress = quiet{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return c
}

// A Progress is told how far a run is, by one goroutine at a time but for Add.
type Progress interface {
	Phase(name string, total int) // ends the one before; total 0: it is not known
	Add(n int)                    // of the total; may be called by many goroutines
	Note(text string)             // a line worth reading
	End()
}

type quiet struct{}

func (quiet) Phase(string, int) {}
func (quiet) Add(int)           {}
func (quiet) Note(string)       {}
func (quiet) End()              {}
