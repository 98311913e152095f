package ring

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

const (
	// Algorithm is the newest placement algorithm that this code knows.
	Algorithm = 1

	maxIDLen    = 63 // a DNS label, which a pod's name is
	maxShards   = 1 << 16
	maxReplicas = 15
)

// MemberID names a tracker, 1 to 63 bytes; it survives restarts and is never an
// address.
type MemberID string

// State is how far a member takes part. Views place shards on Serving members
// alone.
type State uint8

// The states of a member, in the order in which it goes through them.
const (
	Joining State = iota
	Serving
	Leaving
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Joining:
		return "joining"
	case Serving:
		return "serving"
	case Leaving:
		return "leaving"
	}
	return "state(" + strconv.Itoa(int(s)) + ")"
}

// Replicas is a set of replica counts: bit r is set where a tracker was given
// --replicas r, 1 to 15. Bit 0 means nothing.
type Replicas uint16

// ReplicasOf returns the set of the given counts; see [Replicas.Add].
func ReplicasOf(r ...int) Replicas {
	var set Replicas
	for _, n := range r {
		set.Add(n)
	}
	return set
}

// Add puts r into the set. It ignores a count outside 1 to 15, which
// [Replicas.Has] then reports.
func (rs *Replicas) Add(r int) {
	if 1 <= r && r <= maxReplicas {
		*rs |= 1 << r
	}
}

// Has reports whether r is in the set; it is false for any r outside 1 to 15.
func (rs Replicas) Has(r int) bool {
	return 1 <= r && r <= maxReplicas && rs&(1<<r) != 0
}

// String returns the counts in rising order, such as "2,3", or "none".
func (rs Replicas) String() string {
	var counts []string
	for r := 1; r <= maxReplicas; r++ {
		if rs.Has(r) {
			counts = append(counts, strconv.Itoa(r))
		}
	}
	if counts == nil {
		return "none"
	}
	return strings.Join(counts, ",")
}

// A Member is a tracker as gossip shows it.
type Member struct {
	ID         MemberID
	Boot       uint64 // which life of the tracker; the higher one is the later
	Addr, Zone string // an empty zone is a zone like any other
	State      State
	Algorithm  uint8    // the newest placement algorithm that it knows
	Replicas   Replicas // the replica counts that it was given
}

// A View is an immutable set of members. Two views are equal or different,
// never newer. The zero View is empty.
type View struct {
	members []Member // sorted by ID
	sum     uint64
	placed  int
}

// NewView returns the view of the given members, in any order. An ID that is
// empty, longer than 63 bytes or given twice is an error.
func NewView(members ...Member) (View, error) {
	if len(members) == 0 {
		return View{}, nil
	}
	v := View{members: slices.Clone(members)}
	slices.SortFunc(v.members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	for i, m := range v.members {
		if len(m.ID) == 0 || len(m.ID) > maxIDLen {
			return View{}, fmt.Errorf("member ID %q has %d bytes: give it 1 to %d", m.ID, len(m.ID), maxIDLen)
		}
		if i > 0 && v.members[i-1].ID == m.ID {
			return View{}, fmt.Errorf("member ID %q is given twice (boots %d and %d): give each tracker its own ID",
				m.ID, v.members[i-1].Boot, m.Boot)
		}
		if m.State == Serving {
			v.placed++
		}
	}
	v.sum = sumMembers(v.members)
	return v, nil
}

func sumMembers(members []Member) uint64 {
	b := make([]byte, 0, 96*len(members))
	for _, m := range members {
		b = appendString(b, string(m.ID))
		b = binary.LittleEndian.AppendUint64(b, m.Boot)
		b = appendString(b, m.Addr)
		b = appendString(b, m.Zone)
		b = append(b, byte(m.State), m.Algorithm)
		b = binary.LittleEndian.AppendUint16(b, uint16(m.Replicas))
	}
	return xxhash.Sum64(b)
}

// Members returns the members sorted by ID; not to be modified.
func (v View) Members() []Member { return v.members }

// Member returns the member with the given ID, and whether the view has one.
func (v View) Member(id MemberID) (Member, bool) {
	i, ok := slices.BinarySearchFunc(v.members, id, func(m Member, id MemberID) int { return cmp.Compare(m.ID, id) })
	if !ok {
		return Member{}, false
	}
	return v.members[i], true
}

// Len returns the number of members.
func (v View) Len() int { return len(v.members) }

// Placed returns the number of members that are Serving, which shards are
// placed on.
func (v View) Placed() int { return v.placed }

// Sum returns a 64-bit sum over all fields of all members, equal for equal
// views in every process. It is 0 for an empty view. Unlike a placement's
// fingerprint it changes with addresses, boots and states too.
func (v View) Sum() uint64 { return v.sum }

// Params are what a placement depends on besides the view.
type Params struct {
	Algorithm uint8 // 1 to [Algorithm]
	Shards    int   // 1 to 65536; need not be a power of two
	Replicas  int   // 1 to 15
}

// Validate returns all fields that are out of range, joined.
func (p Params) Validate() error {
	var errs []error
	if p.Algorithm < 1 || p.Algorithm > Algorithm {
		errs = append(errs, fmt.Errorf("algorithm %d: choose 1 to %d, or run a release that knows it", p.Algorithm, Algorithm))
	}
	if p.Shards < 1 || p.Shards > maxShards {
		errs = append(errs, fmt.Errorf("shards %d: choose 1 to %d", p.Shards, maxShards))
	}
	if p.Replicas < 1 || p.Replicas > maxReplicas {
		errs = append(errs, fmt.Errorf("replicas %d: choose 1 to %d", p.Replicas, maxReplicas))
	}
	return errors.Join(errs...)
}

// Resolve returns the parameters in use in a view: the lowest algorithm that
// any member advertises, and the smallest replica count that all members were
// given, whether they are placed on or not. It is an error if the view is
// empty, if the members share no count (the error names them by what they
// were given), or if this code does not know the algorithm.
func Resolve(v View, shards int) (Params, error) {
	if v.Len() == 0 {
		return Params{}, errors.New("the view is empty: there is no member to take parameters from")
	}
	lowest, common := v.members[0], v.members[0].Replicas
	for _, m := range v.members[1:] {
		if m.Algorithm < lowest.Algorithm {
			lowest = m
		}
		common &= m.Replicas
	}
	p := Params{Algorithm: lowest.Algorithm, Shards: shards}
	for p.Replicas = 1; !common.Has(p.Replicas); p.Replicas++ {
		if p.Replicas == maxReplicas {
			return Params{}, fmt.Errorf("members share no replica count (%s): give all of them the same --replicas", byReplicas(v))
		}
	}
	if err := p.Validate(); err != nil {
		return Params{}, fmt.Errorf("parameters of the view (lowest algorithm: member %q): %w", lowest.ID, err)
	}
	return p, nil
}

// byReplicas lists the members by the counts they were given, such as
// "2: a, b; 3: c", with at most five names for each.
func byReplicas(v View) string {
	const most = 5
	names := make(map[Replicas][]string)
	for _, m := range v.members {
		names[m.Replicas] = append(names[m.Replicas], string(m.ID))
	}
	var groups []string
	for set, ids := range names {
		if more := len(ids) - most; more > 0 {
			ids = append(ids[:most], fmt.Sprintf("and %d more", more))
		}
		groups = append(groups, set.String()+": "+strings.Join(ids, ", "))
	}
	slices.Sort(groups)
	return strings.Join(groups, "; ")
}
