package node

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/trackerpool/trackerpool/ring"
)

// The packed forms are what messages carry in one field of bytes. They are part
// of the wire contract. Cursors read them in place: only IDs that are neither
// UUIDs nor short are allocated. A cursor is safe on any input: it ends with an
// *InvalidError that names the record. Numbers are uvarints of encoding/binary.
type (
	// IDs is a sequence of node IDs, each a byte and its content: 0 and the 16
	// bytes of a UUID, or 1 to 255 and so many bytes of text.
	IDs []byte

	// Ops is a sequence of additions and removals of claims. Each is a byte of
	// flags (1 a removal, 2 a generation follows, 4 an age follows), the numbers
	// that follow, and the ID as in IDs. Ages are in tenths of a second.
	Ops []byte

	// Chunks is the content of shards. Each section is the shard's number, a byte
	// of flags (1 the first of the shard, 2 the last), the number of claims, and
	// the claims as additions of Ops.
	Chunks []byte
)

const (
	opRemove     = 1 << 0
	opGeneration = 1 << 1
	opAge        = 1 << 2

	chunkFirst = 1 << 0
	chunkLast  = 1 << 1
)

// AppendID appends k, which must not be zero.
func AppendID(p IDs, k Key) IDs { return appendKey(p, &k) }

func appendKey(b []byte, k *Key) []byte {
	switch k.kind {
	case kindUUID:
		return append(append(b, 0), k.raw[:]...)
	case kindLong:
		return append(append(b, byte(len(k.long))), k.long...)
	}
	return append(append(b, k.kind), k.raw[:k.kind]...)
}

// Count returns how many records p has, without looking into them; one that is
// cut off counts.
func (p IDs) Count() int {
	n := 0
	for len(p) > 0 {
		size := int(p[0])
		if size == 0 {
			size = uuidBytes
		}
		p = p[min(1+size, len(p)):]
		n++
	}
	return n
}

// Cursor returns a cursor before the first ID.
func (p IDs) Cursor() IDCursor { return IDCursor{r: reader{field: "ids", rest: p}} }

// An IDCursor reads IDs. It is not safe for concurrent use.
type IDCursor struct{ r reader }

// Next puts the next ID into k and reports whether there was one.
func (c *IDCursor) Next(k *Key) bool { return c.r.more() && c.r.key(k) }

// Err returns the *InvalidError that ended the cursor, or nil.
func (c *IDCursor) Err() error { return c.r.error() }

// An Op adds a claim or removes one.
type Op struct {
	Key        Key
	Generation uint64 // 0 for a removal
	Age        uint32 // of the node's connection, in tenths of a second; 0 for a removal
	Remove     bool
}

// AppendAdd appends the addition of k's claim; age is in tenths of a second.
func AppendAdd(p Ops, k Key, generation uint64, age uint32) Ops {
	return appendAdd(p, &k, generation, age)
}

func appendAdd(b []byte, k *Key, generation uint64, age uint32) []byte {
	at := len(b)
	b = append(b, 0)
	if generation != 0 {
		b[at] |= opGeneration
		b = binary.AppendUvarint(b, generation)
	}
	if age != 0 {
		b[at] |= opAge
		b = binary.AppendUvarint(b, uint64(age))
	}
	return appendKey(b, k)
}

// AppendRemove appends the removal of k's claim.
func AppendRemove(p Ops, k Key) Ops { return appendKey(append(p, opRemove), &k) }

// Cursor returns a cursor before the first op.
func (p Ops) Cursor() OpCursor { return OpCursor{r: reader{field: "ops", rest: p}} }

// An OpCursor reads Ops, at most MaxChunk of them. It is not safe for concurrent
// use.
type OpCursor struct{ r reader }

// Next puts the next op into op and reports whether there was one.
func (c *OpCursor) Next(op *Op) bool {
	if c.r.more() && c.r.record >= MaxChunk {
		return c.r.fail("is one too many: a message carries at most %d claims; send several", MaxChunk)
	}
	return c.r.more() && c.r.op(op)
}

// Err returns the *InvalidError that ended the cursor, or nil.
func (c *OpCursor) Err() error { return c.r.error() }

// A Chunk is the head of one section of Chunks.
type Chunk struct {
	Shard       ring.Shard
	First, Last bool // of the shard's sections in one Replace of it
	Claims      int  // that follow
}

// AppendChunk appends the head of a section. The caller appends head.Claims
// claims with AppendChunkAdd next.
func AppendChunk(p Chunks, head Chunk) Chunks {
	p = binary.AppendUvarint(p, uint64(head.Shard))
	var flags byte
	if head.First {
		flags |= chunkFirst
	}
	if head.Last {
		flags |= chunkLast
	}
	return binary.AppendUvarint(append(p, flags), uint64(head.Claims))
}

// AppendChunkAdd appends a claim to the last section of p; age is in tenths of a
// second.
func AppendChunkAdd(p Chunks, k Key, generation uint64, age uint32) Chunks {
	return appendAdd(p, &k, generation, age)
}

// Cursor returns a cursor before the first section, in a pool of so many shards.
func (p Chunks) Cursor(shards int) ChunkCursor {
	return ChunkCursor{r: reader{field: "chunks", rest: p}, shards: shards}
}

// A ChunkCursor reads Chunks: at most MaxChunk claims, and no more sections than
// there are shards. It is not safe for concurrent use.
type ChunkCursor struct {
	r        reader
	shards   int
	sections int
	claims   int // of all sections so far
	left     int // of this section
}

// NextChunk puts the next section's head into head and reports whether there was
// one. It passes over what is left of the section before.
func (c *ChunkCursor) NextChunk(head *Chunk) bool {
	for op := (Op{}); c.NextOp(&op); {
	}
	if !c.r.more() {
		return false
	}
	if c.sections++; c.sections > c.shards {
		return c.r.fail("begins one section too many: the pool has %d shards", c.shards)
	}
	var shard, claims uint64
	var flags byte
	if !c.r.uvarint("shard", uint64(c.shards)-1, &shard) ||
		!c.r.flags(chunkFirst|chunkLast, &flags) ||
		!c.r.uvarint("number of claims", uint64(MaxChunk-c.claims), &claims) {
		return false
	}
	c.left = int(claims)
	c.claims += c.left
	*head = Chunk{Shard: ring.Shard(shard), First: flags&chunkFirst != 0, Last: flags&chunkLast != 0, Claims: c.left}
	return true
}

// NextOp puts the next claim of the section into op, always an addition, and
// reports whether there was one.
func (c *ChunkCursor) NextOp(op *Op) bool {
	if c.left == 0 || c.r.problem != "" {
		return false
	}
	c.left--
	if !c.r.op(op) {
		return false
	}
	if op.Remove {
		return c.r.fail("is a removal; a shard's content has additions alone")
	}
	return true
}

// Err returns the *InvalidError that ended the cursor, or nil.
func (c *ChunkCursor) Err() error { return c.r.error() }

// A reader reads records off bytes until they end or one is wrong.
type reader struct {
	field   string
	rest    []byte
	record  int // how many were read whole
	problem string
	value   string // that is wrong; empty for the bytes at which it ended
}

func (r *reader) more() bool { return len(r.rest) > 0 && r.problem == "" }

// fail notes the first problem and ends the reader. It returns false.
func (r *reader) fail(format string, args ...any) bool {
	if r.problem == "" {
		r.problem = fmt.Sprintf(format, args...)
	}
	return false
}

func (r *reader) error() error {
	if r.problem == "" {
		return nil
	}
	value := r.value
	if value == "" {
		value = fmt.Sprintf("%x", r.rest[:min(8, len(r.rest))])
	}
	return &InvalidError{Field: fmt.Sprintf("%s[%d]", r.field, r.record), Value: value, Problem: r.problem}
}

func (r *reader) byte(b *byte) bool {
	if len(r.rest) == 0 {
		return r.fail("is cut off")
	}
	*b, r.rest = r.rest[0], r.rest[1:]
	return true
}

func (r *reader) flags(known byte, flags *byte) bool {
	if !r.byte(flags) {
		return false
	}
	if *flags&^known != 0 {
		return r.fail("has flags %#02x; known are %#02x", *flags, known)
	}
	return true
}

func (r *reader) uvarint(what string, most uint64, v *uint64) bool {
	n, size := binary.Uvarint(r.rest)
	switch {
	case size == 0:
		return r.fail("is cut off in its %s", what)
	case size < 0:
		return r.fail("has a %s of more than 64 bits", what)
	case n > most:
		return r.fail("has a %s of %d; the most is %d", what, n, most)
	}
	*v, r.rest = n, r.rest[size:]
	return true
}

// key reads an ID, which ends a record.
func (r *reader) key(k *Key) bool {
	var size byte
	if !r.byte(&size) {
		return false
	}
	length := int(size)
	if size == 0 {
		length = uuidBytes
	}
	if len(r.rest) < length {
		return r.fail("is cut off: %d of %d bytes of its node_id are there", len(r.rest), length)
	}
	text := r.rest[:length]
	r.rest = r.rest[length:]
	if size == 0 {
		*k = uuidKey([16]byte(text))
	} else {
		var problem string
		if *k, problem = keyOfBytes(text); problem != "" {
			r.value = shorten(string(text))
			return r.fail("has a node_id that %s", problem)
		}
	}
	r.record++
	return true
}

// op reads an addition or removal, which is a record.
func (r *reader) op(op *Op) bool {
	var flags byte
	if !r.flags(opRemove|opGeneration|opAge, &flags) {
		return false
	}
	*op = Op{Remove: flags&opRemove != 0}
	if op.Remove && flags != opRemove {
		return r.fail("is a removal with flags %#02x; a removal has neither generation nor age", flags)
	}
	if flags&opGeneration != 0 && !r.uvarint("generation", math.MaxUint64, &op.Generation) {
		return false
	}
	var age uint64
	if flags&opAge != 0 && !r.uvarint("age", math.MaxUint32, &age) {
		return false
	}
	op.Age = uint32(age)
	return r.key(&op.Key)
}
