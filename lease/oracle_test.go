package lease

import (
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// What only tests ask of a Grantor and a Ledger.

// GrantAtOnce ends the silence after a start: there was no pool before.
func (g *Grantor) GrantAtOnce(now time.Time) {
	if now.Before(g.grantsFrom) {
		g.grantsFrom = now
		g.refresh(now)
	}
}

// Owed names the trackers whose last Word no longer says what the seat stands by.
func (g *Grantor) Owed() []Process {
	var l []Process
	for p, r := range g.receivers {
		if r.sent != g.version {
			l = append(l, p)
		}
	}
	return l
}

// Blocking names the proxies and trackers that keep a shard from opening: what Holdups
// must say too, worked out shard by shard. It is empty where the shard is open or not in force.
func (l *Ledger) Blocking(now time.Time, sh ring.Shard) (proxies []ProxyID, trackers []ring.MemberID) {
	if l.current == nil || !l.snapshot.InForce(now, sh) || l.snapshot.open.Has(sh) {
		return nil, nil
	}
	for p := range l.heardOf(now) {
		i, ok := l.waitsFor(now, p, false)
		if !ok || slices.Contains(proxies, p) {
			continue
		}
		c := l.complete(now, p, i)
		if c.nonce <= l.since[sh] || !c.shards.Has(sh) || c.more != nil && !c.more.Has(sh) {
			proxies = append(proxies, p)
		}
	}
	for _, m := range l.current.View().Members() {
		if m.ID == l.self.ID || m.State == ring.Joining {
			continue
		}
		c := l.copies[m.ID]
		if c.nonce <= l.since[sh] || !l.placedBy(c.view).Has(sh) {
			trackers = append(trackers, m.ID)
		}
	}
	slices.Sort(proxies)
	return proxies, trackers
}
