package node

import (
	"encoding/binary"
	"unsafe"
)

// texts keeps the IDs that do not fit into slots, one behind the other. A slot
// has the place of its text in the second half of its key: the offset, and in
// the lowest byte the length.
type texts struct {
	all  []byte
	dead int // bytes that no slot names
}

// at returns the text of e, valid until t changes.
func (t *texts) at(e *slot) string {
	place := binary.LittleEndian.Uint64(e.key[8:])
	text := t.all[place>>8:][:place&0xff]
	return unsafe.String(unsafe.SliceData(text), len(text))
}

// add keeps the text of e.
func (t *texts) add(e *slot, text string) {
	if need := len(t.all) + len(text); need > cap(t.all) {
		t.all = append(allocate[byte](need + need/8)[:0], t.all...)
	}
	binary.LittleEndian.PutUint64(e.key[8:], uint64(len(t.all))<<8|uint64(len(text)))
	t.all = append(t.all, text...)
}

// drop forgets the text of e.
func (t *texts) drop(e *slot) { t.dead += int(e.key[8]) }

// compact returns the living texts alone, and tells their slots.
func (t *texts) compact(all []slot) texts {
	var to texts
	if living := len(t.all) - t.dead; living > 0 {
		to.all = allocate[byte](living)[:0]
	}
	for i := range all {
		if e := &all[i]; e.tag&tagKind == tagLong {
			to.add(e, t.at(e))
		}
	}
	return to
}

// wides keeps the generations that do not fit into slots. A slot has the place
// of its own in gen.
type wides struct {
	all  []uint64 // a dead one has the place after the next dead one's, or 0
	free uint32   // the place after the first dead one's, or 0
	dead int
}

// add keeps a generation and returns its place.
func (w *wides) add(generation uint64) uint32 {
	if w.free == 0 {
		if len(w.all) == cap(w.all) {
			w.all = append(allocate[uint64](len(w.all) + len(w.all)/8 + 1)[:0], w.all...)
		}
		w.all = append(w.all, generation)
		return uint32(len(w.all) - 1)
	}
	place := w.free - 1
	w.free = uint32(w.all[place])
	w.dead--
	w.all[place] = generation
	return place
}

// drop forgets the generation at a place.
func (w *wides) drop(place uint32) {
	w.all[place] = uint64(w.free)
	w.free = place + 1
	w.dead++
}

// compact returns the living generations alone, and tells their slots.
func (w *wides) compact(all []slot) wides {
	var to wides
	if living := len(w.all) - w.dead; living > 0 {
		to.all = allocate[uint64](living)[:0]
	}
	for i := range all {
		if e := &all[i]; e.tag&tagWide != 0 {
			e.gen = to.add(w.all[e.gen])
		}
	}
	return to
}
