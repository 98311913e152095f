package trackerctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/ring"
)

// A keyList is which keys of the gossip each tracker uses. Fingerprints tell keys apart
// without telling them.
type keyList struct {
	Agree    bool       `json:"agree"` // all trackers answered, and have the same keys
	Trackers []keyEntry `json:"trackers"`
}

type keyEntry struct {
	Tracker ring.MemberID `json:"tracker"`
	Keys    []string      `json:"keys"` // the one that encrypts first; none: in the clear
	Error   string        `json:"error"`
}

func (f *fleet) keys(ctx context.Context) (*keyList, error) {
	l := &keyList{Agree: true, Trackers: []keyEntry{}}
	answers, err := reports(ctx, f)
	for _, a := range answers {
		e := keyEntry{Tracker: a.from.ID, Keys: append([]string{}, a.value.Keys...), Error: fault(a.err)}
		l.Agree = l.Agree && e.Error == "" && (len(l.Trackers) == 0 || slices.Equal(e.Keys, l.Trackers[0].Keys))
		l.Trackers = append(l.Trackers, e)
	}
	return l, err
}

func (l *keyList) tables() []grid {
	g := grid{header: []string{"tracker", "encrypts with", "decrypts also with"}}
	for _, e := range l.Trackers {
		switch {
		case e.Error != "":
			g.add(plain(string(e.Tracker)), toned(bad, "no answer"), plain(e.Error))
		case len(e.Keys) == 0:
			g.add(plain(string(e.Tracker)), toned(warning, "nothing: gossip is in the clear"), plain("-"))
		default:
			g.add(plain(string(e.Tracker)), plain(e.Keys[0]), plain(list(e.Keys[1:])))
		}
	}
	note := grid{}
	switch {
	case l.Agree && len(l.Trackers[0].Keys) > 0:
		note.add(toned(good, "all trackers have the same keys"))
	case !l.Agree:
		note.add(toned(warning, "trackers differ: wait until they agree before the next step"))
	}
	return withNotes(note, g)
}

// lacking names the trackers that fail a test, or did not answer.
func (l *keyList) lacking(ok func(keys []string) bool) []ring.MemberID {
	var ids []ring.MemberID
	for _, e := range l.Trackers {
		if e.Error != "" || !ok(e.Keys) {
			ids = append(ids, e.Tracker)
		}
	}
	return ids
}

// A keyChange is a step of a change of keys, in a file.
type keyChange struct {
	File string   `json:"file"`
	Keys []string `json:"keys"` // fingerprints of what it has now
	Next string   `json:"next"`
}

func (c *keyChange) tables() []grid {
	g := grid{}
	g.add(plain(fmt.Sprintf("%s: encrypts with %s, decrypts also with %s", c.File, c.Keys[0], list(c.Keys[1:]))))
	g.add(plain(c.Next))
	return []grid{g}
}

// keyLines is the keys of a key file's text, without comments and blank lines.
func keyLines(text string) []string {
	var lines []string
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if line := strings.TrimSpace(s.Text()); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// A keyStep makes other lines of a key file's, or says why not. fingerprints are those
// of the lines, in their order.
type keyStep func(lines, fingerprints []string, l *keyList) ([]string, error)

func addKey(lines, fingerprints []string, l *keyList) ([]string, error) {
	if ids := l.lacking(func(keys []string) bool { return slices.Equal(keys, fingerprints) }); len(lines) > 0 && len(ids) > 0 {
		return nil, fmt.Errorf("%s has other keys than the file: wait until a change that is under way has reached it", list(ids))
	}
	return append(lines, membership.NewKey()), nil
}

func promoteKey(lines, fingerprints []string, l *keyList) ([]string, error) {
	n := len(lines)
	if n < 2 {
		return nil, errors.New("it has one key alone: add another one first")
	}
	if ids := l.lacking(func(keys []string) bool { return slices.Contains(keys, fingerprints[n-1]) }); len(ids) > 0 {
		return nil, fmt.Errorf("%s does not have the last key yet, and could not read what is encrypted with it: bring the file there, and wait", list(ids))
	}
	return append([]string{lines[n-1]}, lines[:n-1]...), nil
}

func dropKeys(lines, fingerprints []string, l *keyList) ([]string, error) {
	if ids := l.lacking(func(keys []string) bool { return len(keys) > 0 && keys[0] == fingerprints[0] }); len(ids) > 0 {
		return nil, fmt.Errorf("%s does not encrypt with the first key yet, and would not be understood: bring the file there, and wait", list(ids))
	}
	return lines[:1], nil
}

// change does a step on a file, which is replaced at once, or left as it is.
func changeKeys(file string, step keyStep, l *keyList, next string) (*keyChange, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	before, err := membership.Fingerprints(string(text))
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	c := &keyChange{File: file, Next: next}
	fingerprints := make([]string, len(before))
	for i, k := range before {
		fingerprints[i] = string(k)
	}
	lines, err := step(keyLines(string(text)), fingerprints, l)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	changed := strings.Join(lines, "\n") + "\n"
	after, err := membership.Fingerprints(changed)
	if err != nil {
		return nil, fmt.Errorf("key file %s would not do: %w", file, err)
	}
	for _, k := range after {
		c.Keys = append(c.Keys, string(k))
	}
	return c, replaceFile(file, changed)
}

// replaceFile writes a file aside, and renames it: a tracker may read it meanwhile.
func replaceFile(file, text string) error {
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(file); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Show and change the keys that encrypt gossip",
		Long: `Show which keys encrypt gossip at each tracker, by their fingerprints. A key is changed
by three steps on the key file, each of which is refused while the trackers are not ready
for it: add, promote, drop. After each step bring the file to all trackers, and wait until
this command says that they agree.`,
		Args: cobra.NoArgs,
		RunE: a.onPool(func(ctx context.Context, f *fleet, _ []string) (document, error) { return f.keys(ctx) }),
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "new",
		Short: "Print a new key, for the first key file of a pool",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, membership.NewKey())
			return err
		},
	})
	const bring = "bring the file to all trackers, wait until trackerctl keys says that they agree, then: trackerctl keys "
	for _, s := range []struct {
		use, short, next string
		step             keyStep
	}{
		{"add", "Add a new key to a key file: all learn to decrypt with it", bring + "promote", addKey},
		{"promote", "Make a key file's last key the one that encrypts", bring + "drop", promoteKey},
		{"drop", "Leave a key file nothing but the key that encrypts", "bring the file to all trackers: the other keys are of no more use", dropKeys},
	} {
		cmd.AddCommand(&cobra.Command{
			Use:   s.use + " FILE",
			Short: s.short,
			Args:  cobra.ExactArgs(1),
			RunE: a.onPool(func(ctx context.Context, f *fleet, args []string) (document, error) {
				l, err := f.keys(ctx)
				if err != nil {
					return nil, err
				}
				return changeKeys(args[0], s.step, l, s.next)
			}),
		})
	}
	return cmd
}
