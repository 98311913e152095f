package lease

import (
	"slices"
	"time"
)

// FloorKept is how long a floor is remembered.
const FloorKept = 24 * time.Hour

// Contacts is what a process has heard of proxies: by itself, or, at a seat, also
// through the trackers that asked it. Nobody passes on what came in a Word, so
// that ages do not grow younger in a circle; but for floors, see Ledger.Granted.
type Contacts struct {
	term    Term
	m       map[ProxyID]*contact
	version uint64 // grows with every change
	marks   uint64 // grows whenever a stalled mark comes or goes
	marked  int    // proxies that have one
}

type contact struct {
	incarnation Incarnation
	at          time.Time // when it was last heard of
	claims      bool
	floor       Incarnation
	floorAt     time.Time
	stalledBy   map[Process]time.Time // the holders that say so, and until when
	stalledAt   time.Time             // since when somebody says so; zero: nobody
	version     uint64
}

// NewContacts returns an empty set of contacts.
func NewContacts(term Term) *Contacts {
	return &Contacts{term: term, m: map[ProxyID]*contact{}}
}

// Heard notes that an incarnation of a proxy spoke, or was reported with an age.
// That it has claims sticks to an incarnation: to wait for one that has none any
// more costs nothing, since it confirms like any other.
func (c *Contacts) Heard(at time.Time, proxy ProxyID, i Incarnation, claims bool) {
	e := c.entry(proxy)
	switch o := i.Compare(e.incarnation); {
	case o < 0:
		return
	case o > 0:
		e.incarnation, e.at, e.claims = i, at, claims
	case at.After(e.at) || claims && !e.claims:
		if at.After(e.at) {
			e.at = at
		}
		e.claims = e.claims || claims
	default:
		return
	}
	c.changed(e)
}

// End notes that a floor was put under a proxy at a time: its lives below are over.
func (c *Contacts) End(at time.Time, proxy ProxyID, floor Incarnation) {
	if e := c.entry(proxy); e.floor.Less(floor) {
		e.floor, e.floorAt = floor, at
		c.changed(e)
	}
}

// Report takes what a tracker says that it heard itself.
func (c *Contacts) Report(now time.Time, r Contact) {
	if !r.Incarnation.IsZero() {
		c.Heard(now.Add(-max(0, r.Age)), r.Proxy, r.Incarnation, r.Claims)
	}
	if !r.Floor.IsZero() {
		c.End(now.Add(-max(0, r.FloorAge)), r.Proxy, r.Floor)
	}
}

// ReportStalled takes all proxies that holder says do not confirm to it.
func (c *Contacts) ReportStalled(now time.Time, holder Process, stalled []ProxyID) {
	named := make(map[ProxyID]bool, len(stalled))
	for _, p := range stalled {
		named[p] = true
		e := c.entry(p)
		if e.stalledBy == nil {
			e.stalledBy = map[Process]time.Time{}
		}
		e.stalledBy[holder] = now.Add(c.term.Given())
		if e.stalledAt.IsZero() {
			e.stalledAt = now
			c.marks++
			c.marked++
			c.changed(e)
		}
	}
	for p, e := range c.m {
		if _, was := e.stalledBy[holder]; was && !named[p] {
			delete(e.stalledBy, holder)
			c.unmark(e)
		}
	}
}

// Advance forgets what is old: proxies unheard of for two terms, floors after a
// day, reports of trackers that no longer make them.
func (c *Contacts) Advance(now time.Time) {
	for p, e := range c.m {
		for h, until := range e.stalledBy {
			if !now.Before(until) {
				delete(e.stalledBy, h)
				c.unmark(e)
			}
		}
		if !e.floor.IsZero() && now.Sub(e.floorAt) > FloorKept {
			e.floor = Incarnation{}
		}
		if e.floor.IsZero() && len(e.stalledBy) == 0 && now.Sub(e.at) > c.term.Forgotten()+c.term.Given() {
			delete(c.m, p)
		}
	}
}

// next is when time alone may end a stalled mark next.
func (c *Contacts) next() (at time.Time, ok bool) {
	if c.marked == 0 {
		return at, false
	}
	for _, e := range c.m {
		for _, until := range e.stalledBy {
			if !ok || until.Before(at) {
				at, ok = until, true
			}
		}
	}
	return at, ok
}

// Known is the highest incarnation heard of a proxy, and its floor.
func (c *Contacts) Known(proxy ProxyID) (i, floor Incarnation) {
	if e := c.m[proxy]; e != nil {
		return e.incarnation, e.floor
	}
	return
}

// Stalled are the proxies that some holder says do not confirm to it, in order.
func (c *Contacts) Stalled() []ProxyID {
	if c.marked == 0 {
		return nil
	}
	var l []ProxyID
	for p, e := range c.m {
		if !e.stalledAt.IsZero() {
			l = append(l, p)
		}
	}
	slices.Sort(l)
	return l
}

// Len is of how many proxies something is known.
func (c *Contacts) Len() int { return len(c.m) }

func (c *Contacts) entry(p ProxyID) *contact {
	e := c.m[p]
	if e == nil {
		e = &contact{}
		c.m[p] = e
	}
	return e
}

func (c *Contacts) changed(e *contact) {
	c.version++
	e.version = c.version
}

func (c *Contacts) unmark(e *contact) {
	if len(e.stalledBy) == 0 && !e.stalledAt.IsZero() {
		e.stalledAt = time.Time{}
		c.marks++
		c.marked--
		c.changed(e)
	}
}

// since returns the contacts that changed after a version.
func (c *Contacts) since(now time.Time, version uint64) []Contact {
	var l []Contact
	if version == c.version {
		return nil
	}
	for p, e := range c.m {
		if e.version > version {
			l = append(l, e.contact(now, p))
		}
	}
	return l
}

func (e *contact) contact(now time.Time, p ProxyID) Contact {
	r := Contact{Proxy: p, Incarnation: e.incarnation, Claims: e.claims, Floor: e.floor}
	if !e.incarnation.IsZero() {
		r.Age = max(0, now.Sub(e.at))
	}
	if !e.floor.IsZero() {
		r.FloorAge = max(0, now.Sub(e.floorAt))
	}
	if !e.stalledAt.IsZero() {
		r.Stalled, r.StalledAge = true, now.Sub(e.stalledAt)
	}
	return r
}
