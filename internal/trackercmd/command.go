package trackercmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/internal/buildinfo"
)

// Run runs the command line of a tracker, without the command's name: with no
// subcommand it runs a tracker until ctx ends or SIGINT or SIGTERM comes. It then
// leaves the pool in order and returns nil; another signal, more than a quarter of a
// second later, ends it at once with [ErrInterrupted]. Logs go to stderr.
//
// To stop a tracker as a crash would, cancel ctx with [ErrKilled] as its cause.
//
// An error names what is wrong and what to do; those of the configuration are
// joined.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s := newSources(os.LookupEnv)
	root := &cobra.Command{
		Use:   "tracker",
		Short: "Run one tracker of a pool",
		Long: `Run one tracker of a pool. With no options it is a pool of one on loopback.

Each option can also be given by the environment, as TRACKERPOOL_ and its name in
capitals with underscores, and by the file of --config: a flag wins over the
environment, which wins over the file.`,
		Args:              cobra.NoArgs,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := s.load()
			if err != nil {
				return err
			}
			return runUntilSignal(cmd.Context(), l, newLogger(&l.config, stderr))
		},
	}
	root.Version = buildinfo.Read().Line(root.Name())
	root.SetVersionTemplate("{{.Version}}\n")
	s.register(root.PersistentFlags())
	root.AddCommand(
		&cobra.Command{
			Use:   "config",
			Short: "Print the effective configuration, and what it may have, as YAML",
			Args:  cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				l, err := s.load()
				if err != nil {
					return err
				}
				return writeFile(stdout, &l.config, s.opts, func(o option) string { return l.where[o.name] })
			},
		},
		&cobra.Command{
			Use:   "version",
			Short: "Print what this was built from",
			Args:  cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprintln(stdout, root.Version)
				return err
			},
		})
	root.SetArgs(append([]string{}, args...)) // nil would mean this process's own
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

func newLogger(c *config, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.logLevel}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if c.logFormat == "json" {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(h).With("tracker", c.id)
}

// Errors of Run, for callers that branch.
var (
	// ErrKilled, as the cause with which Run's context is cancelled, stops the
	// tracker at once, as a crash would; Run returns it.
	ErrKilled = errors.New("killed")

	// ErrInterrupted: a second signal came before the tracker had left. Others take
	// that for a crash.
	ErrInterrupted = errors.New("stopped by a second signal, without having left the pool")
)
