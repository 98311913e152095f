package lease_test

import (
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A seat grants a tracker the lists of a view; the shards open when the only proxy
// has confirmed that its claims are there.
func Example() {
	view, err := ring.NewView(ring.Member{ID: "t-0", State: ring.Serving}, ring.Member{ID: "t-1", State: ring.Serving})
	if err != nil {
		fmt.Println(err)
		return
	}
	placement, err := ring.Place(view, ring.Params{Algorithm: 1, Shards: 8, Replicas: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Unix(1000, 0)
	term := lease.DefaultTerm
	seats := []ring.MemberID{"t-0"}

	seat := lease.NewGrantor(now, lease.Process{ID: "t-0", Boot: 1}, term, ring.SetSum(seats), true, lease.NewContacts(term))
	seat.Adopt(now, placement)
	self := lease.Process{ID: "t-1", Boot: 1}
	own := lease.NewContacts(term)
	ledger := lease.NewLedger(now, self, [][]ring.MemberID{seats}, term, own)
	ledger.Adopt(now, placement)
	show := func(what string) {
		held, force, open := ledger.Snapshot().Tally(now)
		fmt.Printf("%s: %d held, %d in force, %d open\n", what, held, force, open)
	}

	proxy := lease.Incarnation{Number: 1, Random: 42}
	own.Heard(now, "proxy", proxy, true)
	show("started")
	seat.Asked(now, &lease.Ask{From: self, SeatSets: []uint64{ring.SetSum(seats)}, Nonce: ledger.Nonce(now), Contacts: ledger.Report(now, "t-0")})
	word, _ := seat.Word(now, self)
	ledger.Granted(now, word)
	show("granted")
	nonce := ledger.Nonce(now)
	ledger.CopiesConfirmed(now, "t-0", nonce, placement.Fingerprint())
	ledger.Confirmed(now, "proxy", lease.Confirm{Incarnation: proxy, Nonce: nonce, View: placement.Fingerprint(), Complete: ring.FullShardSet(8)})
	show("confirmed")
	now = now.Add(term.Held())
	show("a term later, without a word")

	// Output:
	// started: 8 held, 0 in force, 0 open
	// granted: 8 held, 8 in force, 0 open
	// confirmed: 8 held, 8 in force, 8 open
	// a term later, without a word: 8 held, 0 in force, 0 open
}
