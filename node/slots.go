package node

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"unsafe"
)

// slots is one shard of a Table: open addressing, in groups of eight slots. A word of
// marks tells of a group which of its slots may have a key, so that a search reads the
// marks, which stay in a processor's cache, and seldom a slot that is not the one (the
// idea is that of Swiss tables, https://abseil.io/about/design/swisstables). A key's
// claims, whoever owns them, stand in the first groups from its home on that had room,
// so a search ends at a group with an empty slot. Invariant: there is always one:
// used+dead <= room(len(all)).
type slots struct {
	marks []uint64 // a byte of each slot, the lowest first: markEmpty, markDead, or markOf
	all   []slot   // eight of each word
	used  int
	dead  int // slots that are not in use, but that a search has to pass
	text  texts
	wide  wides
}

// A slot is one claim, or empty where tag is 0.
type slot struct {
	key   [16]byte // a UUID; a short text and its length; a long text's hash and place in texts
	tag   uint32   // the owner, and the bits below
	stamp uint32
	gen   uint32 // the generation, or with tagWide its place in wides
}

const (
	tagUUID  = 1
	tagShort = 2
	tagLong  = 3
	tagKind  = 3
	tagWide  = 4
	tagBits  = 4 // below the owner
)

func (e *slot) owner() Owner { return Owner(e.tag >> tagBits) }
func (e *slot) empty() bool  { return e.tag == 0 }

const (
	groupSlots = 8
	slotBytes  = int(unsafe.Sizeof(slot{}))
)

// room is how many of n slots may be in use or dead: 15 of 16, and never all.
func room(n int) int { return n - (n+15)/16 }

// sized is how many slots are to be allocated for some claims and, at random, a tenth
// to two fifths as many to come. The shards of a table have about as many claims each; if
// they grew alike, they would all be full at one size of the table and all a third empty
// at another. So claims take 36 bytes in the mean at any size, and are moved three to four
// times while they become more.
func sized(claims int) int {
	more := claims * (13 + rand.IntN(39)) / 128
	return claims + more + claims/15 + 2
}

const (
	markEmpty = 0
	markDead  = 1
	markUsed  = 0x80 // and seven bits of the hash

	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// markOf is the mark of a slot in use. It has the low bits, home the high ones.
func markOf(hash uint64) uint64 { return markUsed | hash&0x7f }

// matching has the high bit of each byte of a word that is mark, and at times of
// bytes above one that is.
func matching(word, mark uint64) uint64 {
	word ^= mark * ones
	return (word - ones) &^ word & highs
}

// unused has the high bit of each byte of a word that is empty or dead.
func unused(word uint64) uint64 { return ^word & highs }

// ends reports whether a word has an empty slot.
func ends(word uint64) bool { return matching(word, markEmpty) != 0 }

// A probe is a key in the form of slots.
type probe struct {
	key  [16]byte // all but a long text's place
	kind uint32
	long string
	hash uint64
}

func newProbe(seed maphash.Seed, k *Key) (p probe) {
	switch k.kind {
	case kindLong:
		p.kind, p.long = tagLong, k.long
		p.hash = maphash.String(seed, k.long)
		binary.LittleEndian.PutUint64(p.key[:], p.hash)
		return p
	case kindUUID:
		p.kind, p.key = tagUUID, k.raw
	default:
		p.kind, p.key = tagShort, k.raw
		p.key[shortBytes] = k.kind
	}
	p.hash = maphash.Bytes(seed, p.key[:])
	return p
}

// hash returns the probe's hash for the key of e.
func (e *slot) hash(seed maphash.Seed) uint64 {
	if e.tag&tagKind == tagLong {
		return binary.LittleEndian.Uint64(e.key[:])
	}
	return maphash.Bytes(seed, e.key[:])
}

// home is the group at which a search for a hash begins.
func (s *slots) home(hash uint64) int {
	g, _ := bits.Mul64(hash, uint64(len(s.marks)))
	return int(g)
}

func (s *slots) next(g int) int {
	if g++; g < len(s.marks) {
		return g
	}
	return 0
}

// slotOf is the slot of a group that the lowest bit of a set of marks is of.
func slotOf(g int, set uint64) int { return g*groupSlots + bits.TrailingZeros64(set)/8 }

func (s *slots) markAt(i int) uint64 { return s.marks[i/groupSlots] >> (i % groupSlots * 8) & 0xff }

func (s *slots) mark(i int, mark uint64) {
	word, shift := &s.marks[i/groupSlots], i%groupSlots*8
	*word = *word&^(0xff<<shift) | mark<<shift
}

// has reports whether e's key is p's.
func (s *slots) has(e *slot, p *probe) bool {
	if e.tag&tagKind != p.kind {
		return false
	}
	if p.kind != tagLong {
		return e.key == p.key
	}
	return [8]byte(e.key[:8]) == [8]byte(p.key[:8]) && s.text.at(e) == p.long
}

// find returns the slot of o's claim, or else the first for its key that is not in use.
// It returns 0 where there are no slots.
func (s *slots) find(p *probe, o Owner) (i int, ok bool) {
	if len(s.marks) == 0 {
		return 0, false
	}
	mark, vacant := markOf(p.hash), -1
	for g := s.home(p.hash); ; g = s.next(g) {
		word := s.marks[g]
		for set := matching(word, mark); set != 0; set &= set - 1 {
			i := slotOf(g, set)
			if e := &s.all[i]; e.owner() == o && s.has(e, p) {
				return i, true
			}
		}
		if set := unused(word); set != 0 && vacant < 0 {
			vacant = slotOf(g, set)
		}
		if ends(word) {
			return vacant, false
		}
	}
}

func (s *slots) lookup(p *probe, buf []Held) []Held {
	for e := range s.row(p) {
		buf = append(buf, Held{Owner: e.owner(), Value: s.value(e)})
	}
	return buf
}

// row returns the slots of a key's claims, of all owners. They may not change meanwhile.
func (s *slots) row(p *probe) iter.Seq[*slot] {
	return func(yield func(*slot) bool) {
		if len(s.marks) == 0 {
			return
		}
		mark := markOf(p.hash)
		for g := s.home(p.hash); ; g = s.next(g) {
			word := s.marks[g]
			for set := matching(word, mark); set != 0; set &= set - 1 {
				if e := &s.all[slotOf(g, set)]; s.has(e, p) && !yield(e) {
					return
				}
			}
			if ends(word) {
				return
			}
		}
	}
}

// vacant returns the first slot for a hash that is not in use.
func (s *slots) vacant(hash uint64) int {
	for g := s.home(hash); ; g = s.next(g) {
		if set := unused(s.marks[g]); set != 0 {
			return slotOf(g, set)
		}
	}
}

func (s *slots) put(seed maphash.Seed, p *probe, o Owner, v Value) (old Value, had bool) {
	i, had := s.find(p, o)
	if had {
		e := &s.all[i]
		old = s.value(e)
		s.setValue(e, v)
		return old, true
	}
	if s.used+s.dead >= room(len(s.all)) {
		s.resize(seed, sized(s.used+1))
		i = s.vacant(p.hash)
	}
	if s.markAt(i) == markDead {
		s.dead--
	}
	s.mark(i, markOf(p.hash))
	e := &s.all[i]
	*e = slot{key: p.key, tag: uint32(o)<<tagBits | p.kind}
	if p.kind == tagLong {
		s.text.add(e, p.long)
	}
	s.setValue(e, v)
	s.used++
	return Value{}, false
}

func (s *slots) remove(seed maphash.Seed, p *probe, o Owner) (old Value, had bool) {
	i, had := s.find(p, o)
	if !had {
		return Value{}, false
	}
	old = s.value(&s.all[i])
	s.vacate(i)
	s.tidy(seed)
	return old, true
}

// vacate drops the claim in slot i. Where the group has another empty slot no search
// goes on behind it, so that the slot may be one too.
func (s *slots) vacate(i int) {
	e := &s.all[i]
	if e.tag&tagKind == tagLong {
		s.text.drop(e)
	}
	if e.tag&tagWide != 0 {
		s.wide.drop(e.gen)
	}
	*e = slot{}
	s.used--
	if ends(s.marks[i/groupSlots]) {
		s.mark(i, markEmpty)
		return
	}
	s.mark(i, markDead)
	s.dead++
}

// dropIf drops the claims of matching owners and returns their sum. The caller
// calls tidy.
func (s *slots) dropIf(match func(Owner) bool) (dropped Sum) {
	for i := range s.all {
		if e := &s.all[i]; !e.empty() && match(e.owner()) {
			k := s.key(e)
			dropped.AddClaim(k.Hash(), s.value(e).Generation)
			s.vacate(i)
		}
	}
	return dropped
}

func (s *slots) sumOf(o Owner) (sum Sum) {
	for i := range s.all {
		if e := &s.all[i]; !e.empty() && e.owner() == o {
			k := s.key(e)
			sum.AddClaim(k.Hash(), s.value(e).Generation)
		}
	}
	return sum
}

func (s *slots) entries(o Owner, buf []Entry) []Entry {
	for i := range s.all {
		if e := &s.all[i]; !e.empty() && e.owner() == o {
			k := s.key(e)
			k.long = strings.Clone(k.long)
			buf = append(buf, Entry{Key: k, Value: s.value(e)})
		}
	}
	return buf
}

// key returns the key of e. A long one is valid only until s changes.
func (s *slots) key(e *slot) Key {
	switch e.tag & tagKind {
	case tagLong:
		return Key{kind: kindLong, long: s.text.at(e)}
	case tagUUID:
		return uuidKey(e.key)
	}
	k := Key{kind: e.key[shortBytes], raw: e.key}
	k.raw[shortBytes] = 0
	return k
}

func (s *slots) value(e *slot) Value {
	if e.tag&tagWide != 0 {
		return Value{Generation: s.wide.all[e.gen], Stamp: e.stamp}
	}
	return Value{Generation: uint64(e.gen), Stamp: e.stamp}
}

func (s *slots) setValue(e *slot, v Value) {
	e.stamp = v.Stamp
	wide := v.Generation > math.MaxUint32
	switch had := e.tag&tagWide != 0; {
	case wide && had:
		s.wide.all[e.gen] = v.Generation
		return
	case wide:
		e.gen = s.wide.add(v.Generation)
		e.tag |= tagWide
		return
	case had:
		s.wide.drop(e.gen)
		e.tag &^= tagWide
	}
	e.gen = uint32(v.Generation)
}

// reserve makes room for n more claims at once.
func (s *slots) reserve(seed maphash.Seed, n int) {
	if s.used+s.dead+n > room(len(s.all)) {
		s.resize(seed, sized(s.used+n))
	}
}

// tidy gives memory back after removals: slots where two thirds are empty,
// texts and generations where half are dead, and enough of them to pay for the
// walk over all slots.
func (s *slots) tidy(seed maphash.Seed) {
	if s.used == 0 {
		*s = slots{}
		return
	}
	if len(s.all) > groupSlots && 3*s.used < len(s.all) {
		s.resize(seed, sized(s.used))
	}
	if s.text.dead > len(s.text.all)/2 && s.text.dead > len(s.all) {
		s.text = s.text.compact(s.all)
	}
	if s.wide.dead > len(s.wide.all)/2 && s.wide.dead > len(s.all)/8 {
		s.wide = s.wide.compact(s.all)
	}
}

// resize moves all claims to at least n slots, which must have room for them.
func (s *slots) resize(seed maphash.Seed, n int) {
	old := s.all
	s.all = allocate[slot]((n + groupSlots - 1) / groupSlots * groupSlots)
	s.marks = make([]uint64, len(s.all)/groupSlots)
	s.all = s.all[:len(s.marks)*groupSlots]
	s.dead = 0
	for i := range old {
		e := &old[i]
		if e.empty() {
			continue
		}
		hash := e.hash(seed)
		at := s.vacant(hash)
		s.all[at] = *e
		s.mark(at, markOf(hash))
	}
}

func (s *slots) bytes() int {
	return cap(s.marks)*8 + cap(s.all)*slotBytes + cap(s.text.all) + cap(s.wide.all)*8
}

// allocate returns n zeros, and as many more as the allocator gives anyway.
func allocate[T any](n int) []T {
	all := slices.Grow([]T(nil), n)
	all = all[:cap(all)]
	clear(all)
	return all
}
