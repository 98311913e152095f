package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/trackerpool/trackerpool/loadtest"
)

// newProgress shows a bar on a terminal, and lines elsewhere.
func newProgress(w io.Writer) loadtest.Progress {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &bars{w: w}
	}
	return &lines{w: w, began: time.Now()}
}

// lines say when a phase begins. What cannot be written is not missed.
type lines struct {
	w     io.Writer
	began time.Time
}

func (l *lines) Phase(name string, _ int) { l.Note(name) }
func (l *lines) Add(int)                  {}
func (l *lines) End()                     {}

func (l *lines) Note(text string) {
	_, _ = fmt.Fprintf(l.w, "%7.1f s  %s\n", time.Since(l.began).Seconds(), text)
}

// bars show how far the phase is, a spinner where nobody knows.
type bars struct {
	w   io.Writer
	mu  sync.Mutex // guards bar, which is replaced while others add to it
	bar *progressbar.ProgressBar
}

func (b *bars) Phase(name string, total int) {
	b.swap(nil)
	if total == 0 {
		total = -1
	}
	next := progressbar.NewOptions(total,
		progressbar.OptionSetWriter(b.w),
		progressbar.OptionSetDescription(fmt.Sprintf("%-20s", name)),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetRenderBlankState(true),
	)
	b.swap(next)
}

func (b *bars) Add(n int) {
	b.mu.Lock()
	bar := b.bar
	b.mu.Unlock()
	if bar != nil {
		_ = bar.Add(n) // a bar that cannot be drawn is not missed
	}
}

func (b *bars) Note(text string) {
	b.mu.Lock()
	bar := b.bar
	b.mu.Unlock()
	if bar != nil {
		_ = bar.Clear()
	}
	_, _ = fmt.Fprintln(b.w, text)
}

func (b *bars) End() { b.swap(nil) }

// swap ends the bar that is shown, and shows the next.
func (b *bars) swap(next *progressbar.ProgressBar) {
	b.mu.Lock()
	last := b.bar
	b.bar = next
	b.mu.Unlock()
	if last != nil {
		_ = last.Exit()
		_, _ = fmt.Fprintln(b.w)
	}
}
