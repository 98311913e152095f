package node

import (
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// A formerView is a placement before the present one.
type formerView struct {
	placement *ring.Placement
	until     time.Time
}

// maxFormerViews bounds the views whose holders are asked while a node is UNKNOWN.
const maxFormerViews = 4

// keepFormerLocked keeps the present view for two terms as a former one.
func (t *Tracker) keepFormerLocked(now time.Time) {
	p := t.snap.Load().Placement
	if p == nil {
		return
	}
	kept := []formerView{{p, now.Add(t.term.Forgotten())}}
	for _, f := range t.former {
		if now.Before(f.until) && len(kept) < maxFormerViews {
			kept = append(kept, f)
		}
	}
	t.former = kept
}

// formerHolders are the trackers on which the views of the last two terms placed a
// shard, the newest first, but for those that hold it now: until these are filled
// FOUND is to be had there.
func (t *Tracker) formerHolders(now time.Time, sh ring.Shard, list []ring.MemberID) []ring.MemberID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []ring.MemberID
	for _, f := range t.former {
		for _, id := range f.placement.List(sh) {
			if now.Before(f.until) && !slices.Contains(list, id) && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
