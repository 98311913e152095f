package pool

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

const (
	// outlierErrors is how many lookups in a row must fail at a tracker before others
	// are asked first.
	outlierErrors = 5

	// For how long they are: it doubles each time that the tracker is tried again and
	// fails again. Half of it is jitter, so that clients do not come back together.
	minOutlierTime = time.Second
	maxOutlierTime = 30 * time.Second

	// silentAfter is for how long a tracker may answer no lookup at all while some wait
	// for it, before others are asked first. (That its stream is dead shows only after
	// node.PingTimeout.)
	silentAfter = 100 * time.Millisecond
)

// An outlier says whether a tracker answers lookups with errors, one after the other, or
// not at all. The zero outlier is none. It is safe for concurrent use.
type outlier struct {
	spoke atomic.Bool  // since heard was set
	heard atomic.Int64 // when it had answered last, in Unix nanoseconds
	until atomic.Int64 // in Unix nanoseconds; 0: never
	fails atomic.Int32 // in a row, since until

	mu   sync.Mutex    // guards last
	last time.Duration // for which it was put last at most; 0 after an answer
}

// is reports whether others are to be asked first. It asks for the time only where that
// decides.
func (o *outlier) is(now func() time.Time) bool {
	until := o.until.Load()
	return until != 0 && now().UnixNano() < until
}

// listen notes whether there was an answer lately. It is called at each tick while
// there are lookups, so that an answer need not ask for the time.
func (o *outlier) listen(now time.Time) {
	if o.spoke.Load() {
		o.spoke.Store(false)
		o.heard.Store(now.UnixNano())
	}
}

// silent notes that lookups wait, and reports whether none was answered for long. Then
// others are asked first for as long as a dead stream may take to show.
func (o *outlier) silent(now time.Time) bool {
	if now.UnixNano()-o.heard.Load() < int64(silentAfter) {
		return false
	}
	o.until.Store(max(o.until.Load(), now.Add(node.PingTimeout).UnixNano()))
	return true
}

// answered notes an answer: the tracker is none, or not any more.
func (o *outlier) answered() {
	if !o.spoke.Load() {
		o.spoke.Store(true)
	}
	if o.fails.Load() == 0 && o.until.Load() == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fails.Store(0)
	o.until.Store(0)
	o.last = 0
}

// failed notes an error, and reports whether others are asked first because of it. After
// the first time one is enough.
func (o *outlier) failed(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.UnixNano() < o.until.Load() || o.fails.Add(1) < outlierErrors && o.last == 0 {
		return false
	}
	o.last = min(max(2*o.last, minOutlierTime), maxOutlierTime)
	o.fails.Store(0)
	o.until.Store(now.Add(o.last/2 + rand.N(o.last/2)).UnixNano())
	return true
}

// note notes whether a lookup at the link's tracker went well. What the caller did,
// who asked for nonsense or closed the client, is not the tracker's fault; and that
// one which cannot be reached fails says nothing of how it answers when it is back.
func (l *link) note(err error) {
	if err == nil {
		l.outlier.answered()
		return
	}
	var invalid *node.InvalidError
	if l.finder.Healthy() && !errors.As(err, &invalid) && !errors.Is(err, node.ErrClosed) {
		if l.outlier.failed(time.Now()) {
			l.c.cfg.Metrics.Count(MetricOutliers, 1)
		}
	}
}
