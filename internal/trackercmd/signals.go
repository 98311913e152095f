package trackercmd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// sameSignal is how long after the first signal another one is taken for the same:
// timeout(1) and some supervisors signal a process, and then its group.
const sameSignal = 250 * time.Millisecond

// runUntilSignal runs a tracker until ctx ends or a signal comes.
func runUntilSignal(ctx context.Context, l *loaded, log *slog.Logger) error {
	if !l.enabled {
		log.Info("this tracker is not enabled: nothing to do", "key", blockKey+".enabled")
		return nil
	}
	hard, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(nil)
	soft, leave := context.WithCancelCause(hard)
	defer leave(nil)
	unhook := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), ErrKilled) {
			kill(ErrKilled)
		}
		leave(nil)
	})
	defer unhook()

	signals := make(chan os.Signal, 2) // the second must not be lost while the first is taken
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var wg sync.WaitGroup
	wg.Go(func() {
		var first time.Time
		for s := range signals {
			switch {
			case first.IsZero():
				first = time.Now()
				log.Info("signal: leaving; another one stops at once", "signal", s.String())
				leave(nil)
			case time.Since(first) > sameSignal:
				log.Info("second signal: stopping at once", "signal", s.String())
				kill(ErrInterrupted)
			}
		}
	})
	defer func() {
		signal.Stop(signals)
		close(signals)
		wg.Wait()
	}()
	defer collectBy()()
	return newRunner(l, log, leave).run(soft, hard)
}
