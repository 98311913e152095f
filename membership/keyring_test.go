package membership

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

func someKey(n int, c string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(c, n)))
}

func TestParseKeys(t *testing.T) {
	got, err := parseKeys("# newest first\n\n " + someKey(32, "a") + "\r\n" + someKey(16, "b"))
	want := [][]byte{[]byte(strings.Repeat("a", 32)), []byte(strings.Repeat("b", 16))}
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("keys %q, %v; want %q", got, err, want)
	}
	var many strings.Builder
	for range maxKeys + 1 {
		fmt.Fprintln(&many, NewKey())
	}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"0 keys: give 1 to 16"}},
		{"comment alone", "# none", []string{"0 keys"}},
		{"not base64", "!!!", []string{"line 1 is not base64: give"}},
		{"17 bytes", "\n" + someKey(17, "a"), []string{"line 2: the key has 17 bytes: give 16, 24 or 32"}},
		{"all faults", "!\n" + someKey(17, "a") + "\n!", []string{"line 1 ", "line 2:", "line 3 "}},
		{"twice", someKey(16, "a") + "\n#\n" + someKey(16, "a"), []string{"line 3 has the key of line 1 again: leave one out"}},
		{"too many", many.String(), []string{"17 keys: give 1 to 16"}},
		{"too long", strings.Repeat("#\n", maxKeyFile), []string{"more than 65536 bytes"}},
	} {
		keys, err := parseKeys(c.text)
		if err == nil {
			t.Errorf("%s: keys %q, want an error", c.name, keys)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", c.name, want, err)
			}
		}
		if strings.Contains(err.Error(), someKey(17, "a")) || strings.Contains(err.Error(), someKey(16, "a")) {
			t.Errorf("%s: the error shows a key: %v", c.name, err)
		}
	}
}

func TestNewKey(t *testing.T) {
	a, b := NewKey(), NewKey()
	if a == b {
		t.Error("two new keys are equal")
	}
	got, err := Fingerprints(a + "\n" + b)
	if err != nil || len(got) != 2 || got[0] == got[1] || len(got[0]) != 16 {
		t.Errorf("fingerprints of two new keys: %q, %v", got, err)
	}
	if again, err := Fingerprints(b); err != nil || again[0] != got[1] {
		t.Errorf("the fingerprint of a key is %q, and then %q", got[1], again)
	}
}

func TestChangeOf(t *testing.T) {
	keys := func(s string) []KeyFingerprint {
		var all []KeyFingerprint
		for f := range strings.FieldsSeq(s) {
			all = append(all, KeyFingerprint(f))
		}
		return all
	}
	for _, c := range []struct {
		name, before, after string
		want                keyChange
	}{
		{"nothing", "a b", "a b", keyChange{}},
		{"the order of those that only open", "a b c", "a c b", keyChange{}},
		{"add", "a", "a b", keyChange{added: keys("b")}},
		{"promote", "a b", "b a", keyChange{promoted: "b"}},
		{"remove", "b a", "b", keyChange{removed: keys("a")}},
		{"all at once", "a b", "c", keyChange{added: keys("c"), removed: keys("a b"), promoted: "c"}},
	} {
		got := changeOf(keys(c.before), keys(c.after))
		if diff := cmp.Diff(fmt.Sprint(c.want), fmt.Sprint(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if none := c.before[0] == c.after[0] && len(c.before) == len(c.after); got.none() != none {
			t.Errorf("%s: none is %v, want %v", c.name, got.none(), none)
		}
	}
}

// A logBook keeps the lines of a log.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// has reports whether one line has all the words.
func (l *logBook) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
	})
}

// A keyFile is a mounted secret: a link that is moved from one file to the next.
type keyFile struct {
	dir, name string
	made      int
}

func newKeyFile(t *testing.T, keys ...string) *keyFile {
	t.Helper()
	dir := t.TempDir()
	f := &keyFile{dir: dir, name: filepath.Join(dir, "keys")}
	f.write(t, strings.Join(keys, "\n"))
	return f
}

func (f *keyFile) write(t *testing.T, text string) {
	t.Helper()
	f.made++
	target, link := filepath.Join(f.dir, fmt.Sprintf("keys-%d", f.made)), filepath.Join(f.dir, "new")
	if err := os.WriteFile(target, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, f.name); err != nil {
		t.Fatal(err)
	}
}

// The key of a live pool is changed by three edits of each tracker's file, one
// tracker after the other, and no view changes meanwhile.
func TestRotateKeys(t *testing.T) {
	oldKey, newKey := NewKey(), NewKey()
	var book logBook
	var all []*Gossip
	var files []*keyFile
	for i, id := range []ring.MemberID{"a", "b", "c"} {
		files = append(files, newKeyFile(t, oldKey))
		cfg := someConfig()
		cfg.KeyFile, cfg.KeyInterval, cfg.Logger = files[i].name, 2*time.Millisecond, book.logger()
		all = append(all, mustJoin(t, someSelf(id), cfg, all...))
	}
	awaitAll(t, "three members", all...)
	for _, g := range all {
		select {
		case <-g.Views():
		default:
		}
	}

	// spoken has each tracker say something that all others must hear.
	spoken := func(what string) {
		t.Helper()
		for _, g := range all {
			state := ring.Serving
			if g.Self().State == state {
				state = ring.Joining
			}
			if err := g.SetState(state); err != nil {
				t.Fatal(err)
			}
			for _, reader := range all {
				await(t, reader, what, func(v ring.View) bool {
					if v.Len() != len(all) {
						t.Errorf("%s: %q sees %d members", what, reader.Self().ID, v.Len())
					}
					return sees(all...)(v)
				})
			}
		}
	}
	spoken("each other")
	for _, step := range []struct {
		name string
		keys []string
	}{
		{"add", []string{oldKey, newKey}},
		{"promote", []string{newKey, oldKey}},
		{"remove", []string{newKey}},
	} {
		for i, g := range all {
			files[i].write(t, strings.Join(step.keys, "\n"))
			want, err := Fingerprints(strings.Join(step.keys, "\n"))
			if err != nil {
				t.Fatal(err)
			}
			awaitTrue(t, step.name, func() bool { return slices.Equal(g.Keys(), want) })
			spoken(step.name)
		}
	}
	for _, g := range all {
		for reason, n := range g.Refused() {
			if n > 0 {
				t.Errorf("%q refused %d packets or streams: %s", g.Self().ID, n, reason)
			}
		}
	}
	fingerprints, _ := Fingerprints(oldKey + "\n" + newKey)
	if !book.has("gossip keys changed", "keys=2", "added=["+string(fingerprints[1])) || !book.has("promoted="+string(fingerprints[1])) ||
		!book.has("removed=["+string(fingerprints[0]), "keys=1") {
		t.Errorf("the log does not tell of the three steps:\n%s", strings.Join(book.lines, ""))
	}
	if book.has(oldKey) || book.has(newKey) {
		t.Error("the log shows a key")
	}

	// Bad content changes nothing.
	for _, bad := range []string{"", newKey + "\nnonsense", newKey + "\n" + newKey} {
		files[0].write(t, bad)
	}
	awaitTrue(t, "a refusal", func() bool { return book.has("level=WARN", "line 2 has the key of line 1 again") })
	if got := all[0].Keys(); len(got) != 1 || got[0] != fingerprints[1] {
		t.Errorf("after bad content the keys are %v, want %v", got, fingerprints[1:])
	}
	spoken("each other still")

	// Who has the old key alone is out.
	cfg := someConfig()
	cfg.KeyFile = newKeyFile(t, oldKey).name
	d := mustJoin(t, someSelf("d"), cfg, all...)
	if d.Joined() || !sees(d)(d.View()) || !sees(all...)(all[0].View()) {
		t.Errorf("with the old key: joined %v, views %+v and %+v", d.Joined(), d.View().Members(), all[0].View().Members())
	}
	awaitTrue(t, "the refusal of d", func() bool { return all[0].Refused()[reasonKey] > 0 })
}
