package trackercmd

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"time"

	"github.com/trackerpool/trackerpool/internal/buildinfo"
	"github.com/trackerpool/trackerpool/node"
)

// drainTold is how often a call that drains is told how far it is.
const drainTold = 200 * time.Millisecond

// Texts of a Debug call.
const (
	DebugVersion    = "version.txt"
	DebugConfig     = "config.yaml"
	DebugMetrics    = "metrics.txt"
	DebugGoroutines = "goroutines.txt"
)

// An operated is a tracker in its process, for those who run the pool.
type operated struct {
	*node.Tracker
	r *runner
}

var _ node.Operator = (*operated)(nil)

// Report is node.Operator's: the tracker's, and what only the process knows.
func (o *operated) Report(ctx context.Context) (node.Report, error) {
	r, err := o.Tracker.Report(ctx)
	if err != nil {
		return r, err
	}
	r.Version, r.Leaving = buildinfo.Read().Line("tracker"), o.r.leaving.Load()
	r.Ready, r.Why = o.r.ready()
	for _, k := range o.r.gossip.Keys() {
		r.Keys = append(r.Keys, string(k))
	}
	return r, nil
}

// Drain is node.Operator's. What it begins is what SIGTERM does.
func (o *operated) Drain(ctx context.Context, force bool, tell func(node.DrainStep) error) error {
	if !o.r.leaving.Load() {
		if err := o.Tracker.Depart(ctx, force); err != nil {
			return err
		}
		o.r.log.Info("an operator drains this tracker", "force", force)
		o.r.fail(nil)
	}
	began := time.Now()
	look := time.NewTicker(drainTold)
	defer look.Stop()
	for {
		step := o.Tracker.Draining()
		step.Elapsed, step.Deadline = time.Since(began), o.r.cfg.drainDeadline
		select {
		case <-o.r.drained:
			step.Done = true
			return tell(step)
		default:
		}
		if err := tell(step); err != nil {
			return err
		}
		select {
		case <-o.r.drained:
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Debug is node.Operator's. The configuration names files of keys, and has none.
// Goroutines come summed up by stack, without arguments.
func (o *operated) Debug(_ context.Context, part func(string, []byte) error) error {
	for _, text := range []struct {
		name  string
		write func(*bytes.Buffer) error
	}{
		{DebugVersion, func(b *bytes.Buffer) error { _, err := fmt.Fprintln(b, buildinfo.Read().Line("tracker")); return err }},
		{DebugConfig, func(b *bytes.Buffer) error {
			return writeFile(b, &o.r.cfg.config, options(), func(opt option) string { return o.r.cfg.where[opt.name] })
		}},
		{DebugMetrics, func(b *bytes.Buffer) error { return o.r.metrics.WriteText(b) }},
		{DebugGoroutines, func(b *bytes.Buffer) error { return pprof.Lookup("goroutine").WriteTo(b, 1) }},
	} {
		var b bytes.Buffer
		if err := text.write(&b); err != nil {
			return fmt.Errorf("%s: %w", text.name, err)
		}
		if err := part(text.name, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
