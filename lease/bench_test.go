package lease

import (
	"fmt"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	benchTrackers = 100
	benchProxies  = 1000
	benchShards   = 4096
)

// bench is a tracker of a large pool that relies on three seats.
type bench struct {
	l          *Ledger
	v          [2]*ring.Placement // the second without the last tracker
	now        time.Time
	seq        uint64
	contacts   []Contact
	proxies    []ProxyID
	complete   ring.ShardSet
	stragglers []Process
}

func newBench(b *testing.B) *bench {
	ids := make([]ring.MemberID, benchTrackers)
	for i := range ids {
		ids[i] = ring.MemberID(fmt.Sprintf("t-%d", i))
	}
	x := &bench{now: at(0), complete: ring.FullShardSet(benchShards)}
	x.v = [2]*ring.Placement{place(b, benchShards, 2, ids...), place(b, benchShards, 2, ids[:benchTrackers-1]...)}
	own := NewContacts(simTerm)
	for i := range benchProxies {
		p := ProxyID(fmt.Sprintf("proxy-%d", i))
		x.proxies = append(x.proxies, p)
		x.contacts = append(x.contacts, heardOf(p, life(1), time.Second))
		own.Heard(x.now, p, life(1), true)
	}
	for _, id := range ids {
		x.stragglers = append(x.stragglers, proc(id))
	}
	x.l = NewLedger(x.now, proc("t-7"), [][]ring.MemberID{ids[:3]}, simTerm, own)
	x.l.Adopt(x.now, x.v[0])
	x.l.Know(x.now, x.v[1])
	x.words(x.v[0], x.contacts)
	return x
}

func (x *bench) words(v *ring.Placement, contacts []Contact, older ...Older) {
	n := x.l.Nonce(x.now)
	for i := range 3 {
		x.seq++
		x.l.Granted(x.now, &Word{Seat: proc(ring.MemberID(fmt.Sprintf("t-%d", i))), Seq: x.seq, Nonce: n, Grants: true, View: v.Fingerprint(), Older: older, Contacts: contacts})
	}
}

func (x *bench) confirms() {
	n := x.l.Nonce(x.now)
	for _, p := range x.proxies {
		x.l.Confirmed(x.now, p, Confirm{life(1), n, x.l.current.Fingerprint(), x.complete})
	}
}

func (x *bench) copies() {
	n := x.l.Nonce(x.now)
	for _, m := range x.l.current.View().Members() {
		x.l.CopiesConfirmed(x.now, m.ID, n, x.l.current.Fingerprint())
	}
}

// A tracker takes another view, three words with stragglers, and three without.
func BenchmarkChangeOfView(b *testing.B) {
	x := newBench(b)
	x.confirms()
	x.copies()
	for i := 1; b.Loop(); i++ {
		old, v := x.v[(i+1)%2], x.v[i%2]
		x.l.Adopt(x.now, v)
		x.words(v, nil, Older{old.Fingerprint(), x.stragglers})
		x.words(v, nil)
	}
}

// A seat turns to another view, tells all, takes their acknowledgements, and tells
// them that no straggler is left.
func BenchmarkGrantorChangeOfView(b *testing.B) {
	x := newBench(b)
	g := NewGrantor(x.now, x.stragglers[0], simTerm, 1, true, NewContacts(simTerm))
	for _, c := range x.contacts {
		g.contacts.Report(x.now, c)
	}
	g.Adopt(x.now, x.v[0])
	nonce := Nonce(0)
	tell := func() {
		for _, p := range x.stragglers[1:] {
			w, _ := g.Word(x.now, p)
			nonce++
			g.Asked(x.now, &Ask{From: p, SeatSets: []uint64{1}, Nonce: nonce, SeatBoot: 1, Ack: w.Seq})
		}
	}
	for _, p := range x.stragglers[1:] {
		g.Asked(x.now, &Ask{From: p, SeatSets: []uint64{1}, Nonce: 1, SeatBoot: 1})
	}
	tell()
	for i := 1; b.Loop(); i++ {
		g.Adopt(x.now, x.v[i%2])
		tell()
		tell()
	}
}

// All proxies confirm, one after the other, while all shards wait for them.
func BenchmarkRenewWhileWaiting(b *testing.B) {
	x := newBench(b)
	x.copies()
	for b.Loop() {
		b.StopTimer()
		x.now = x.now.Add(2 * term) // a break: all are waited for again
		x.words(x.v[0], x.contacts)
		x.copies()
		if _, force, open := x.l.Snapshot().Tally(x.now); force == 0 || open != 0 {
			b.Fatalf("%d in force, %d open before the confirms", force, open)
		}
		b.StartTimer()
		x.confirms()
		if held, _, open := x.l.Snapshot().Tally(x.now); held != open {
			b.Fatalf("%d of %d open after the confirms", open, held)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchProxies, "ns/renew")
}

func BenchmarkCounting(b *testing.B) {
	x := newBench(b)
	for i := 0; b.Loop(); i++ {
		if !x.l.Counting(x.now, x.proxies[i%benchProxies], life(1)).Known {
			b.Fatal("a proxy that all seats know is not known")
		}
	}
}
