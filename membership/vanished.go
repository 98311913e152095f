package membership

import (
	"encoding/binary"
	"slices"

	"github.com/trackerpool/trackerpool/ring"
)

// A boot has vanished where it is the youngest seen of its ID, and gone, while an
// older one still gossips: a tracker that started with its clock set back, and had
// nobody to ask for its former boot. It is not shown, and must learn why: with every
// exchange of all state members say which boots have vanished, and who hears that of
// its own ID has been superseded.

// maxVanished is how many are told at a time.
const maxVanished = 64

// vanished returns the encoded IDs and boots that have vanished, or nil.
func (t *table) vanished() []byte {
	var b []byte
	var ids []ring.MemberID
	for id, boot := range t.youngest {
		if _, live := t.entries[gossipName(id, boot)]; !live && id != t.me().ID {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids[:min(len(ids), maxVanished)] {
		b = appendString(b, string(id))
		b = binary.AppendUvarint(b, t.youngest[id])
	}
	return b
}

// decodeVanished is the inverse of vanished, as far as it can be read.
func decodeVanished(b []byte) map[ring.MemberID]uint64 {
	boots := make(map[ring.MemberID]uint64)
	for r := (reader{rest: b}); len(r.rest) > 0 && len(boots) < maxVanished; {
		id, boot := ring.MemberID(r.string("id", 1, maxIDLen)), r.uvarint("boot", 1, maxBoot-1)
		if r.err != nil {
			break
		}
		boots[id] = boot
	}
	return boots
}

// known notes a boot of our own ID that another member knows, and reports whether it
// is younger than any known before.
func (t *table) known(boot uint64) (news bool) {
	id := t.me().ID
	if news = boot > t.youngest[id]; news {
		t.youngest[id] = boot
	}
	return news
}
