package lease

import (
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

type knownView struct {
	placement *ring.Placement
	until     time.Time
}

// Know keeps a view for two terms, so that words and confirms that name it can be
// understood. One with another number of shards is of another pool, and ignored.
func (l *Ledger) Know(now time.Time, p *ring.Placement) {
	if l.current != nil && l.current.Params().Shards != p.Params().Shards {
		return
	}
	k := l.known[p.Fingerprint()]
	if k == nil {
		k = &knownView{placement: p}
		l.known[p.Fingerprint()] = k
		for _, w := range l.words {
			if w != nil {
				w.stands = nil
			}
		}
	}
	k.until = now.Add(l.term.Forgotten())
}

// Learnt is Know, and looks at once what follows.
func (l *Ledger) Learnt(now time.Time, p *ring.Placement) {
	l.Know(now, p)
	l.refresh(now)
}

// View returns the placement of a view that the ledger keeps, or nil.
func (l *Ledger) View(fp ring.Fingerprint) *ring.Placement {
	if k := l.known[fp]; k != nil {
		return k.placement
	}
	return nil
}

// Missing names the views that words in hand speak of and that are not known here,
// with a seat to fetch each from. Such a word stands for nothing.
func (l *Ledger) Missing(now time.Time) map[ring.Fingerprint]ring.MemberID {
	var m map[ring.Fingerprint]ring.MemberID
	miss := func(fp ring.Fingerprint, seat ring.MemberID) {
		if l.known[fp] == nil {
			if m == nil {
				m = map[ring.Fingerprint]ring.MemberID{}
			}
			m[fp] = seat
		}
	}
	for i, w := range l.words {
		if w != nil && w.grants(now) {
			miss(w.word.View, l.seats.ids[i])
			for _, o := range w.word.Older {
				miss(o.View, l.seats.ids[i])
			}
		}
	}
	return m
}

func (l *Ledger) renewKnown(now time.Time, w *Word) {
	renew := func(fp ring.Fingerprint) {
		if k := l.known[fp]; k != nil {
			k.until = now.Add(l.term.Forgotten())
		}
	}
	renew(w.View)
	for _, o := range w.Older {
		renew(o.View)
	}
}
