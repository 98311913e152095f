package node

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unsafe"
)

// slots is one shard of a Table: open addressing with linear probing, rows
// closed up again on removal. Claims of one node stand in one row, whoever owns
// them. Invariant: used <= room(len(all)), so a row always ends.
type slots struct {
	all  []slot
	used int
	text texts
	wide wides
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
	fewestSlots = 4
	slotBytes   = int(unsafe.Sizeof(slot{}))
)

// room is how many of n slots may be in use: seven eighths, and never all.
func room(n int) int { return n - (n+7)/8 }

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

// home is the slot at which the row of a hash begins.
func (s *slots) home(hash uint64) int {
	i, _ := bits.Mul64(hash, uint64(len(s.all)))
	return int(i)
}

func (s *slots) next(i int) int {
	if i++; i < len(s.all) {
		return i
	}
	return 0
}

// steps is how far it is from slot i on to slot j.
func (s *slots) steps(i, j int) int {
	if j < i {
		j += len(s.all)
	}
	return j - i
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

// find returns the slot of o's claim, or the empty one at the end of its row. It
// returns 0 where there are no slots.
func (s *slots) find(p *probe, o Owner) (i int, ok bool) {
	if len(s.all) == 0 {
		return 0, false
	}
	for i = s.home(p.hash); ; i = s.next(i) {
		e := &s.all[i]
		if e.empty() {
			return i, false
		}
		if e.owner() == o && s.has(e, p) {
			return i, true
		}
	}
}

func (s *slots) lookup(p *probe, buf []Held) []Held {
	if len(s.all) == 0 {
		return buf
	}
	for i := s.home(p.hash); !s.all[i].empty(); i = s.next(i) {
		if e := &s.all[i]; s.has(e, p) {
			buf = append(buf, Held{Owner: e.owner(), Value: s.value(e)})
		}
	}
	return buf
}

func (s *slots) put(seed maphash.Seed, p *probe, o Owner, v Value) (old Value, had bool) {
	i, had := s.find(p, o)
	if had {
		e := &s.all[i]
		old = s.value(e)
		s.setValue(e, v)
		return old, true
	}
	if s.used >= room(len(s.all)) {
		s.resize(seed, len(s.all)+len(s.all)/4+1)
		i, _ = s.find(p, o)
	}
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
	s.vacate(seed, i)
	s.tidy(seed)
	return old, true
}

// vacate drops the claim in slot i and closes the gap: what stands further on in
// the row moves up, unless that were before its home.
func (s *slots) vacate(seed maphash.Seed, i int) {
	e := &s.all[i]
	if e.tag&tagKind == tagLong {
		s.text.drop(e)
	}
	if e.tag&tagWide != 0 {
		s.wide.drop(e.gen)
	}
	s.used--
	for j := s.next(i); !s.all[j].empty(); j = s.next(j) {
		home := s.home(s.all[j].hash(seed))
		if s.steps(home, j) >= s.steps(i, j) {
			s.all[i] = s.all[j]
			i = j
		}
	}
	s.all[i] = slot{}
}

// dropIf drops the claims of matching owners and returns their sum. The caller
// calls tidy.
func (s *slots) dropIf(seed maphash.Seed, match func(Owner) bool) (dropped Sum) {
	n := len(s.all)
	if s.used == 0 {
		return dropped
	}
	// The walk begins behind an empty slot, so a gap is only ever closed by what
	// it has yet to see.
	start := slices.IndexFunc(s.all, func(e slot) bool { return e.empty() })
	for left := n - 1; left > 0; left-- {
		start = s.next(start)
		for e := &s.all[start]; !e.empty() && match(e.owner()); {
			k := s.key(e)
			dropped.AddClaim(k.Hash(), s.value(e).Generation)
			s.vacate(seed, start)
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
	if want := s.used + n; want > room(len(s.all)) {
		s.resize(seed, want+want/4+1)
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
	if len(s.all) > fewestSlots && 3*s.used < len(s.all) {
		s.resize(seed, s.used+s.used/4+1)
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
	s.all = allocate[slot](max(n, fewestSlots))
	for i := range old {
		e := &old[i]
		if e.empty() {
			continue
		}
		at := s.home(e.hash(seed))
		for !s.all[at].empty() {
			at = s.next(at)
		}
		s.all[at] = *e
	}
}

func (s *slots) bytes() int {
	return cap(s.all)*slotBytes + cap(s.text.all) + cap(s.wide.all)*8
}

// allocate returns n zeros, and as many more as the allocator gives anyway.
func allocate[T any](n int) []T {
	all := slices.Grow([]T(nil), n)
	all = all[:cap(all)]
	clear(all)
	return all
}
