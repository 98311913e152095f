package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Config says what is measured. A zero field means the default.
type Config struct {
	// Sizes are the numbers of trackers, 3 to 1,000, sorted; default 3, 10, 30,
	// 100, 300, 500. Gossip has a record of some up to 50, and a formula beyond.
	Sizes []int

	Proxies int    // 2 or more; default 1,000. A tenth of them is shown too
	Nodes   int64  // counted, not held; default 100 million
	Joins   int    // of which moves are means; default 10
	Seed    uint64 // of names and phases

	// Progress is told what is measured next. Default: nobody is.
	Progress func(what string)
}

func (c Config) withDefaults() Config {
	if len(c.Sizes) == 0 {
		c.Sizes = []int{3, 10, 30, 100, 300, 500}
	}
	if c.Proxies == 0 {
		c.Proxies = 1000
	}
	if c.Nodes == 0 {
		c.Nodes = 100_000_000
	}
	if c.Joins == 0 {
		c.Joins = 10
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	return c
}

// Validate returns all fields that are out of range, joined.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if !slices.IsSorted(c.Sizes) || c.Sizes[0] < seatCount || c.Sizes[len(c.Sizes)-1] > 1000 {
		errs = append(errs, fmt.Errorf("sizes %v: give %d to 1,000, sorted", c.Sizes, seatCount))
	}
	if c.Proxies < 2 {
		errs = append(errs, fmt.Errorf("proxies %d: give 2 or more", c.Proxies))
	}
	if c.Nodes < 0 {
		errs = append(errs, fmt.Errorf("nodes %d: give a positive number", c.Nodes))
	}
	if c.Joins < 0 {
		errs = append(errs, fmt.Errorf("joins %d: give a positive number", c.Joins))
	}
	return errors.Join(errs...)
}

// Run measures, computes and returns all figures. It takes about a minute.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	record, err := RecordedGossip()
	if err != nil {
		return nil, err
	}
	r := &run{Config: cfg, report: &Report{}, gossip: record}
	cfg.Progress("messages and placements")
	if r.report.Wire, err = MeasureWire(ctx); err != nil {
		return nil, err
	}
	r.report.Stored = MeasureStored(int(min(cfg.Nodes, 1_000_000)))
	placings := slices.Clone(cfg.Sizes)
	if i, found := slices.BinarySearch(placings, slowestPlacing); !found && 0 < i && i < len(placings) {
		placings = slices.Insert(placings, i, slowestPlacing)
	}
	for _, n := range placings {
		if err := r.placement(n); err != nil {
			return nil, fmt.Errorf("%d trackers: %w", n, err)
		}
	}
	for _, n := range cfg.Sizes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		cfg.Progress(fmt.Sprintf("%d trackers", n))
		if err := errors.Join(r.joins(n), r.loads(n), r.change(n)); err != nil {
			return nil, fmt.Errorf("%d trackers: %w", n, err)
		}
	}
	return r.report, nil
}

type run struct {
	Config
	report *Report
	gossip map[int]Gossip
}

// slowestPlacing is the number of trackers whose placement takes longest: up to it
// package ring asks the library.
const slowestPlacing = 64

func (r *run) placement(n int) error {
	times := r.report.figure("placement-time", "One placement", "ms")
	memory := r.report.figure("placement-memory", "Allocated by one placement", "MiB")
	for _, shards := range []int{lowShards, highShards} {
		p, err := MeasurePlacing(n, shards, r.Seed)
		if err != nil {
			return err
		}
		name := shardsName(shards)
		times.series(name).add(n, float64(p.Time.Microseconds())/1000, false)
		memory.series(name).add(n, p.Bytes/(1<<20), false)
	}
	return nil
}

func shardsName(shards int) string { return short(float64(shards)) + " shards" }

func (r *run) joins(n int) error {
	claims := r.report.figure("join-claims", fmt.Sprintf("Claims sent again when one tracker joins or leaves, %s nodes", short(float64(r.Nodes))), "claims")
	even := r.report.figure("join-evenness", "How uneven shares are", "times the even share")
	shift := r.report.figure("join-shift", "Share of what a join moves that goes between old trackers", "share")
	copies := float64(r.Nodes * replicas)
	for _, shards := range []int{lowShards, highShards} {
		j, err := MeasureJoins(n, shards, r.Joins, r.Seed)
		if err != nil {
			return err
		}
		name := shardsName(shards)
		claims.series(name).add(n, j.Fraction*copies, false)
		even.series("worst join, "+name).add(n, j.Worst, false)
		even.series("fullest tracker, "+name).add(n, j.Fullest, false)
		shift.series(name).add(n, j.Old, false)
	}
	claims.series("even share").add(n, copies/float64(n+1), true)
	claims.series("of that, each proxy").add(n, copies/float64(n+1)/float64(r.Proxies), true)
	c := Costs{Wire: r.report.Wire, Stored: r.report.Stored}
	fill := r.report.figure("join-fill", "CPU of one joiner for the claims sent to it", "s")
	fill.series("one core, at least").add(n, c.Filling(copies/float64(n+1)).Seconds(), true)
	return nil
}

func (r *run) loads(n int) error {
	gossip, err := ComputeGossip(r.gossip, n)
	if err != nil {
		return err
	}
	r.showGossip(n, gossip)
	for _, proxies := range []int{r.Proxies, max(1, r.Proxies/10)} {
		grants, err := MeasureGrants(n, proxies, r.Seed)
		if err != nil {
			return err
		}
		recount, err := MeasureRecount(n, proxies, r.Seed)
		if err != nil {
			return err
		}
		c := Costs{Wire: r.report.Wire, Grants: grants, Gossip: gossip, Recount: recount, Stored: r.report.Stored}
		p := Pool{Trackers: n, Proxies: proxies, Nodes: r.Nodes}
		r.showLoads(p, c, proxies == r.Proxies)
		if proxies == r.Proxies {
			r.showGrants(n, grants, recount)
			r.showHolding(p, c)
		}
	}
	return nil
}

func (r *run) showGossip(n int, g Gossip) {
	computed := n > gossipMeasured
	bytes := r.report.figure("gossip", "Gossip that one tracker sends, quiet", "bytes/s")
	bytes.series("packets").add(n, g.PacketBytes, computed)
	bytes.series("exchanges of all state").add(n, g.StreamBytes, computed)
	seen := r.report.figure("gossip-seen", "Until all have seen it", "s")
	seen.series("a join").add(n, g.JoinSeen.Seconds(), computed)
	seen.series("a crash").add(n, g.CrashSeen.Seconds(), computed)
	r.report.figure("gossip-join", "Gossip that one tracker sends because of one join", "bytes").series("a join").add(n, g.JoinBytes, computed)
}

func (r *run) showGrants(n int, g Grants, recount time.Duration) {
	named := r.report.figure("grants-named", fmt.Sprintf("Proxies that one message names, of %s", short(float64(r.Proxies))), "proxies")
	named.series("Ask").add(n, g.AskContacts, false)
	named.series("Word").add(n, g.WordContacts, false)
	cpu := r.report.figure("grants-cpu", "What grants take to work out", "µs")
	cpu.series("seat: an Ask").add(n, float64(g.Asked.Nanoseconds())/1000, false)
	cpu.series("seat: a Word").add(n, float64(g.Word.Nanoseconds())/1000, false)
	cpu.series("tracker: a Word").add(n, float64(g.Take.Nanoseconds())/1000, false)
	cpu.series("tracker: a session after a Word").add(n, float64(recount.Nanoseconds())/1000, false)
}

func (r *run) showLoads(p Pool, c Costs, all bool) {
	tracker, seat, proxy, burst := p.Tracker(c), p.Seat(c), p.Proxy(c), p.Burst(c)
	n := p.Trackers
	of := proxiesName(p.Proxies)
	bytes := r.report.figure("grants-bytes", "Asks and Words", "bytes/s")
	bytes.series("seat"+of).add(n, seat.Grants.Bytes, true)
	bytes.series("tracker"+of).add(n, tracker.Grants.Bytes, true)
	cores := r.report.figure("cores", "CPU of a quiet process", "cores")
	cores.series("seat"+of).add(n, seat.Sum().Cores, true)
	cores.series("tracker"+of).add(n, tracker.Sum().Cores, true)
	r.report.figure("renewal-burst", "CPU of a tracker when all proxies renew at once", "ms").
		series(short(float64(p.Proxies))+" proxies").add(n, float64(burst.Microseconds())/1000, true)
	if !all {
		return
	}
	cores.series("proxy").add(n, proxy.Sum().Cores, true)
	total := r.report.figure("bytes", "All that a quiet process sends and receives"+of, "bytes/s")
	total.series("seat").add(n, seat.Sum().Bytes, true)
	total.series("tracker").add(n, tracker.Sum().Bytes, true)
	total.series("proxy").add(n, proxy.Sum().Bytes, true)
	parts := r.report.figure("messages", "Messages that a quiet tracker sends and receives"+of, "messages/s")
	parts.series("sessions").add(n, tracker.Sessions.Messages, true)
	parts.series("streams of lookups").add(n, tracker.Finds.Messages, true)
	parts.series("copies of unary claims").add(n, tracker.Copies.Messages, true)
	parts.series("Asks and Words").add(n, tracker.Grants.Messages, true)
	parts.series("Asks and Words, seat").add(n, seat.Grants.Messages, true)
	parts.series("gossip").add(n, tracker.Gossip.Messages, true)
	ends := r.report.figure("messages-proxy", "Messages that a quiet proxy sends and receives", "messages/s")
	ends.series("sessions").add(n, proxy.Sessions.Messages, true)
	ends.series("of them renewals").add(n, 3*renewals()*float64(n), true)
	ends.series("streams of lookups").add(n, proxy.Finds.Messages, true)
}

func (r *run) showHolding(p Pool, c Costs) {
	n, tracker, proxy := p.Trackers, p.AtTracker(c), p.AtProxy(c)
	const mib = 1 << 20
	memory := r.report.figure("memory", fmt.Sprintf("Memory, %s nodes, %s proxies", short(float64(p.Nodes)), short(float64(p.Proxies))), "MiB")
	memory.series("tracker: claims").add(n, tracker.ClaimBytes/mib, true)
	memory.series("tracker: connections").add(n, tracker.ConnBytes/mib, true)
	memory.series("proxy: claims").add(n, proxy.ClaimBytes/mib, true)
	memory.series("proxy: connections").add(n, proxy.ConnBytes/mib, true)
	connections := r.report.figure("connections", "Connections", "connections")
	connections.series("tracker").add(n, float64(tracker.Connections), true)
	connections.series("proxy").add(n, float64(proxy.Connections), true)
	connections.series("whole pool").add(n, float64(n*p.Proxies+n*(n-1)), true)
}

func proxiesName(n int) string { return ", " + short(float64(n)) + " proxies" }

// manyTimes as many proxies show where a change of view takes too long.
const manyTimes = 4

func (r *run) change(n int) error {
	c, err := MeasureChange(n, r.Proxies, r.Seed, nil)
	if err != nil {
		return err
	}
	words := r.report.figure("change-messages", "Messages of one seat for one change of view", "messages")
	words.series("Words").add(n, float64(c.Words), false)
	words.series("Asks").add(n, float64(c.Asks), false)
	words.series("Words of a seat that works in no time").add(n, float64(MostWords(n)), true)
	bytes := r.report.figure("change-bytes", "Bytes of one seat for one change of view", "bytes")
	bytes.series("Asks and Words").add(n, float64(c.Words)*r.report.Wire.Ask.Answer+float64(c.Asks)*r.report.Wire.Ask.Request, true)
	bytes.series("stragglers named in Words").add(n, float64(c.Stragglers)*r.report.Wire.Straggler.Answer, true)
	times := r.report.figure("change-time", "One change of view at one seat", "ms")
	times.series("CPU under the seat's lock"+proxiesName(r.Proxies)).add(n, float64(c.Work.Microseconds())/1000, false)
	settled := "until nobody relies on the old view"
	times.series(settled+proxiesName(r.Proxies)).add(n, float64(c.Settled.Microseconds())/1000, false)
	more := manyTimes * r.Proxies
	if c, err = MeasureChange(n, more, r.Seed, nil); err != nil {
		return err
	}
	times.series(settled+proxiesName(more)).add(n, float64(c.Settled.Microseconds())/1000, false)
	return nil
}

// Write writes scale.csv and a curve of each figure into a directory, which it
// makes if there is none.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	errs := []error{writeFile(filepath.Join(dir, "scale.csv"), r.WriteCSV)}
	for _, f := range r.Figures {
		errs = append(errs, writeFile(filepath.Join(dir, f.Name+".svg"), f.WriteSVG))
	}
	return errors.Join(errs...)
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
