package lease

import (
	"cmp"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// A Term is how long any word given to another process holds, counted by its
// receiver from the time at which it made the nonce that the word echoes. It is
// the same in the whole pool.
type Term time.Duration

// DefaultTerm is the term of a pool that names none.
const DefaultTerm = Term(10 * time.Second)

// Held is how long a receiver relies on a word, from its nonce.
func (t Term) Held() time.Duration { return time.Duration(t) }

// Given is how long a giver stands by its word, from when it first received the
// nonce: a tenth more than a term, since the clocks of two machines drift.
// Whoever waits for somebody else's term to end counts this.
func (t Term) Given() time.Duration { return time.Duration(t) + time.Duration(t)/10 }

// Renewal is how often a word is renewed.
func (t Term) Renewal() time.Duration { return time.Duration(t) / 3 }

// Forgotten is when nobody relies any more on what was said at the start of it:
// two terms of somebody else's clock. A seat that starts waits so long, and a
// proxy of which nothing was heard for so long has no lease anywhere.
func (t Term) Forgotten() time.Duration { return 2 * t.Given() }

// A Nonce is made by the receiver of a word before it asks for it, and echoed in
// the word: the receiver's clock in nanoseconds. To everyone else it is opaque.
type Nonce int64

// NonceAt is the nonce for time t.
func NonceAt(t time.Time) Nonce { return Nonce(t.UnixNano()) }

// Time is when n was made, on the clock of the process that made it.
func (n Nonce) Time() time.Time { return time.Unix(0, int64(n)) }

// A Process is one life of a tracker.
type Process struct {
	ID   ring.MemberID
	Boot uint64
}

// An Incarnation is one life of a proxy: a number that grows at each start, and
// a random number of the process, so that two processes that took the same
// number are told apart. The zero Incarnation is nobody's and below all others.
type Incarnation struct {
	Number, Random uint64
}

// Compare orders incarnations, the number first.
func (i Incarnation) Compare(o Incarnation) int {
	return cmp.Or(cmp.Compare(i.Number, o.Number), cmp.Compare(i.Random, o.Random))
}

// Less reports whether i is an earlier life than o.
func (i Incarnation) Less(o Incarnation) bool { return i.Compare(o) < 0 }

// Next is the lowest incarnation above i. As a floor it ends i and all before it.
func (i Incarnation) Next() Incarnation {
	if i.Random++; i.Random == 0 {
		i.Number++
	}
	return i
}

// IsZero reports whether i is nobody's.
func (i Incarnation) IsZero() bool { return i == Incarnation{} }

// A ProxyID names a proxy, whatever its incarnation. 1 to 255 bytes of UTF-8.
type ProxyID string

// A Contact is what one process has heard of a proxy.
type Contact struct {
	Proxy       ProxyID
	Incarnation Incarnation   // the highest heard of; zero where only a floor is known
	Age         time.Duration // since that incarnation was last heard of
	Claims      bool          // that incarnation has claims; only then does anybody wait for it
	Floor       Incarnation   // lives below it are over: it said goodbye, or was removed
	FloorAge    time.Duration // since the floor was put there
	Stalled     bool          // in a word: some holder says that it does not confirm
	StalledAge  time.Duration // for how long the seat has marked it so, without a break
}

// An Ask is a tracker's request for a seat's word. It acknowledges the last one.
type Ask struct {
	From     Process
	SeatSets []uint64 // sums of the sets of seats that the tracker was given, the newest last
	Nonce    Nonce
	SeatBoot uint64 // which life of the seat Ack speaks of
	Ack      uint64 // seq of the last Word received; 0 before any
	Contacts []Contact
	Stalled  []ProxyID // proxies that do not confirm here
}

// A Word is what a seat stands by: View's list of a shard, if each older view
// gives the same list or has no straggler among its holders; until a term after
// Nonce on the receiver's clock. A seat that may not grant yet sends one without
// a view, for its contacts.
type Word struct {
	Seat     Process
	Seq      uint64
	Nonce    Nonce
	Grants   bool
	View     ring.Fingerprint
	Older    []Older
	Full     bool // Contacts are all, not only those that changed since the acknowledged Word
	Contacts []Contact
}

// Older is a view that its stragglers may still rely on: processes that may hold
// a word given while the seat stood by it.
type Older struct {
	View       ring.Fingerprint
	Stragglers []Process
}
