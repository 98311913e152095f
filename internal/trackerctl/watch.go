package trackerctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A pulse is a pool at a moment. Rates are since the pulse before.
type pulse struct {
	At       time.Time    `json:"at"`
	Pool     string       `json:"pool"`
	View     string       `json:"view"`
	Agree    bool         `json:"agree"`
	Shards   int          `json:"shards"`
	Held     int          `json:"held"` // copies: a shard at a holder
	InForce  int          `json:"in_force"`
	Open     int          `json:"open"`
	Copies   int          `json:"copies"` // of claims
	Lookups  float64      `json:"lookups_per_second"`
	Changes  float64      `json:"claim_changes_per_second"`
	Unknown  float64      `json:"unknown_per_second"`
	Waiting  []holdup     `json:"holdups"`
	Trackers []pulseEntry `json:"trackers"`
	Error    string       `json:"error"` // no tracker told its view; the rest is empty

	counts map[ring.MemberID]node.Report
}

type pulseEntry struct {
	memberEntry
	Lookups float64 `json:"lookups_per_second"`
	Changes float64 `json:"claim_changes_per_second"`
}

// pulse looks at the pool. before may be nil.
func (f *fleet) pulse(ctx context.Context, now time.Time, before *pulse) *pulse {
	p := &pulse{At: now, Waiting: []holdup{}, Trackers: []pulseEntry{}, counts: map[ring.MemberID]node.Report{}}
	if err := f.refresh(ctx); err != nil {
		p.Error = err.Error()
		return p
	}
	p.Pool, p.Shards, p.Agree = f.info.Pool.Name, f.info.Params.Shards, true
	if f.placed != nil {
		p.View = f.placed.Fingerprint().String()
	}
	answers, err := reports(ctx, f)
	if err != nil {
		p.Error = err.Error()
	}
	for _, a := range answers {
		e := pulseEntry{memberEntry: f.memberEntry(a)}
		if a.err == nil {
			r := a.value
			p.counts[a.from.ID] = r
			p.Agree = p.Agree && e.Agrees
			p.Held, p.InForce, p.Open, p.Copies = p.Held+e.Held, p.InForce+e.InForce, p.Open+e.Open, p.Copies+e.Claims
			p.Waiting = append(p.Waiting, holdupsOf(r)...)
			if before != nil {
				p.rate(&e, r, before)
			}
		}
		p.Trackers = append(p.Trackers, e)
	}
	return p
}

// rate takes the rates of one tracker since the pulse before, where it is the same life.
func (p *pulse) rate(e *pulseEntry, r node.Report, before *pulse) {
	was, ok := before.counts[r.Self.ID]
	passed := p.At.Sub(before.At).Seconds()
	if !ok || was.Self != r.Self || passed <= 0 {
		return
	}
	sum := func(r node.Report) (n uint64) {
		for _, k := range r.Lookups {
			n += k
		}
		return n
	}
	e.Lookups, e.Changes = float64(sum(r)-sum(was))/passed, float64(r.Changes-was.Changes)/passed
	p.Lookups, p.Changes = p.Lookups+e.Lookups, p.Changes+e.Changes
	p.Unknown += float64(r.Lookups[node.Unknown]-was.Lookups[node.Unknown]) / passed
}

func (p *pulse) tables() []grid {
	if p.Error != "" {
		g := grid{}
		g.add(plain(p.At.Format(time.TimeOnly)), toned(bad, p.Error))
		return []grid{g}
	}
	head := grid{}
	head.add(plain(fmt.Sprintf("%s  pool %s, view %s", p.At.Format(time.TimeOnly), p.Pool, p.View)), toned(warning, mark(!p.Agree, "trackers have different views")))
	head.add(plain("open"), openness(p.Open, p.Held), plain("in force"), openness(p.InForce, p.Held),
		plain(fmt.Sprintf("copies of claims %d  lookups %.0f/s, %.0f/s UNKNOWN  changes %.0f/s", p.Copies, p.Lookups, p.Unknown, p.Changes)))
	g := grid{right: []int{5, 6, 7, 8, 9, 10},
		header: []string{"tracker", "zone", "state", "seat", "ready", "in force", "open", "claims", "sessions", "lookups/s", "changes/s"}}
	for _, e := range p.Trackers {
		if e.Error != "" {
			g.addShort(plain(string(e.ID)), dash(e.Zone), plain(e.State), e.role(), toned(bad, "no answer"))
			continue
		}
		g.add(plain(string(e.ID)), dash(e.Zone), plain(e.State), e.role(), yesNo(e.Ready),
			openness(e.InForce, e.Held), openness(e.Open, e.Held), number(e.Claims), number(e.Sessions), plain(fmt.Sprintf("%.0f", e.Lookups)), plain(fmt.Sprintf("%.0f", e.Changes)))
	}
	notes := grid{}
	for i, h := range p.Waiting {
		if i == 10 {
			notes.add(plain(fmt.Sprintf("and %d more", len(p.Waiting)-i)))
			break
		}
		notes.add(toned(warning, fmt.Sprintf("%s: %d shards wait for %s %s: %s", h.At, h.Shards, h.By, h.ID, h.Why)))
	}
	return withNotes(notes, head, g)
}

// line is a pulse for a log.
func (p *pulse) line() string {
	if p.Error != "" {
		return fmt.Sprintf("%s no tracker answers: %s\n", p.At.Format(time.TimeOnly), strings.ReplaceAll(p.Error, "\n", "; "))
	}
	ready := 0
	for _, e := range p.Trackers {
		ready += count(e.Ready)
	}
	return fmt.Sprintf("%s view %s: %d of %d trackers ready, %d of %d copies open, %d in force, %d claims, "+
		"%.0f lookups/s, %.0f UNKNOWN/s, %.0f changes/s%s%s\n", p.At.Format(time.TimeOnly), p.View, ready, len(p.Trackers), p.Open, p.Held, p.InForce, p.Copies, p.Lookups, p.Unknown, p.Changes,
		mark(!p.Agree, ", views differ"), mark(len(p.Waiting) > 0, fmt.Sprintf(", %d hold-ups", len(p.Waiting))))
}

// show writes a pulse: over the one before on a terminal, and else a line or, in JSON
// and YAML, a document.
func (a *app) show(p *pulse) error {
	switch {
	case a.format == "json":
		return json.NewEncoder(a.stdout).Encode(p)
	case a.format == "yaml":
		if _, err := io.WriteString(a.stdout, "---\n"); err != nil {
			return err
		}
		return a.write(p)
	case !a.live:
		_, err := io.WriteString(a.stdout, p.line())
		return err
	}
	if _, err := io.WriteString(a.stdout, "\x1b[H\x1b[J"); err != nil {
		return err
	}
	return a.write(p)
}

func (a *app) watchCommand() *cobra.Command {
	var every time.Duration
	var times int
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show the pool as it changes, until interrupted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return fmt.Errorf("--interval %v: give 100ms or more", every)
			}
			ctx := cmd.Context()
			f, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer f.close()
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			var last *pulse
			for n := 1; ; n++ {
				p := f.pulse(ctx, time.Now(), last)
				if errors.Is(ctx.Err(), context.Canceled) {
					return nil
				}
				if err := a.show(p); err != nil {
					return err
				}
				if n == times {
					return nil
				}
				last = p
				select {
				case <-ctx.Done():
					return nil
				case <-ticker.C:
				}
			}
		},
	}
	cmd.Flags().DurationVar(&every, "interval", time.Second, "how often to look")
	cmd.Flags().IntVar(&times, "times", 0, "look so many times. Default: until interrupted")
	return cmd
}
