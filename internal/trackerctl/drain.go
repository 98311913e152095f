package trackerctl

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// goneInterval is how often the others are asked whether a tracker has gone.
const goneInterval = 200 * time.Millisecond

// A drained says how a tracker left.
type drained struct {
	Tracker ring.MemberID `json:"tracker"`
	Seconds float64       `json:"seconds"`
	Left    string        `json:"left"` // what was not handed over by its drain deadline
	Gone    bool          `json:"gone"` // the others no longer see it
}

func (d *drained) tables() []grid {
	g := grid{}
	if d.Left == "" {
		g.add(toned(good, fmt.Sprintf("%s has handed over all in %s", d.Tracker, brief(d.Seconds))))
	} else {
		g.add(toned(warning, fmt.Sprintf("%s left at its drain deadline, after %s: %s", d.Tracker, brief(d.Seconds), d.Left)))
	}
	if d.Gone {
		g.add(plain("the others no longer see it"))
	} else {
		g.add(toned(warning, "the others still see it: was it started again by its supervisor?"))
	}
	return []grid{g}
}

// A progress tells how far it is: over the last line on a terminal, and else a line for each
// change.
type progress struct {
	w    io.Writer
	live bool
	last string
}

func (p *progress) tell(s string) {
	switch {
	case p.live:
		fmt.Fprintf(p.w, "\r\x1b[K%s", s)
	case s != p.last:
		fmt.Fprintln(p.w, s)
	}
	p.last = s
}

func (p *progress) done() {
	if p.live && p.last != "" {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func (a *app) drainCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "drain TRACKER",
		Short: "Have a tracker leave the pool and exit, and wait for it",
		Long: `Have a tracker leave the pool and exit, as SIGTERM does, and wait until it has handed
over what it holds. It exits with 0: a supervisor that starts it again all the same
undoes that, so scale a StatefulSet down instead.

It is refused where too few seats that grant, or no other tracker, would be left. The
tracker asks the others: those that leave as well, or do not answer, count as gone.`,
		Args: cobra.ExactArgs(1),
		RunE: a.onPool(func(ctx context.Context, f *fleet, args []string) (document, error) {
			return a.drain(ctx, f, ring.MemberID(args[0]), force)
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also where too few seats, or no other tracker, would be left")
	return cmd
}

func (a *app) drain(ctx context.Context, f *fleet, id ring.MemberID, force bool) (document, error) {
	m, ok := f.info.View.Member(id)
	if !ok {
		return nil, fmt.Errorf("drain %q: no tracker of the view has that ID; see trackerctl members", id)
	}
	c, err := f.client(m.Addr, m.ID)
	if err != nil {
		return nil, err
	}
	p := &progress{w: a.stderr, live: terminal(a.stderr)}
	defer p.done()
	d := &drained{Tracker: id}
	over := false
	err = c.Drain(ctx, force, func(s node.DrainStep) error {
		d.Seconds, d.Left, over = seconds(s.Elapsed), s.Left, s.Done
		if !s.Done {
			p.tell(fmt.Sprintf("%s leaves (%s at most): %s", id, brief(s.Deadline.Seconds()), orElse(s.Left, "all is handed over")))
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("drain %s: %w; the tracker goes on leaving", id, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("drain %s: %w", id, err)
	case !over:
		return nil, fmt.Errorf("drain %s: it ended before it had said that it is done: see its log", id)
	}
	p.tell(fmt.Sprintf("%s is drained; waiting until the others see that it has gone", id))
	d.Gone = f.awaitGone(ctx, m)
	return d, nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// awaitGone waits until the others' view no longer has a tracker.
func (f *fleet) awaitGone(ctx context.Context, m ring.Member) bool {
	if f.info.View.Len() == 1 {
		return true // there is nobody else to ask
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	look := time.NewTicker(goneInterval)
	defer look.Stop()
	for {
		if f.goneFrom(ctx, m) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
	}
}

func (f *fleet) goneFrom(ctx context.Context, m ring.Member) bool {
	for _, other := range f.info.View.Members() {
		if other.ID == m.ID || other.State == ring.Joining {
			continue
		}
		c, err := f.client(other.Addr, other.ID)
		if err != nil {
			continue
		}
		info, err := c.View(ctx, 0)
		if err != nil {
			continue
		}
		_, sees := info.View.Member(m.ID)
		return !sees
	}
	return false
}
