package datadir_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/internal/datadir"
)

func writes(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func content(t *testing.T, f *datadir.File) (text string) {
	t.Helper()
	err := f.Read(func(r io.Reader) error {
		b, err := io.ReadAll(r)
		text = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when it is written")
	f := datadir.New(dir, "a")
	if err := f.Read(func(io.Reader) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read before anything was written: %v", err)
	}
	for _, text := range []string{"first", "second, longer", "3"} {
		n, err := f.Write(t.Context(), writes(text))
		if err != nil || n != int64(len(text)) {
			t.Errorf("Write(%q) = %d, %v", text, n, err)
		}
		if got := content(t, f); got != text {
			t.Errorf("content %q, want %q", got, text)
		}
	}
	info, err := os.Stat(f.Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	failure := errors.New("no more")
	ended, cancel := context.WithCancel(t.Context())
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		write func(io.Writer) error
		want  error
	}{
		{"half written", t.Context(), func(w io.Writer) error { return errors.Join(writes("half")(w), failure) }, failure},
		{"given up", ended, func(w io.Writer) error { cancel(); return writes("late")(w) }, context.Canceled},
	} {
		if n, err := f.Write(tt.ctx, tt.write); !errors.Is(err, tt.want) || n != 0 {
			t.Errorf("%s: %d, %v; want %v", tt.name, n, err, tt.want)
		}
		if got := content(t, f); got != "3" {
			t.Errorf("%s: content %q", tt.name, got)
		}
	}
	if diff := cmp.Diff([]string{"a"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// What a crash left half written is neither read nor in the way.
func TestCrashWhileWriting(t *testing.T) {
	dir := t.TempDir()
	f := datadir.New(dir, "a")
	if _, err := f.Write(t.Context(), writes("whole")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Path()+".tmp", []byte("a long half of what was to be"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := content(t, f); got != "whole" {
		t.Errorf("content %q", got)
	}
	if _, err := f.Write(t.Context(), writes("next")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, f); got != "next" {
		t.Errorf("content %q", got)
	}
	if diff := cmp.Diff([]string{"a"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestSetAsideKeepsOne(t *testing.T) {
	dir := t.TempDir()
	f := datadir.New(dir, "a")
	for _, text := range []string{"one", "two"} {
		if _, err := f.Write(t.Context(), writes(text)); err != nil {
			t.Fatal(err)
		}
		bad, err := f.SetAside()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(bad); string(b) != text || err != nil {
			t.Errorf("set aside: %q, %v; want %q", b, err, text)
		}
	}
	if diff := cmp.Diff([]string{"a.bad"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
