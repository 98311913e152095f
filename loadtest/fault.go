package loadtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Fault is something that is done to trackers while the mix goes on.
type Fault struct {
	Kind   FaultKind
	Target string        // ID of a tracker; empty for Roll and CrashAll
	For    time.Duration // how long the cause lasts; not for Roll and CrashAll
}

// A FaultKind is a kind of fault.
type FaultKind string

// The kinds of faults. Connections are those of gRPC; only Isolate cuts gossip too.
const (
	Crash        FaultKind = "crash"         // SIGKILL; after For it starts again
	Freeze       FaultKind = "freeze"        // SIGSTOP; after For SIGCONT
	CutProxies   FaultKind = "cut-proxies"   // all connections of proxies to it end, and every new one
	HangProxies  FaultKind = "hang-proxies"  // nothing passes between proxies and it, and nobody is told
	CutTrackers  FaultKind = "cut-trackers"  // as CutProxies, but connections of other trackers to it
	HangTrackers FaultKind = "hang-trackers" // as HangProxies, but connections of other trackers to it
	Isolate      FaultKind = "isolate"       // its container is disconnected from the network
	Roll         FaultKind = "roll"          // SIGTERM and start of each tracker, each when the one before is ready: a seat grants again then
	CrashAll     FaultKind = "crash-all"     // SIGKILL of all trackers, which start again at once
)

// faultKinds returns all kinds, and which need a target.
func faultKinds() []FaultKind {
	return []FaultKind{Crash, Freeze, CutProxies, HangProxies, CutTrackers, HangTrackers, Isolate, Roll, CrashAll}
}

func (k FaultKind) targeted() bool { return k != Roll && k != CrashAll }

// relayed reports whether the fault is done to a relay, or else to a container.
func (k FaultKind) relayed() bool {
	return slices.Contains([]FaultKind{CutProxies, HangProxies, CutTrackers, HangTrackers}, k)
}

// String returns what ParseFault reads.
func (f Fault) String() string {
	if !f.Kind.targeted() {
		return string(f.Kind)
	}
	return fmt.Sprintf("%s:%s:%v", f.Kind, f.Target, f.For)
}

// ParseFault reads KIND, or KIND:TRACKER:DURATION such as freeze:t-1:15s.
func ParseFault(s string) (Fault, error) {
	parts := strings.Split(s, ":")
	f := Fault{Kind: FaultKind(parts[0])}
	switch {
	case !slices.Contains(faultKinds(), f.Kind):
		return f, fmt.Errorf("fault %q: choose of %q", s, faultKinds())
	case !f.Kind.targeted() && len(parts) != 1:
		return f, fmt.Errorf("fault %q: %s is done to all trackers: give no other", s, f.Kind)
	case !f.Kind.targeted():
		return f, nil
	case len(parts) != 3:
		return f, fmt.Errorf("fault %q: give %s:TRACKER:DURATION", s, f.Kind)
	}
	var err error
	f.Target = parts[1]
	if f.For, err = time.ParseDuration(parts[2]); err != nil {
		return f, fmt.Errorf("fault %q: duration %q: give one such as 15s", s, parts[2])
	}
	return f, nil
}

// AllFaults returns one fault of every kind or more, for a pool with a term: those
// shorter than it and those longer. Three trackers are seats, t-3 is none.
func AllFaults(term time.Duration, docker bool) []Fault {
	short, long := 2*term/5, 3*term/2
	faults := []Fault{
		{Crash, "t-3", 0}, {Crash, "t-1", long},
		{Freeze, "t-3", short}, {Freeze, "t-0", short}, {Freeze, "t-3", long}, {Freeze, "t-0", long},
	}
	each := func(k FaultKind, d time.Duration) {
		for i := range seats + 1 {
			faults = append(faults, Fault{k, fmt.Sprintf("t-%d", i), d})
		}
	}
	if docker {
		each(Isolate, long)
		return append(faults, Fault{Kind: CrashAll})
	}
	each(CutProxies, 6*term/5)
	faults = append(faults, Fault{HangProxies, "t-1", short}, Fault{HangProxies, "t-3", long})
	each(CutTrackers, 6*term/5)
	faults = append(faults, Fault{HangTrackers, "t-2", long})
	return append(faults, Fault{Kind: Roll}, Fault{Kind: CrashAll})
}

// relayed reports whether any fault needs relays in front of the trackers.
func (c Config) relayed() bool {
	return slices.ContainsFunc(c.Faults, func(f Fault) bool { return f.Kind.relayed() })
}

func (c Config) validateFaults() error {
	var errs []error
	if len(c.Faults) == 0 {
		if c.Docker {
			errs = append(errs, errors.New("docker: it is for faults: give some"))
		}
		return errors.Join(errs...)
	}
	if len(c.Trackers) > 0 || len(c.Events) > 0 || c.InProcess {
		errs = append(errs, errors.New("faults: they are done to trackers of this run's own, which are processes, and not together with events: leave out --tracker, --in-process, --events"))
	}
	for _, f := range c.Faults {
		if !f.Kind.targeted() {
			continue
		}
		if f.Kind == Isolate && !c.Docker || f.Kind.relayed() && c.Docker {
			errs = append(errs, fmt.Errorf("fault %v: isolate needs containers, cut and hang need processes: change --docker, or leave it out", f))
		}
		if i := slices.Index([]string{"t-0", "t-1", "t-2", "t-3"}, f.Target); i < 0 {
			errs = append(errs, fmt.Errorf("fault %v: tracker %q: choose of t-0, t-1, t-2, which are seats, and t-3", f, f.Target))
		}
		if f.For < 0 || f.For > 10*time.Minute {
			errs = append(errs, fmt.Errorf("fault %v: duration %v: choose 0 to 10m", f, f.For))
		}
	}
	return errors.Join(errs...)
}
