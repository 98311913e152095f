package trackerctl

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

const (
	configVariable  = "TRACKERCTL_CONFIG"
	contextVariable = "TRACKERCTL_CONTEXT"
	defaultTracker  = "127.0.0.1:7940"

	maxConfigBytes = 1 << 20
)

// A target is a pool, and how to speak to it.
type target struct {
	Trackers   []string `yaml:"trackers" json:"trackers"`
	TLS        bool     `yaml:"tls" json:"tls"`
	CAFile     string   `yaml:"ca_file" json:"ca_file,omitempty"`
	CertFile   string   `yaml:"cert_file" json:"cert_file,omitempty"`
	KeyFile    string   `yaml:"key_file" json:"key_file,omitempty"`
	ServerName string   `yaml:"server_name" json:"server_name,omitempty"`
	Identities []string `yaml:"identities" json:"identities,omitempty"` // rules, or identitiesOff alone
	Insecure   bool     `yaml:"insecure" json:"insecure"`
}

// identitiesOff is the value of identities with which a tracker is known by its host.
const identitiesOff = "off"

// asksWho reports whether trackers are known by who they are, and not by where. A name
// that some authority of the system signs says nothing.
func (t *target) asksWho() bool {
	return t.CAFile != "" && t.ServerName == "" && !slices.Equal(t.Identities, []string{identitiesOff})
}

// A config is the file of contexts.
type config struct {
	CurrentContext string            `yaml:"current_context"`
	Contexts       map[string]target `yaml:"contexts"`

	file string
}

func (c *config) names() []string { return slices.Sorted(maps.Keys(c.Contexts)) }

// load reads the file of contexts. One that nobody named may be missing.
func (a *app) load() (*config, error) {
	c := &config{file: a.configFile}
	named := true
	if c.file == "" {
		if c.file, named = a.lookupEnv(configVariable); !named || c.file == "" {
			dir, err := os.UserConfigDir()
			if err != nil {
				return c, nil // no home, no file
			}
			c.file, named = filepath.Join(dir, "trackerctl", "config.yaml"), false
		}
	}
	f, err := os.Open(c.file)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxConfigBytes {
		return nil, fmt.Errorf("configuration file %s: it has more than %d bytes: is it the right one?", c.file, maxConfigBytes)
	}
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", c.file, err)
	}
	dir := filepath.Dir(c.file)
	for name, t := range c.Contexts {
		for _, file := range []*string{&t.CAFile, &t.CertFile, &t.KeyFile} {
			if *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(dir, *file)
			}
		}
		c.Contexts[name] = t
	}
	return c, nil
}

// chosen is the name of the context in use, or nothing.
func (a *app) chosen(c *config) string {
	variable, _ := a.lookupEnv(contextVariable)
	return cmp.Or(a.contextName, variable, c.CurrentContext)
}

// resolve returns where to go: what flags say, over the context.
func (a *app) resolve() (target, error) {
	c, err := a.load()
	if err != nil {
		return target{}, err
	}
	var t target
	if name := a.chosen(c); name != "" {
		var ok bool
		if t, ok = c.Contexts[name]; !ok {
			return t, fmt.Errorf("context %q: %s has none of that name; it has %v", name, c.file, c.names())
		}
	}
	if len(a.target.Trackers) > 0 {
		t.Trackers = a.target.Trackers
	}
	if len(t.Trackers) == 0 {
		t.Trackers = []string{defaultTracker}
	}
	t.CAFile = cmp.Or(a.target.CAFile, t.CAFile)
	t.CertFile, t.KeyFile = cmp.Or(a.target.CertFile, t.CertFile), cmp.Or(a.target.KeyFile, t.KeyFile)
	t.ServerName = cmp.Or(a.target.ServerName, t.ServerName)
	if len(a.target.Identities) > 0 {
		t.Identities = a.target.Identities
	}
	t.Insecure = a.target.Insecure || t.Insecure
	t.TLS = a.target.TLS || t.TLS || t.CAFile != "" || t.CertFile != "" || t.KeyFile != "" || t.ServerName != ""
	var faults []error
	for _, addr := range t.Trackers {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			faults = append(faults, fmt.Errorf("tracker %q: give host:port, such as %s", addr, defaultTracker))
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		faults = append(faults, fmt.Errorf("cert_file %q, key_file %q: give both or none", t.CertFile, t.KeyFile))
	}
	if t.TLS && t.Insecure {
		faults = append(faults, errors.New("insecure and TLS are both asked for: give one of them"))
	}
	return t, errors.Join(faults...)
}

// A dialer reaches a tracker at an address: that one, or any where id is empty.
type dialer func(addr string, id ring.MemberID) (*rpc.Client, error)

// dialer returns how to reach a tracker of the target.
func (t *target) dialer(log *slog.Logger) (dialer, error) {
	if !t.TLS {
		return func(addr string, _ ring.MemberID) (*rpc.Client, error) {
			if !t.Insecure && !loopback(addr) {
				return nil, fmt.Errorf("tracker %s is not on this machine, and no TLS is configured: give --ca-file, --tls, or --insecure for plain text", addr)
			}
			return rpc.Dial(addr, rpc.Insecure())
		}, nil
	}
	files := rpc.TLSFiles{CAFile: t.CAFile, ServerName: t.ServerName}
	if t.CertFile != "" {
		files.KeyPairs = []rpc.KeyPair{{CertFile: t.CertFile, KeyFile: t.KeyFile}}
	}
	if t.asksWho() {
		rules := t.Identities
		if len(rules) == 0 {
			rules = []string{access.DefaultRule}
		}
		ids, err := access.ParseIdentities(rules...)
		if err != nil {
			return nil, fmt.Errorf("identities: %w", err)
		}
		files.Identities = &ids
	}
	creds, err := rpc.ClientCredentials(files, log)
	if err != nil {
		return nil, err
	}
	return func(addr string, id ring.MemberID) (*rpc.Client, error) {
		return rpc.Dial(addr, creds, rpc.WithTracker(id))
	}, nil
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// contextList is the contexts of the file.
type contextList struct {
	File     string         `json:"file"`
	Contexts []contextEntry `json:"contexts"`
}

type contextEntry struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	target
}

func (c *contextList) tables() []grid {
	g := grid{header: []string{"", "context", "trackers", "security"}}
	for _, e := range c.Contexts {
		security := "plain text, loopback only"
		switch {
		case e.Insecure:
			security = "plain text"
		case e.CertFile != "":
			security = "mutual TLS"
		case e.TLS || e.CAFile != "" || e.ServerName != "":
			security = "TLS"
		}
		g.add(plain(mark(e.Current, "*")), plain(e.Name), plain(list(e.Trackers)), plain(security))
	}
	return []grid{g}
}

func (a *app) contextsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "contexts",
		Short: "List the contexts of the configuration file",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			l := &contextList{File: c.file, Contexts: []contextEntry{}}
			for _, name := range c.names() {
				l.Contexts = append(l.Contexts, contextEntry{name, name == a.chosen(c), c.Contexts[name]})
			}
			return a.write(l)
		},
	}
}
