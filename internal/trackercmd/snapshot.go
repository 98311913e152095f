package trackercmd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/internal/datadir"
	"github.com/trackerpool/trackerpool/internal/telemetry"
	"github.com/trackerpool/trackerpool/node"
)

// snapshotSuffix stands behind the tracker's ID in the name of its file, so that
// trackers that are given one directory do not take each other's.
const snapshotSuffix = ".claims"

// A saver saves a tracker's claims in data_dir, and restores them at the start. That is a
// saving and nothing more: where it fails the tracker goes on.
type saver struct {
	tracker  *node.Tracker
	file     *datadir.File
	interval time.Duration
	log      *slog.Logger

	turn chan struct{} // has a value while one saves

	mu      sync.Mutex // guards the rest
	stats   telemetry.Saves
	failing bool // the last time
}

func newSaver(t *node.Tracker, dir, id string, interval time.Duration, log *slog.Logger) *saver {
	return &saver{tracker: t, file: datadir.New(dir, id+snapshotSuffix), interval: interval, log: log, turn: make(chan struct{}, 1)}
}

// restore gives the tracker what its last life saved. What is no snapshot of this tracker
// is set aside, and nothing restored.
func (s *saver) restore() {
	began := time.Now()
	var saved node.Saved
	err := s.file.Read(func(r io.Reader) (err error) {
		saved, err = s.tracker.Restore(r, began)
		return err
	})
	var invalid *node.InvalidError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case errors.As(err, &invalid):
		kept, fault := s.file.SetAside()
		if fault != nil {
			kept = s.file.Path()
		}
		s.count()
		s.log.Warn("snapshot refused: starting without it, proxies send their claims again", "file", s.file.Path(), "err", err, "kept_as", kept)
		return
	case err != nil:
		s.count()
		s.log.Warn("snapshot not read: starting without it, proxies send their claims again; see to the disk, and that the tracker may read the file", "file", s.file.Path(), "err", err)
		return
	}
	s.mu.Lock()
	s.stats.At = saved.At
	s.mu.Unlock()
	s.log.Info("claims restored; they are answered when their proxies have confirmed them", "file", s.file.Path(), "claims", saved.Claims, "proxies", saved.Proxies,
		"saved", began.Sub(saved.At).Round(time.Millisecond).String()+" ago", "took", time.Since(began).Round(time.Millisecond).String())
}

// run saves at every interval, give or take an eighth, until ctx ends.
func (s *saver) run(ctx context.Context) {
	for {
		next := time.NewTimer(s.interval - s.interval/8 + rand.N(s.interval/4))
		select {
		case <-next.C:
			s.save(ctx)
		case <-ctx.Done():
			next.Stop()
			return
		}
	}
}

// save saves once, unless ctx ends before.
func (s *saver) save(ctx context.Context) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return
	}
	at := time.Now()
	bytes, err := s.file.Write(ctx, func(w io.Writer) error {
		_, err := s.tracker.Save(w, at)
		return err
	})
	if errors.Is(err, context.Canceled) { // the tracker stops, and saves once more where that is of use
		return
	}
	s.mu.Lock()
	was := s.failing
	if s.failing = err != nil; err != nil {
		s.stats.Errors++
	} else {
		s.stats.At, s.stats.Bytes = at, bytes
	}
	s.mu.Unlock()
	switch {
	case err != nil && !was:
		s.log.Warn("claims are not saved: the tracker goes on, and after a restart proxies send their claims again; make room, or let the tracker write there", "file", s.file.Path(), "err", err)
	case err == nil && was:
		s.log.Info("claims are saved again", "file", s.file.Path(), "bytes", bytes)
	}
}

// count counts an error.
func (s *saver) count() {
	s.mu.Lock()
	s.stats.Errors++
	s.mu.Unlock()
}

// now returns how it went so far. A nil saver saves nothing.
func (s *saver) now() (telemetry.Saves, bool) {
	if s == nil {
		return telemetry.Saves{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats, true
}
