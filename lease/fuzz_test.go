package lease

import (
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// FuzzLedger feeds a ledger events that its bytes name: words in and out of order,
// views, confirms, time. It never panics, and at every step open ⊆ in force ⊆ held,
// and what is in force is granted by live words of more than half of the seats.
func FuzzLedger(f *testing.F) {
	views := []*ring.Placement{
		place(f, deskShards, 2, "a", "b", "c", "x"), place(f, deskShards, 2, "a", "b", "x"),
		place(f, deskShards, 2, "a", "b", "c", "d", "x"), place(f, deskShards, 1, "a", "x"),
		place(f, 2*deskShards, 2, "a", "b", "c", "x"), // of another pool
	}
	f.Add([]byte{})
	f.Add([]byte("\x00\x00\x02\x01\x00\x00\x02\x01\x10\x00\x05\x07\x00\x00\x06\x00\x00\x00\x01\x63"))
	f.Add([]byte("7900910180009x009y000")) // a seat's word of an older boot, when the former has run out
	f.Add([]byte("\x00\x01\x02\x00\x00\x00\x02\x01\x00\x00\x02\x02\x00\x00\x07\x07\x00\x00\x08\x63\x00\x00\x01\x63\x00\x00\x04\x63\x00\x00"))
	f.Fuzz(func(t *testing.T, events []byte) {
		d, now := newDesk(t), at(0)
		var model fuzzModel
		model.views = views
		for len(events) >= 4 {
			e := [4]byte(events)
			events = events[4:]
			view, seat := views[int(e[1]>>4)%len(views)], int(e[1])%4
			proxy := ProxyID([]string{"p", "q", "r"}[int(e[2])%3])
			inc := life(uint64(e[2] >> 6))
			switch e[0] % 11 {
			case 0:
				if int(e[1])%len(views) < len(views)-1 { // never to another pool's
					d.l.Adopt(now, views[int(e[1])%len(views)])
				}
			case 1:
				now = now.Add(time.Duration(e[1]) * term / 50)
				d.l.Advance(now)
			case 2, 3:
				model.word(d.l, now, seat, view, e)
			case 4:
				now = now.Add(time.Duration(e[1]) * time.Millisecond)
			case 5:
				full := ring.FullShardSet(deskShards << (e[3] >> 7))
				for i := range e[3] & 15 {
					full.Remove(ring.Shard(i))
				}
				d.l.Confirmed(now, proxy, Confirm{inc, d.l.Nonce(now) - Nonce(e[3]>>4)*Nonce(time.Second), view.Fingerprint(), full})
			case 6:
				d.l.CopiesConfirmed(now, ring.MemberID("abcdxz"[e[2]%6:][:1]), d.l.Nonce(now)+Nonce(e[3]>>6), view.Fingerprint())
			case 7:
				d.l.Learnt(now, view)
			case 8:
				d.own.Heard(now, proxy, inc, e[3]&1 == 0)
			case 9:
				d.own.End(now, proxy, inc)
			case 10:
				d.l.Stalled(now)
				d.l.Missing(now)
				d.l.Next(now)
				d.l.Report(now, "a")
				checkHoldups(t, d.l, now)
				d.l.Words(now)
				d.l.Heard(now)
				d.l.Unreported(proxy)
				d.l.Counting(now, proxy, inc)
			}
			model.check(t, d.l, now)
		}
	})
}

// fuzzModel knows the last word of each seat that the ledger must have taken.
type fuzzModel struct {
	views []*ring.Placement
	words [3]Word
	until [3]time.Time
}

// word gives the ledger a word, at times late, with older views, marks and ages.
func (m *fuzzModel) word(l *Ledger, now time.Time, seat int, view *ring.Placement, e [4]byte) {
	w := &Word{Seat: Process{ring.MemberID("abcz"[seat : seat+1]), uint64(e[3] & 1)}, Seq: uint64(e[2]), Nonce: l.Nonce(now) - Nonce(e[3]>>4)*Nonce(time.Second),
		Grants: e[3]&2 == 0, View: view.Fingerprint(), Full: e[3]&4 == 0,
		Contacts: []Contact{{Proxy: "p", Incarnation: life(uint64(e[2] & 3)), Age: time.Duration(int8(e[2])) * time.Second, Claims: true, Stalled: e[3]&8 != 0, StalledAge: time.Duration(e[2]) * time.Second}}}
	if e[2]&4 != 0 {
		w.Older = []Older{{m.views[int(e[3])%len(m.views)].Fingerprint(), []Process{{"c", 1}}}}
	}
	if e[2]&8 != 0 {
		w.Contacts[0].Floor = life(2)
	}
	l.Granted(now, w)
	if seat == 3 {
		return
	}
	o := m.words[seat]
	newer := w.Seat.Boot > o.Seat.Boot || w.Seat.Boot == o.Seat.Boot && w.Seq > o.Seq
	older := w.Seat.Boot < o.Seat.Boot && !now.Before(m.until[seat]) // its clock was set back; what it said before has run out
	if o.Seq == 0 && o.Nonce == 0 || newer || older {
		m.words[seat], m.until[seat] = *w, w.Nonce.Time().Add(simTerm.Held())
	}
}

func (m *fuzzModel) check(t *testing.T, l *Ledger, now time.Time) {
	s := l.Snapshot()
	if s.Placement == nil {
		return
	}
	for i := range 2 * deskShards {
		sh := ring.Shard(i)
		force := s.InForce(now, sh)
		if s.Open(now, sh) && !force || force && !s.Held.Has(sh) {
			t.Fatalf("shard %d: open %v, in force %v, held %v", sh, s.Open(now, sh), force, s.Held.Has(sh))
		}
		if !force {
			continue
		}
		n := 0
		for j, w := range m.words {
			for _, v := range m.views {
				if w.Grants && v.Fingerprint() == w.View && now.Before(m.until[j]) && v.SameList(s.Placement, sh) {
					n++
				}
			}
		}
		if n < 2 {
			t.Fatalf("shard %d is in force, but %d live words grant its list", sh, n)
		}
	}
}
