package datadir

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// What stands behind a file's name while it is written, and where it is set aside.
const (
	tempSuffix = ".tmp"
	badSuffix  = ".bad"
)

// A File is one file of a directory, which is made when it is first written. Its methods
// are not for concurrent use.
type File struct{ dir, name string }

// New returns the file of that name in dir. Nothing is touched yet.
func New(dir, name string) *File { return &File{dir, name} }

// Path returns where the file is.
func (f *File) Path() string { return filepath.Join(f.dir, f.name) }

// Write makes what write writes the file's content, for this user alone, and returns how
// many bytes these are. On an error, of write's own too, or when ctx ends, the content
// stays what it was. Once Write has returned nil the content survives a loss of power.
func (f *File) Write(ctx context.Context, write func(io.Writer) error) (bytes int64, err error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return 0, err
	}
	temp := f.Path() + tempSuffix // what a crash left is overwritten
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	w := writer{ctx: ctx, w: out}
	err = write(&w)
	if err == nil {
		err = out.Sync()
	}
	if fault := out.Close(); err == nil {
		err = fault
	}
	if err == nil {
		err = os.Rename(temp, f.Path())
	}
	if err != nil {
		_ = os.Remove(temp) // it takes room that may be short; err says more
		return 0, err
	}
	return w.n, syncDir(f.dir)
}

// syncDir makes a rename in a directory survive a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Read has read read the content. The error is read's, or wraps fs.ErrNotExist where
// there is no file.
func (f *File) Read(read func(io.Reader) error) error {
	in, err := os.Open(f.Path())
	if err != nil {
		return err
	}
	defer in.Close()
	return read(in)
}

// SetAside renames the file, in the place of the one that was set aside before, and
// returns where it is now.
func (f *File) SetAside() (string, error) {
	bad := f.Path() + badSuffix
	if err := os.Rename(f.Path(), bad); err != nil {
		return "", err
	}
	return bad, nil
}

// A writer counts, and fails when its context has ended.
type writer struct {
	ctx context.Context
	w   io.Writer
	n   int64
}

func (w *writer) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, fmt.Errorf("given up after %d bytes: %w", w.n, context.Cause(w.ctx))
	}
	n, err := w.w.Write(p)
	w.n += int64(n)
	return n, err
}
