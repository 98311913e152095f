package trackercmd

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/internal/clock"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

func tracker(t *testing.T, pool string) *node.Tracker {
	t.Helper()
	x, err := node.New(ring.Member{ID: "t-0", Boot: 1}, node.Config{
		Pool: node.Pool{Name: pool, Seats: [][]ring.MemberID{{"t-0"}}}, Shards: 64, Now: clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// saverIn returns a saver, and what gives the messages that it has logged since.
func saverIn(t *testing.T, dir, pool string) (*saver, func() []string) {
	t.Helper()
	var b bytes.Buffer
	s := newSaver(tracker(t, pool), dir, "t-0", time.Minute, slog.New(slog.NewJSONHandler(&b, nil)))
	return s, func() (all []string) {
		for line := range strings.Lines(b.String()) {
			var entry struct{ Msg string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatal(err)
			}
			msg, _, _ := strings.Cut(entry.Msg, ":")
			all = append(all, msg)
		}
		b.Reset()
		return all
	}
}

// A directory that cannot be written to is told of once, and once more when it can; the
// snapshot there was is kept, and errors are counted.
func TestSaverGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, logged := saverIn(t, dir, "test")
	s.restore() // there is nothing yet
	expect := func(when string, errors uint64, msgs ...string) {
		t.Helper()
		if diff := cmp.Diff(msgs, logged()); diff != "" {
			t.Errorf("%s: log (-want +got):\n%s", when, diff)
		}
		if got, _ := s.now(); got.Errors != errors {
			t.Errorf("%s: %d errors, want %d", when, got.Errors, errors)
		}
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // so that nothing can be written there, by root neither
		t.Fatal(err)
	}
	for range 3 {
		s.save(t.Context())
	}
	expect("no directory", 3, "claims are not saved")
	if got, _ := s.now(); !got.At.IsZero() || got.Bytes != 0 {
		t.Errorf("nothing was saved: %+v", got)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	s.save(t.Context())
	s.save(t.Context())
	expect("a directory", 3, "claims are saved again")
	good, _ := s.now()
	if time.Since(good.At) > time.Minute || good.Bytes == 0 {
		t.Errorf("saved: %+v", good)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.save(ended)
	expect("stopped", 3)

	s, logged = saverIn(t, dir, "test")
	s.restore()
	expect("restored", 0, "claims restored; they are answered when their proxies have confirmed them")
	if got, _ := s.now(); got.At.UnixMilli() != good.At.UnixMilli() {
		t.Errorf("restored: %+v, want of %v", got, good.At)
	}
}

// The tracker goes on where it may read and not write.
func TestReadOnlyDirectory(t *testing.T) {
	dir := t.TempDir()
	s, _ := saverIn(t, dir, "test")
	s.save(t.Context())
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) }) // so that it can be removed
	if f, err := os.Create(filepath.Join(dir, "probe")); err == nil {
		f.Close()
		t.Skip("this user may write to directories that are read-only")
	}
	s, logged := saverIn(t, dir, "test")
	s.restore()
	s.save(t.Context())
	s.save(t.Context())
	if got := logged(); len(got) != 2 || got[1] != "claims are not saved" {
		t.Errorf("log %q", got)
	}
}

// What is no snapshot of this tracker is told of once and kept aside, and the next one
// takes its place.
func TestSnapshotRefused(t *testing.T) {
	dir := t.TempDir()
	s, _ := saverIn(t, dir, "other")
	s.save(t.Context())
	whole, err := os.ReadFile(s.file.Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(whole), "short", string(whole[:len(whole)-1])} {
		if err := os.WriteFile(s.file.Path(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, logged := saverIn(t, dir, "test")
		s.restore()
		if got := logged(); len(got) != 1 || got[0] != "snapshot refused" {
			t.Errorf("log %q", got)
		}
		if got, _ := s.now(); got.Errors != 1 || !got.At.IsZero() {
			t.Errorf("%+v", got)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Fatalf("files %v, %v", entries, err)
		}
		if kept, err := os.ReadFile(s.file.Path() + ".bad"); string(kept) != text || err != nil {
			t.Errorf("kept %q, %v", kept, err)
		}
	}
}

func TestSaveOptions(t *testing.T) {
	l := told{file: "data_dir: /var/lib/tracker\nsave_interval: 30s\n"}.mustLoad(t)
	if l.dataDir != "/var/lib/tracker" || l.saveInterval != 30*time.Second {
		t.Errorf("%q every %v", l.dataDir, l.saveInterval)
	}
	want := []string{`save_interval "10ms" (--save-interval): give 1s or more`}
	if diff := cmp.Diff(want, told{flags: []string{"--save-interval", "10ms"}}.faults(t)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}
