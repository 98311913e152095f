package sim

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// saveInterval is how often a tracker with a disk saves its claims.
const saveInterval = 10 * time.Second

// A disk is a tracker's machine's: what one life saves the next one restores.
type disk struct{ saved atomic.Pointer[[]byte] }

// keep saves the process' claims at every interval until ctx ends, as the command does.
func (l *trackerLife) keep(ctx context.Context) {
	tick := time.NewTicker(saveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.save()
		}
	}
}

func (l *trackerLife) save() {
	if !l.pool.cfg.Disks {
		return
	}
	var b bytes.Buffer
	if _, err := l.node.Save(&b, time.Now().Add(l.wall)); err != nil {
		l.pool.violate("tracker %s: save: %v", l.name, err)
		return
	}
	saved := b.Bytes()
	l.disk.saved.Store(&saved)
}

// restore gives the process what an earlier life of it saved, before it serves.
func (l *trackerLife) restore() {
	saved := l.disk.saved.Load()
	if saved == nil {
		return
	}
	got, err := l.node.Restore(bytes.NewReader(*saved), time.Now().Add(l.wall))
	var refused *node.InvalidError
	switch {
	case errors.As(err, &refused):
		l.disk.saved.Store(nil) // the command sets it aside
		l.pool.note("%s starts without what it saved: %v", l.name, err)
	case err != nil:
		l.pool.violate("tracker %s: restore: %v", l.name, err)
	default:
		l.pool.counts.restored.Add(int64(got.Claims))
	}
}

// spoil changes a byte of what the tracker has saved, or cuts off the end.
func (t *tracker) spoil() {
	saved := t.disk.saved.Load()
	if saved == nil || len(*saved) == 0 {
		return
	}
	b, at := bytes.Clone(*saved), t.pool.intN(len(*saved))
	if t.pool.intN(2) == 0 {
		b = b[:at]
	} else {
		b[at] ^= 1 << t.pool.intN(8)
	}
	t.disk.saved.Store(&b)
}
