// Command benchpeers compares a tracker with what users would take instead, on this
// machine, in one run.
//
// It wants the programs tracker and prototype in PATH; of the others it takes those
// that are there. With --report it draws up what an earlier run has measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/trackerpool/trackerpool/bench/report"
	"github.com/trackerpool/trackerpool/bench/suite"
)

// collectAt has this process collect garbage seldom: it shares the machine with the
// servers that it measures.
const collectAt = 400

func main() {
	debug.SetGCPercent(collectAt)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal does not wait
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "benchpeers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("benchpeers", flag.ContinueOnError)
	f.SetOutput(stderr)
	var c suite.Config
	f.IntVar(&c.Nodes, "nodes", 1_000_000, "nodes at each peer")
	f.IntVar(&c.Etcd, "etcd-nodes", 100_000, "nodes at etcd")
	f.IntVar(&c.Unary, "unary-nodes", 100_000, "nodes that are added by unary calls")
	f.IntVar(&c.Rounds, "rounds", 3, "how often each peer has its turn")
	f.DurationVar(&c.Window, "time", time.Second, "of each lookup at saturation, and of what has a rate")
	f.DurationVar(&c.Steady, "steady", 30*time.Second, "for how long each peer's nodes are kept alive, once; 0: not at all")
	f.IntVar(&c.Crowd, "crowd", 1000, "how many proxies keep the tracker's nodes alive, once, beside the ten; 0: not at all")
	f.DurationVar(&c.Hold, "hold", time.Minute, "for how long 256 callers in one client of the tracker go on, once; 0: not at all")
	f.DurationVar(&c.Watch, "watch", time.Second, "for how long the processors are watched before each turn, to tell how busy the machine was")
	f.Float64Var(&c.Rate, "rate", 100_000, "nodes a second at a moderate rate, in batches of 64; at etcd a fiftieth of it")
	f.Float64Var(&c.UnaryRate, "unary-rate", 2000, "unary calls a second at a moderate rate")
	f.Uint64Var(&c.Seed, "seed", 1, "fixes node IDs and the order of lookups")
	peers := f.String("peers", "", "which to compare, with commas; default: all of "+strings.Join(suite.Known, ","))
	jsonFile := f.String("json", "", "file for what was measured, as JSON; with --report the file to read")
	source := f.String("source", "", "what the tracker was built from, for the report")
	draw := f.Bool("report", false, "do not measure: write --page and its plots from --json")
	page := f.String("page", "", "with --report, file of Markdown, whose tables are put in place of its old ones; plots go into a directory beside it")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%q: there are no arguments, only flags", f.Arg(0))
	}
	if *draw {
		r, err := report.Read(*jsonFile)
		if err != nil {
			return err
		}
		return r.WritePage(*page)
	}
	if *peers != "" {
		c.Peers = strings.Split(*peers, ",")
	}
	var err error
	if c.Dir, err = os.MkdirTemp("", "benchpeers-"); err != nil {
		return err
	}
	c.Log = func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	r, err := suite.Run(ctx, c)
	if r == nil {
		return errors.Join(err, os.RemoveAll(c.Dir))
	}
	if v, ok := r.Versions["trackerpool"]; ok && *source != "" {
		r.Versions["trackerpool"] = v + "; of " + *source
	}
	r.Command = "benchpeers " + strings.Join(args, " ")
	if err != nil {
		err = fmt.Errorf("%w (logs of the servers are in %s)", err, c.Dir)
	} else {
		err = os.RemoveAll(c.Dir)
	}
	if *jsonFile != "" {
		err = errors.Join(err, r.Write(*jsonFile))
	}
	return errors.Join(err, r.WriteTables(stdout))
}
