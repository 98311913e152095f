package node

import (
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	// maxParts is how many parts of a filling are told: the last ones, for which the
	// shards waited.
	maxParts = 64

	// maxFillings is how many fillings wait to be told; more than a few only where
	// shards open and close all the time.
	maxFillings = 16
)

// A Filling is one time that shards placed on a tracker waited to be open, as far as
// it was over: after a start, and after a change of the view.
type Filling struct {
	View   ring.Fingerprint // that placed them, at the end
	Shards int              // how many waited at once, at most
	Took   time.Duration
	Ago    time.Duration // how long before now it was over

	Parts []FillingPart // in the order of their ends; the last 64
	More  int           // earlier ones, which Parts has not
}

// A FillingPart is what one proxy or one tracker sent meanwhile: from its first frame
// until it said that the tracker has all.
type FillingPart struct {
	From   string // a proxy's ID, or with Unary a tracker's
	Unary  bool   // claims without a session, which trackers bring each other
	Claims int
	Bytes  int // as they came; 0 with Unary
	Took   time.Duration
	Before time.Duration // how long before the end of the filling this was over
}

// A partial is what has come of a FillingPart.
type partial struct {
	began         time.Time // zero: nothing
	claims, bytes int
	unary         bool
}

func (p *partial) add(now time.Time, claims, bytes int) {
	if p.began.IsZero() {
		p.began = now
	}
	p.claims += claims
	p.bytes += bytes
}

// A filling is for how long shards that are placed on a tracker wait to be open.
type filling struct {
	since time.Time // zero while none waits
	times uint64    // that came to an end
	took  time.Duration

	told  bool // somebody is told of each; else there is nothing below
	most  int
	parts []endedPart // at most maxParts, in a circle
	count int         // that there were in all
	over  []endedFilling
}

type endedPart struct {
	FillingPart
	at time.Time
}

type endedFilling struct {
	Filling
	at time.Time
}

// note takes how many shards wait now.
func (f *filling) note(now time.Time, waiting int, view ring.Fingerprint) {
	switch {
	case waiting > 0 && f.since.IsZero():
		f.since = now
	case waiting == 0 && !f.since.IsZero():
		if f.told {
			f.end(now, view)
		}
		f.took += now.Sub(f.since)
		f.times++
		f.since = time.Time{}
	}
	f.most = max(f.most, waiting)
}

// part takes what is complete, if there is anything. Outside of a filling it is a
// repair, and nobody waits for it.
func (f *filling) part(now time.Time, from string, p *partial) {
	if p.began.IsZero() {
		return
	}
	if !f.since.IsZero() {
		e := endedPart{FillingPart{From: from, Unary: p.unary, Claims: p.claims, Bytes: p.bytes, Took: now.Sub(p.began)}, now}
		if len(f.parts) < maxParts {
			f.parts = append(f.parts, e)
		} else {
			f.parts[f.count%maxParts] = e
		}
		f.count++
	}
	*p = partial{unary: p.unary}
}

func (f *filling) end(now time.Time, view ring.Fingerprint) {
	over := Filling{View: view, Shards: f.most, Took: now.Sub(f.since), More: f.count - len(f.parts)}
	for i := range f.parts {
		e := f.parts[(f.count+i)%len(f.parts)]
		e.Before = now.Sub(e.at)
		over.Parts = append(over.Parts, e.FillingPart)
	}
	if len(f.over) < maxFillings {
		f.over = append(f.over, endedFilling{over, now})
	}
	f.most, f.parts, f.count = 0, nil, 0
}

// sum is all of it, up to now.
func (f *filling) sum(now time.Time) time.Duration {
	if f.since.IsZero() {
		return f.took
	}
	return f.took + now.Sub(f.since)
}

// tellFillings tells of those that are over.
func (t *Tracker) tellFillings() {
	if t.cfg.Filled == nil {
		return
	}
	t.mu.Lock()
	over := t.filling.over
	t.filling.over = nil
	t.mu.Unlock()
	for _, f := range over {
		f.Ago = t.cfg.Now().Sub(f.at)
		t.cfg.Filled(f.Filling)
	}
}
