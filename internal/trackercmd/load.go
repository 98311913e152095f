package trackercmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	configFlag     = "config"
	configVariable = "TRACKERPOOL_CONFIG"

	// maxFileBytes is the largest configuration file that is read.
	maxFileBytes = 1 << 20
)

// A rawFlag keeps the texts that a flag was given. They are looked at when all
// sources are known, so that all faults are told at once.
type rawFlag struct {
	option   option
	standard string
	values   []string
}

// Set takes any text.
func (f *rawFlag) Set(s string) error { f.values = append(f.values, s); return nil }

// String returns the default, which is shown with the flag.
func (f *rawFlag) String() string { return f.standard }

// Type returns what the flag is shown with.
func (f *rawFlag) Type() string { return f.option.kind }

// sources is where a configuration comes from: a flag over a variable over the
// file over the default.
type sources struct {
	opts     []option
	flags    []*rawFlag
	fileName string // --config

	lookupEnv func(string) (string, bool)
	hostname  func() (string, error)
}

func newSources(lookupEnv func(string) (string, bool)) *sources {
	return &sources{opts: options(), lookupEnv: lookupEnv, hostname: os.Hostname}
}

// register adds the flags.
func (s *sources) register(fs *pflag.FlagSet) {
	fs.StringVar(&s.fileName, configFlag, "", "`FILE` of YAML with any of these options; see the command config")
	standard := defaultConfig()
	for _, o := range s.opts {
		if o.noFlag {
			continue
		}
		f := &rawFlag{option: o, standard: brief(o.get(&standard))}
		s.flags = append(s.flags, f)
		flag := fs.VarPF(f, o.name, "", o.doc)
		if o.kind == "" {
			flag.NoOptDefVal = "true"
		}
	}
	fs.SortFlags = false
}

// A loaded configuration is effective, and knows where each value comes from.
type loaded struct {
	config
	lone  bool              // no other tracker was named: it made itself the single seat
	where map[string]string // by option; not those that have their default
}

// load returns the effective configuration, or all faults of all sources, joined.
func (s *sources) load() (*loaded, error) {
	l := &loaded{config: defaultConfig(), where: make(map[string]string)}
	fromFile, faults := s.readFile()
	wrong := make(map[string]bool) // options of which no value is known
	for _, o := range s.opts {
		for _, g := range s.givenFor(o, fromFile) {
			if err := o.set(&l.config, g.values); err != nil {
				faults = append(faults, &fault{o.key(), strings.Join(g.values, " "), g.where, err.Error()})
				wrong[o.key()] = true
				continue
			}
			l.where[o.name] = g.where
		}
	}
	if l.id == "" {
		l.id = s.machine()
	}
	if l.alone() {
		l.lone = true
		l.seats = [][]ring.MemberID{{ring.MemberID(l.id)}}
		if l.pool == "" {
			l.pool = lonePool
		}
	}
	for _, f := range l.validate() {
		if !wrong[f.key] { // it has its fault, and what is here is the default
			faults = append(faults, f)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return l, nil
}

// givenFor returns what the sources give for an option, the weakest first.
func (s *sources) givenFor(o option, fromFile map[string]given) []given {
	var all []given
	if g, ok := fromFile[o.name]; ok {
		all = append(all, g)
	}
	if o.noFlag {
		return all
	}
	if v, ok := s.lookupEnv(o.variable()); ok && v != "" {
		values := []string{v}
		if o.shape == sets || o.shape == pairs {
			values = strings.Split(v, ";")
		}
		all = append(all, given{values, o.variable()})
	}
	for _, f := range s.flags {
		if f.option.name == o.name && len(f.values) > 0 {
			all = append(all, given{f.values, "--" + o.name})
		}
	}
	return all
}

func (s *sources) readFile() (map[string]given, []error) {
	name := s.fileName
	if name == "" {
		name, _ = s.lookupEnv(configVariable)
	}
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, []error{fmt.Errorf("configuration file: %w", err)}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, []error{fmt.Errorf("configuration file: %w", err)}
	}
	if len(text) > maxFileBytes {
		return nil, []error{fmt.Errorf("configuration file %s: it has more than %d bytes: is it the right one?", name, maxFileBytes)}
	}
	return parseFile(filepath.Base(name), text, s.opts)
}

// machine returns the machine's name up to the first dot, or nothing.
func (s *sources) machine() string {
	name, err := s.hostname()
	if err != nil {
		return ""
	}
	name, _, _ = strings.Cut(name, ".")
	return name
}
