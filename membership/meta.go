package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	// metaFormat is the version of the encoding. Fields that are added at its
	// end do not change it: older releases ignore them.
	metaFormat = 1

	// maxMeta is memberlist's limit, in bytes.
	maxMeta = 512

	maxShards   = 1 << 16
	maxIDLen    = 63
	maxZoneLen  = 63
	maxAddrLen  = 255
	maxSeatSets = 4
	maxSeats    = 15

	// maxBoot is a boot in the year 2248: a later one is a forgery or comes from
	// a broken clock, and would leave its tracker no higher one to take.
	maxBoot = 1 << 63

	randomBootBits = 20
)

// NewBoot returns a boot that is greater than known, the highest that is known
// of this tracker ID, or 0: 44 bits of Unix milliseconds and 20 random ones, or
// known+1 where the clock is behind. (Nothing is greater than the greatest
// uint64, which is returned for itself; gossip refuses boots from 2^63 on.)
func NewBoot(now time.Time, known uint64) uint64 {
	ms := uint64(max(now.UnixMilli(), 0))
	boot := ms<<randomBootBits | rand.Uint64N(1<<randomBootBits)
	if boot <= known && known < math.MaxUint64 {
		return known + 1
	}
	return max(boot, known)
}

// Seats is what a member's metadata says of the seat sets that it was given.
// The zero Seats is of a member that knows none yet.
type Seats struct {
	Sums []uint64          // of each set, the newest last; see ring.SetSum
	Sets [][]ring.MemberID // the sets, sorted by ID; nil where the metadata has no room for them
}

// Known reports whether the member knows its seats.
func (s Seats) Known() bool { return len(s.Sums) > 0 }

// Has reports whether the member was given the set.
func (s Seats) Has(set []ring.MemberID) bool { return slices.Contains(s.Sums, ring.SetSum(set)) }

// String returns the sets, or their sums where they are not known, or "none".
func (s Seats) String() string {
	switch {
	case s.Sets != nil:
		return fmt.Sprint(s.Sets)
	case s.Known():
		return fmt.Sprintf("sums %016x", s.Sums)
	}
	return "none"
}

// newSeats returns the seats of valid sets.
func newSeats(sets [][]ring.MemberID) Seats {
	var s Seats
	for _, set := range sets {
		s.Sums = append(s.Sums, ring.SetSum(set))
		s.Sets = append(s.Sets, slices.Sorted(slices.Values(set)))
	}
	return s
}

// validateSeats returns all faults of the seat sets, joined.
func validateSeats(sets [][]ring.MemberID) error {
	var errs []error
	if len(sets) > maxSeatSets {
		errs = append(errs, fmt.Errorf("seats: %d sets: give at most %d, and drop the oldest", len(sets), maxSeatSets))
	}
	for _, set := range sets {
		if len(set) == 0 || len(set) > maxSeats {
			errs = append(errs, fmt.Errorf("seats %v: %d trackers: give 1, 3 or 5, at most %d", set, len(set), maxSeats))
		}
		sorted := slices.Sorted(slices.Values(set))
		for i, id := range sorted {
			if len(id) == 0 || len(id) > maxIDLen {
				errs = append(errs, fmt.Errorf("seats %v: ID %q has %d bytes: give it 1 to %d", set, id, len(id), maxIDLen))
			}
			if i > 0 && sorted[i-1] == id {
				errs = append(errs, fmt.Errorf("seats %v: %q is given twice: name each tracker once", set, id))
			}
		}
	}
	return errors.Join(errs...)
}

// meta is what a member says of itself.
type meta struct {
	ring.Member
	shards int
	term   time.Duration // whole milliseconds
	seats  Seats
}

// gossipName is the member's name in memberlist, another one in each boot: of
// a name that comes back with another address memberlist takes a minute to be
// sure.
func gossipName(id ring.MemberID, boot uint64) string { return fmt.Sprintf("%s#%016x", id, boot) }

func (m meta) name() string { return gossipName(m.ID, m.Boot) }

// encode returns the metadata in at most 512 bytes, without the IDs of seats
// where these do not fit. The error of what does not fit then either names the
// lengths of its fields.
func (m meta) encode() ([]byte, error) {
	b := []byte{metaFormat}
	b = appendString(b, string(m.ID))
	b = binary.AppendUvarint(b, m.Boot)
	b = appendString(b, m.Addr)
	b = appendString(b, m.Zone)
	b = append(b, byte(m.State), m.Algorithm)
	b = binary.AppendUvarint(b, uint64(m.Replicas))
	b = binary.AppendUvarint(b, uint64(m.shards))
	b = binary.AppendUvarint(b, uint64(m.term.Milliseconds()))
	b = binary.AppendUvarint(b, uint64(len(m.seats.Sums)))
	for _, sum := range m.seats.Sums {
		b = binary.LittleEndian.AppendUint64(b, sum)
	}
	if m.seats.Sets != nil {
		full := append(slices.Clone(b), 1)
		for _, set := range m.seats.Sets {
			full = binary.AppendUvarint(full, uint64(len(set)))
			for _, id := range set {
				full = appendString(full, string(id))
			}
		}
		if len(full) <= maxMeta {
			return full, nil
		}
	}
	b = append(b, 0)
	if len(b) > maxMeta {
		return nil, fmt.Errorf("metadata has %d bytes (id %d, addr %d, zone %d, seat sums %d), and gossip carries %d: shorten the longest",
			len(b), len(m.ID), len(m.Addr), len(m.Zone), 8*len(m.seats.Sums), maxMeta)
	}
	return b, nil
}

// decodeMeta is the inverse of encode. It copies what it keeps, and ignores
// bytes after the fields that it knows.
func decodeMeta(b []byte) (meta, error) {
	if len(b) > maxMeta {
		return meta{}, fmt.Errorf("metadata has %d bytes, more than %d", len(b), maxMeta)
	}
	r := reader{rest: b}
	if format := r.byte("format"); r.err == nil && format != metaFormat {
		return meta{}, fmt.Errorf("metadata has format %d, and this release knows %d", format, metaFormat)
	}
	var m meta
	m.ID = ring.MemberID(r.string("id", 1, maxIDLen))
	m.Boot = r.uvarint("boot", 1, maxBoot-1)
	m.Addr = r.string("addr", 0, maxAddrLen)
	m.Zone = r.string("zone", 0, maxZoneLen)
	m.State = ring.State(r.byte("state"))
	if m.State > ring.Leaving {
		r.fail("state", "%d is not known here", m.State)
	}
	m.Algorithm = r.byte("algorithm")
	m.Replicas = ring.Replicas(r.uvarint("replicas", 1, math.MaxUint16))
	m.shards = int(r.uvarint("shards", 1, maxShards))
	m.term = time.Duration(r.uvarint("term", 1, uint64(maxTerm/time.Millisecond))) * time.Millisecond
	m.seats = r.seats()
	if r.err != nil {
		return meta{}, r.err
	}
	return m, nil
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// reader takes fields off the front of rest. After the first error, which it
// keeps, all fields are zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(field, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("metadata: %s: "+format, append([]any{field}, args...)...)
	}
	r.rest = nil
}

func (r *reader) take(field string, n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.rest) {
		r.fail(field, "%d bytes are left of %d", len(r.rest), n)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte(field string) byte {
	if b := r.take(field, 1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint(field string, least, most uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.rest)
	switch {
	case n <= 0:
		r.fail(field, "no number")
		return 0
	case v < least || v > most:
		r.fail(field, "%d is not in %d to %d", v, least, most)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) string(field string, least, most int) string {
	n := r.uvarint(field, uint64(least), uint64(most))
	return string(r.take(field, int(n)))
}

func (r *reader) seats() Seats {
	var s Seats
	sets := int(r.uvarint("seat sets", 0, maxSeatSets))
	for range sets {
		if b := r.take("seat sum", 8); b != nil {
			s.Sums = append(s.Sums, binary.LittleEndian.Uint64(b))
		}
	}
	if r.byte("seat flag") == 0 || r.err != nil {
		return s
	}
	for i := range sets {
		var set []ring.MemberID
		for range int(r.uvarint("seats", 1, maxSeats)) {
			set = append(set, ring.MemberID(r.string("seat", 1, maxIDLen)))
		}
		if r.err == nil && (!slices.IsSorted(set) || ring.SetSum(set) != s.Sums[i]) {
			r.fail("seats", "%v do not have the sum %016x", set, s.Sums[i])
		}
		s.Sets = append(s.Sets, set)
	}
	return s
}
