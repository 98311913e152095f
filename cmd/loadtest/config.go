package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/internal/buildinfo"
	"github.com/trackerpool/trackerpool/internal/trackercmd"
	"github.com/trackerpool/trackerpool/loadtest"
)

type config struct {
	load      loadtest.Config
	jsonFile  string
	clientLog string

	simulate bool
	out      string // directory for what --simulate draws
}

// parse reads the flags. It returns nil where they only asked for help.
func parse(args []string, stdout io.Writer) (*config, error) {
	c := &config{}
	var events, faults []string
	var chaos bool
	asked := true
	cmd := &cobra.Command{
		Use:           "loadtest",
		Short:         "Register nodes in a pool of trackers, look them up while trackers come and go, and check every answer",
		Example:       "  loadtest --nodes 1000000 --proxies 10 --events join,kill\n  loadtest --chaos --faults freeze:t-1:15s,crash-all",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(*cobra.Command, []string) error {
			asked = false
			return nil
		},
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.Version = buildinfo.Read().Line(cmd.Name())
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&c.load.Trackers, "tracker", nil, "gRPC address of a tracker of a pool that runs already; may be repeated (default: three trackers of its own)")
	f.BoolVar(&c.load.InProcess, "in-process", false, "run its own trackers in this process; kill and restart are then approximate: a hard stop of goroutines")
	f.IntVar(&c.load.Nodes, "nodes", 1_000_000, "nodes to register")
	f.IntVar(&c.load.Proxies, "proxies", 10, "proxies that the nodes are connected to, 2 or more")
	f.IntVar(&c.load.Replicas, "replicas", 2, "copies of each claim in its own pool")
	f.IntVar(&c.load.Connections, "connections", 0, "clients that look up, each with a connection to every tracker (default: the proxies themselves)")
	f.DurationVar(&c.load.Duration, "duration", 15*time.Second, "how long lookups and reconnects go on, at least: until the last event has settled")
	f.Float64Var(&c.load.Rate, "rate", 10_000, "operations offered a second; 0: as fast as it goes")
	f.Uint64Var(&c.load.Seed, "seed", 1, "fixes the node IDs and the order of operations")
	f.StringSliceVar(&events, "events", nil, "what happens meanwhile, in this order, each when the one before has settled: join, kill, restart, leave, restart-proxy")
	f.BoolVar(&chaos, "chaos", false, "do faults to its own four trackers meanwhile, each when the one before has healed")
	f.StringSliceVar(&faults, "faults", nil, "with --chaos these instead of all, in this order: KIND:TRACKER:DURATION, where kind is crash, freeze, cut-proxies, hang-proxies, cut-trackers, hang-trackers, isolate; or roll, crash-all")
	f.BoolVar(&c.load.Docker, "docker", false, "with --chaos run the trackers in containers, of an image that has this program alone; it must be linked statically")
	f.DurationVar(&c.load.Term, "term", 10*time.Second, "term of its own pool")
	f.DurationVar(&c.load.CountWait, "count-wait", time.Second, "how long a call of Add or Remove waits for what it promises before it counts as not counted")
	f.StringVar(&c.jsonFile, "json", "", "file to write the report to, as JSON; - for stdout")
	f.BoolVar(&c.simulate, "simulate", false, "load no pool: show how the cost of one grows with its trackers, proxies and nodes, in about a minute")
	f.StringVar(&c.out, "out", "", "with --simulate, directory to write scale.csv and the curves to, as SVG (default: the tables on stdout alone)")
	f.StringVar(&c.clientLog, "client-log", "", "file to write to what the clients log")
	if err := cmd.Execute(); err != nil || asked {
		return nil, err
	}
	for _, e := range events {
		c.load.Events = append(c.load.Events, loadtest.Kind(e))
	}
	if err := c.readFaults(chaos, faults); err != nil {
		return nil, err
	}
	return c, c.wire()
}

func (c *config) readFaults(chaos bool, faults []string) error {
	switch {
	case !chaos && len(faults) > 0:
		return errors.New("--faults: they are done with --chaos alone: give that too")
	case !chaos:
		return nil
	case len(faults) == 0:
		c.load.Faults = loadtest.AllFaults(c.load.Term, c.load.Docker)
	}
	var errs []error
	for _, text := range faults {
		f, err := loadtest.ParseFault(text)
		errs = append(errs, err)
		c.load.Faults = append(c.load.Faults, f)
	}
	return errors.Join(errs...)
}

// wire fills in what no flag says.
func (c *config) wire() error {
	if c.clientLog != "" {
		f, err := os.Create(c.clientLog)
		if err != nil {
			return err
		}
		// It stays open until the process ends: clients log to their end.
		c.load.Logger = slog.New(slog.NewJSONHandler(f, nil))
	}
	if c.load.InProcess {
		c.load.Start = loadtest.StartInProcess(trackercmd.Run, trackercmd.ErrKilled)
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, which is the trackers' too: %w; use --in-process", err)
	}
	c.load.Start = loadtest.StartProcess(program, asTracker)
	return nil
}

// write writes the report in all its forms.
func (c *config) write(r *loadtest.Report, stdout io.Writer) error {
	errs := []error{r.WriteTable(stdout), r.WriteBenchmarks(stdout)}
	if c.jsonFile != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		text = append(text, '\n')
		if err == nil && c.jsonFile == "-" {
			_, err = stdout.Write(text)
		} else if err == nil {
			err = os.WriteFile(c.jsonFile, text, 0o666)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
