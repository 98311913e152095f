package trackerctl

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/buildinfo"
)

// An app is one run of the command line.
type app struct {
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)
	live, colours  bool // stdout is a terminal, and may be coloured

	configFile, contextName string
	target                  // by flags; what is not given comes from the context
	format                  string
	timeout                 time.Duration
}

// Run runs the command line, without the command's name, until it is done or ctx
// ends. Results go to stdout, progress and warnings to stderr. Colours and lines that
// are written over are for terminals alone; NO_COLOR turns the colours off.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	a := &app{stdout: stdout, stderr: stderr, lookupEnv: os.LookupEnv, live: terminal(stdout)}
	_, plain := a.lookupEnv("NO_COLOR")
	a.colours = a.live && !plain
	root := &cobra.Command{
		Use:   "trackerctl",
		Short: "Ask a pool of trackers how it is, and run it",
		Long: `Ask a pool of trackers how it is, and run it.

Any one tracker is enough to name: the others are found by its view. Where to go and
how comes from flags, or from a context of the configuration file.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(formats, a.format) {
				return fmt.Errorf("--output %q: give %s", a.format, strings.Join(formats, ", "))
			}
			if a.timeout <= 0 {
				return fmt.Errorf("--timeout %v: give more than 0", a.timeout)
			}
			return nil
		},
	}
	root.Version = buildinfo.Read().Line(root.Name())
	root.SetVersionTemplate("{{.Version}}\n")
	f := root.PersistentFlags()
	f.StringVar(&a.configFile, "config", "",
		"`FILE` of YAML with contexts. Default: $"+configVariable+", or trackerctl/config.yaml in the user's configuration directory")
	f.StringVar(&a.contextName, "context", "", "`NAME` of the context to use. Default: $"+contextVariable+", or current_context of the file")
	f.StringSliceVar(&a.target.Trackers, "tracker", nil,
		"`HOST:PORT` of any tracker; may be repeated. Default: those of the context, or "+defaultTracker)
	f.StringVar(&a.target.CAFile, "ca-file", "", "`FILE` of the certificate authorities (PEM) of the trackers. Default: the system's")
	f.StringVar(&a.target.CertFile, "cert-file", "", "`FILE` of the certificate (PEM) to show")
	f.StringVar(&a.target.KeyFile, "key-file", "", "`FILE` of its private key (PEM)")
	f.StringVar(&a.target.ServerName, "server-name", "", "`NAME` to expect in the trackers' certificates, instead of an identity")
	f.StringSliceVar(&a.target.Identities, "identities", nil, "`RULE` that says which certificates are trackers', as the trackers have it; may be repeated; "+
		identitiesOff+" to go by the host that is dialed. Default: "+access.DefaultRule)
	f.BoolVar(&a.target.TLS, "tls", false, "use TLS; implied by the files above")
	f.BoolVar(&a.target.Insecure, "insecure", false, "speak plain text, also to others than loopback")
	f.StringVarP(&a.format, "output", "o", "table", "`FORMAT`: table, json or yaml")
	f.DurationVar(&a.timeout, "timeout", 5*time.Second, "how long one tracker has to answer")
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
	must(root.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		c, err := a.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return c.names(), cobra.ShellCompDirectiveNoFileComp
	}))
	root.AddCommand(
		a.contextsCommand(), a.membersCommand(), a.ringCommand(), a.locateCommand(), a.lookupCommand(), a.explainCommand(),
		a.proxiesCommand(), a.proxyCommand(), a.watchCommand(), a.drainCommand(), a.whatIfCommand(), a.keysCommand(), a.certsCommand(), a.debugCommand(),
		a.versionCommand(),
	)
	root.SetArgs(append([]string{}, args...)) // nil would mean this process's own
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// A versionInfo is what this program was built from.
type versionInfo struct {
	Command  string `json:"command"`
	Version  string `json:"version"`  // a tag, or a pseudo-version of the revision
	Revision string `json:"revision"` // empty where it was not known
	Modified bool   `json:"modified"` // there were changes beside the revision
	Go       string `json:"go"`
	line     string
}

func (v *versionInfo) tables() []grid {
	g := grid{}
	g.add(plain(v.line))
	return []grid{g}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print what this was built from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := buildinfo.Read()
			return a.write(&versionInfo{cmd.Root().Name(), b.Version, b.Revision, b.Modified, b.Go, cmd.Root().Version})
		},
	}
}

// must panics on what only a mistake in this package can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
