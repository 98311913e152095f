package membership

import (
	"net/netip"
	"slices"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	// maxMembers is how many boots of trackers may gossip at a time: enough for
	// a thousand that start again at once, and a limit to what strangers can
	// make us store.
	maxMembers = 4096

	// maxLost is how many crashed trackers are looked for.
	maxLost = 64
)

// entry is one live boot of a tracker.
type entry struct {
	meta
	addr netip.AddrPort // where it gossips
}

// table is what gossip shows. It knows no clock and no lock.
type table struct {
	self    string           // our gossip name
	entries map[string]entry // by gossip name, ours among them

	// strangers are alive too, and have not proven who they are: they count for
	// nothing.
	strangers map[string]entry

	// youngest is the highest boot seen of each ID that has entries: when the
	// younger of two shown is gone, the older does not come back.
	youngest map[ring.MemberID]uint64

	// lost are the IDs that were last seen not to be leaving, the one that went
	// first at the front; at most maxLost.
	lost []lostMember
}

type lostMember struct {
	id   ring.MemberID
	addr netip.AddrPort
}

func newTable(self entry) table {
	t := table{
		self: self.name(), entries: make(map[string]entry), strangers: make(map[string]entry),
		youngest: make(map[ring.MemberID]uint64),
	}
	t.put(self)
	return t
}

func (t *table) me() entry { return t.entries[t.self] }

// size is how many boots are alive.
func (t *table) size() int { return len(t.entries) + len(t.strangers) }

// knows reports whether the boot of a gossip name is alive.
func (t *table) knows(name string) bool {
	_, member := t.entries[name]
	_, stranger := t.strangers[name]
	return member || stranger
}

// prove makes a member of a stranger, and reports whether it was one.
func (t *table) prove(name string) bool {
	e, ok := t.strangers[name]
	if ok {
		delete(t.strangers, name)
		t.put(e)
	}
	return ok
}

// at returns the gossip name of who gossips at the address, or nothing; of several
// the youngest, whatever its ID.
func (t *table) at(addr netip.AddrPort) string {
	var found entry
	for _, all := range []map[string]entry{t.entries, t.strangers} {
		for _, e := range all {
			if e.addr == addr && e.Boot > found.Boot {
				found = e
			}
		}
	}
	if found.Boot == 0 {
		return ""
	}
	return found.name()
}

// put notes that a member is alive.
func (t *table) put(e entry) {
	t.entries[e.name()] = e
	t.youngest[e.ID] = max(t.youngest[e.ID], e.Boot)
	t.lost = slices.DeleteFunc(t.lost, func(l lostMember) bool { return l.id == e.ID })
}

// drop notes that a member is gone, unless it is this one: we are the last to
// believe that.
func (t *table) drop(name string) {
	delete(t.strangers, name)
	e, ok := t.entries[name]
	if !ok || name == t.self {
		return
	}
	delete(t.entries, name)
	for _, other := range t.entries {
		if other.ID == e.ID {
			return
		}
	}
	delete(t.youngest, e.ID)
	if e.State == ring.Leaving {
		return
	}
	if len(t.lost) == maxLost {
		t.lost = slices.Delete(t.lost, 0, 1)
	}
	t.lost = append(t.lost, lostMember{e.ID, e.addr})
}

// shown returns the entries that are in the view: the youngest of each ID,
// compatible with ours.
func (t *table) shown() []entry {
	me := t.me()
	var shown []entry
	for _, e := range t.entries {
		if e.Boot == t.youngest[e.ID] && me.mismatch(e.meta) == nil {
			shown = append(shown, e)
		}
	}
	return shown
}

func (t *table) view() (ring.View, error) {
	var members []ring.Member
	for _, e := range t.shown() {
		members = append(members, e.Member)
	}
	return ring.NewView(members...)
}

// alone reports whether no other tracker is shown.
func (t *table) alone() bool {
	return !slices.ContainsFunc(t.shown(), func(e entry) bool { return e.ID != t.me().ID })
}

// supersededBy returns the highest boot that is shown of our own ID, and whether
// it is younger than ours.
func (t *table) supersededBy() (uint64, bool) {
	me := t.me()
	return t.youngest[me.ID], t.youngest[me.ID] > me.Boot
}

// has reports whether a live member, or this one, gossips at the address.
func (t *table) has(addr netip.AddrPort) bool {
	for _, e := range t.entries {
		if e.addr == addr {
			return true
		}
	}
	return false
}
