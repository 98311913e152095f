package sim

import (
	"fmt"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// The truth is what calls have promised of each claim. It knows the design's
// invariants 3 and 4 and nothing of how they are kept.
type truth struct {
	pool *Pool

	mu    sync.Mutex // guards the rest, and all lives and facts
	lives map[string]*life
	order []*life
	facts map[node.ID]map[*life]*fact
}

// A life is one process of a proxy. Readers tell it by its address.
type life struct {
	*proxy
	name, addr string

	// Guarded by truth.mu:

	over   time.Time // when it ended: nothing it claimed is found a term later; zero while it lives
	calm   time.Time // since when the seats have heard of it often enough; zero: they have not
	rival  bool      // another process has its ID: neither is owed anything
	doomed bool      // it is being removed
}

// A fact is what is true of one node at one proxy.
type fact struct {
	claimed bool      // it is to be found
	counted time.Time // since when it must not be denied; zero: it may be
	removed time.Time // when Remove had returned nil; zero: it has not, since the last Add
	stored  time.Time // when Add had last stored it

	// What Add has returned nil for may not be denied for a term, whatever befalls
	// its proxy's connections: then the seats had heard of the proxy a term before at
	// most, and holders wait for whom they heard of two terms before.
	sureFrom, sureUntil time.Time
}

func newTruth(p *Pool) *truth {
	return &truth{pool: p, lives: make(map[string]*life), facts: make(map[node.ID]map[*life]*fact)}
}

func (t *truth) lifeAt(addr string) *life {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lives[addr]
}

// born notes a process. While it is not alone under its ID nothing is owed to any
// of them.
func (t *truth) born(l *life) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lives[l.addr] = l
	t.order = append(t.order, l)
	t.rivalsLocked(l.proxy)
}

// rivalsLocked notes which lives of a proxy are alone.
func (t *truth) rivalsLocked(p *proxy) {
	var alive []*life
	for _, l := range t.order {
		if l.proxy == p && l.over.IsZero() {
			alive = append(alive, l)
		}
	}
	for _, l := range alive {
		if l.rival = len(alive) > 1; l.rival {
			t.forfeitLocked(l)
		}
	}
}

// released notes that a process is owed nothing any more.
func (t *truth) released(l *life) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.doomed = true
	t.forfeitLocked(l)
}

// died notes that a process ended.
func (t *truth) died(l *life) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !l.over.IsZero() {
		return
	}
	l.over = time.Now()
	t.forfeitLocked(l)
	t.rivalsLocked(l.proxy)
}

// forfeitLocked notes that a process is owed nothing from now on.
func (t *truth) forfeitLocked(l *life) {
	t.uncountLocked(l)
	for _, of := range t.facts {
		if f := of[l]; f != nil {
			f.sureUntil = time.Time{}
		}
	}
}

// uncountLocked notes that all claims of a process may be denied from now on, but
// for those that were made just now.
func (t *truth) uncountLocked(l *life) {
	l.calm = time.Time{}
	for _, of := range t.facts {
		if f := of[l]; f != nil {
			f.counted = time.Time{}
		}
	}
}

// heard notes whether the seats have heard of a process often enough.
func (t *truth) heard(l *life, often bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !often || l.rival || l.doomed || !l.over.IsZero():
		if !l.calm.IsZero() {
			t.uncountLocked(l)
		}
	case l.calm.IsZero():
		l.calm = time.Now()
	}
}

func (t *truth) factLocked(id node.ID, l *life) *fact {
	of := t.facts[id]
	if of == nil {
		of = make(map[*life]*fact)
		t.facts[id] = of
	}
	f := of[l]
	if f == nil {
		f = &fact{}
		of[l] = f
	}
	return f
}

// adding notes that Add is called.
func (t *truth) adding(id node.ID, l *life) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.factLocked(id, l)
	f.claimed, f.removed = true, time.Time{}
}

// added notes that Add has returned.
func (t *truth) added(id node.ID, l *life, counted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.factLocked(id, l)
	f.stored = time.Now()
	if counted && l.over.IsZero() && !l.rival && !l.doomed && f.claimed {
		if f.stored.After(f.sureUntil) {
			f.sureFrom = f.stored
		}
		f.sureUntil = f.stored.Add(time.Duration(sure * float64(t.pool.cfg.Term)))
	}
	if counted && !l.calm.IsZero() && l.over.IsZero() && f.counted.IsZero() {
		f.counted = time.Now()
	}
}

// removing notes that Remove is called.
func (t *truth) removing(id node.ID, l *life) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.factLocked(id, l)
	f.claimed, f.counted, f.sureUntil = false, time.Time{}, time.Time{}
}

// removed notes that Remove has returned nil.
func (t *truth) removed(id node.ID, l *life) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.factLocked(id, l).removed = time.Now()
}

// uncounted returns how many of a process' claims were stored and are not owed
// anything, while it has been calm.
func (t *truth) uncounted(l *life) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.calm.IsZero() {
		return 0
	}
	for _, of := range t.facts {
		if f := of[l]; f != nil && f.claimed && f.counted.IsZero() && !f.stored.IsZero() {
			n++
		}
	}
	return n
}

// settled notes that all claims stored before a time count.
func (t *truth) settled(l *life, before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.calm.IsZero() || l.calm.After(before) || !l.over.IsZero() {
		return
	}
	for _, of := range t.facts {
		if f := of[l]; f != nil && f.claimed && f.counted.IsZero() && !f.stored.IsZero() && f.stored.Before(before) {
			f.counted = time.Now()
		}
	}
}

// at returns the living processes that claim a node.
func (t *truth) at(id node.ID) []*life {
	t.mu.Lock()
	defer t.mu.Unlock()
	var at []*life
	for _, l := range t.order {
		if f := t.facts[id][l]; f != nil && f.claimed && l.over.IsZero() {
			at = append(at, l)
		}
	}
	return at
}

// steady reports whether some living process has claimed a node since a time.
func (t *truth) steady(id node.ID, since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for l, f := range t.facts[id] {
		if f.claimed && !f.stored.IsZero() && f.stored.Before(since) && l.over.IsZero() {
			return true
		}
	}
	return false
}

// countedSince returns a claim of a node that must not be denied since a time.
func (t *truth) countedSince(id node.ID, since time.Time) (l *life, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for l, f := range t.facts[id] {
		switch {
		case !f.counted.IsZero() && !f.counted.After(since):
			return l, f.counted
		case time.Now().Before(f.sureUntil) && !f.sureFrom.After(since):
			return l, f.sureFrom
		}
	}
	return nil, time.Time{}
}

// staleness is by how much a reader's answer may be behind.
type staleness struct{ found, absent time.Duration }

// judge returns what is wrong with an answer to a question that was asked at a
// time, or nothing.
func (t *truth) judge(id node.ID, began time.Time, slack staleness, answer node.Answer, claims []node.Claim) string {
	switch answer {
	case node.Absent:
		if l, at := t.countedSince(id, began.Add(-slack.absent)); l != nil {
			return fmt.Sprintf("ABSENT for %s, but its claim of %s has counted since %v", id, l.name, t.pool.at(at))
		}
	case node.Found:
		if len(claims) == 0 {
			return fmt.Sprintf("FOUND for %s without a claim", id)
		}
		for _, c := range claims {
			if why := t.judgeFound(id, began.Add(-slack.found), c); why != "" {
				return why
			}
		}
	}
	return ""
}

func (t *truth) judgeFound(id node.ID, asked time.Time, c node.Claim) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lives[c.Proxy.Addr]
	if l == nil || string(c.Proxy.ID) != l.id || c.Node != id {
		return fmt.Sprintf("FOUND for %s is %+v, which nobody claimed", id, c)
	}
	f := t.facts[id][l]
	switch {
	case f == nil:
		return fmt.Sprintf("FOUND for %s names %s, which never claimed it", id, l.name)
	case !f.removed.IsZero() && f.removed.Before(asked):
		return fmt.Sprintf("FOUND for %s names %s, whose claim was removed at %v", id, l.name, t.pool.at(f.removed))
	case !l.over.IsZero() && l.over.Add(t.pool.leaseLasts()).Before(asked):
		return fmt.Sprintf("FOUND for %s names %s, which ended at %v", id, l.name, t.pool.at(l.over))
	}
	return ""
}
