package ring

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
)

const (
	vnodes = 200  // of each member, on the circle
	load   = 1.25 // owned shards of a member, over the mean, before rounding up

	// libraryMembers is the most members whose owners the library computes. It
	// sorts its whole ring anew for each member it adds, which takes 3 times as long
	// as bounded for 16 members, 13 times for 50, 0.2 s for 100 and 17 s for 1,000;
	// beyond this many, bounded computes the same owners from the circle. When dozens
	// of trackers join at once each places dozens of views.
	// TestOwnersAreTheLibrarys holds the two equal.
	libraryMembers = 16
)

// memberKeys returns the names of the placed members on the circle. The library
// appends a vnode's number to its member's name, so names are of one width and
// end in a mark: by plain IDs vnode 10 of tracker-1 would also be vnode 0 of
// tracker-11, and owners would depend on the order of joins.
func memberKeys(placed []Member, hash func(string) uint64) ([]string, error) {
	keys := make([]string, len(placed))
	by := make(map[uint64]MemberID, len(placed))
	for i, m := range placed {
		h := hash(string(m.ID))
		if other, ok := by[h]; ok {
			return nil, fmt.Errorf("members %q and %q have the same hash %016x: rename one of them", other, m.ID, h)
		}
		by[h] = m.ID
		keys[i] = fmt.Sprintf("%016x#", h)
	}
	return keys, nil
}

type vnode struct {
	hash   uint64
	member int32 // its index among the placed members
}

// A circle is the library's ring of vnodes, in clockwise order.
type circle []vnode

func newCircle(keys []string) circle {
	c := make(circle, 0, len(keys)*vnodes)
	var b []byte
	for m, key := range keys {
		for i := range vnodes {
			b = strconv.AppendInt(append(b[:0], key...), int64(i), 10)
			c = append(c, vnode{xxhash.Sum64(b), int32(m)})
		}
	}
	slices.SortFunc(c, func(a, b vnode) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.member, b.member))
	})
	// Of members whose vnodes collide, the library gives both to the one that
	// was added last.
	for i := len(c) - 2; i >= 0; i-- {
		if c[i].hash == c[i+1].hash {
			c[i].member = c[i+1].member
		}
	}
	return c
}

// start returns where on the circle the walk for a shard begins.
func (c circle) start(shard int) int {
	h := xxhash.Sum64(binary.LittleEndian.AppendUint64(nil, uint64(shard)))
	i, _ := slices.BinarySearchFunc(c, h, func(v vnode, h uint64) int { return cmp.Compare(v.hash, h) })
	if i == len(c) {
		return 0
	}
	return i
}

func (c circle) next(i int) int {
	if i++; i == len(c) {
		return 0
	}
	return i
}

// owners returns the owner of each shard, as an index into keys.
func (c circle) owners(keys []string, shards int) ([]int32, error) {
	if len(keys) <= libraryMembers {
		return libraryOwners(keys, shards)
	}
	return c.bounded(len(keys), shards), nil
}

// partitions returns how many partitions to distribute so that each of the
// shards, which are the first of them, finds an owner.
//
// A member may own at most ceil(floor(P/N) * load) of P partitions. With fewer
// partitions than members that is none, and the library panics: so there are
// never fewer. The first ones' owners do not depend on how many follow, but for
// that bound. Then with k = floor(P/N) >= 1 a member may own at least k+1, all
// members N*(k+1) > P, and there is always one with room.
func partitions(shards, members int) int { return max(shards, members) }

// libraryMember is a member's name on the circle, and its index.
type libraryMember struct {
	key   string
	index int32
}

func (m libraryMember) String() string { return m.key }

type hasher struct{}

func (hasher) Sum64(b []byte) uint64 { return xxhash.Sum64(b) }

// libraryOwners asks the library. A ring is made for each view: the library's
// Remove may panic, and what it leaves depends on history.
func libraryOwners(keys []string, shards int) (owners []int32, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the library panicked: %v", r)
		}
	}()
	members := make([]consistent.Member, len(keys))
	for i, key := range keys {
		members[i] = libraryMember{key, int32(i)}
	}
	c := consistent.New(members, consistent.Config{
		Hasher:            hasher{},
		PartitionCount:    partitions(shards, len(keys)),
		ReplicationFactor: vnodes,
		Load:              load,
	})
	owners = make([]int32, shards)
	for s := range owners {
		owners[s] = c.GetPartitionOwner(s).(libraryMember).index
	}
	return owners, nil
}

// bounded computes what libraryOwners does: each shard goes to the first member
// from its start that has room.
func (c circle) bounded(members, shards int) []int32 {
	room := int(math.Ceil(float64(partitions(shards, members)/members) * load))
	owned := make([]int, members)
	owners := make([]int32, shards)
	for s := range owners {
		i := c.start(s)
		for owned[c[i].member] == room {
			i = c.next(i)
		}
		owners[s] = c[i].member
		owned[c[i].member]++
	}
	return owners
}

// A walk finds the holders of one shard after the other.
type walk struct {
	circle circle
	width  int
	zone   []int32 // of each member, as a number
	zones  int     // how many there are

	// Marks: the walk in which the member or zone was last taken.
	round        int
	memberMarked []int
	zoneMarked   []int
	list, others []int32
}

func newWalk(c circle, placed []Member, width int) *walk {
	w := &walk{circle: c, width: width, zone: make([]int32, len(placed)), memberMarked: make([]int, len(placed))}
	numbers := make(map[string]int32)
	for i, m := range placed {
		n, ok := numbers[m.Zone]
		if !ok {
			n = int32(len(numbers))
			numbers[m.Zone] = n
		}
		w.zone[i] = n
	}
	w.zones = len(numbers)
	w.zoneMarked = make([]int, w.zones)
	return w
}

// holders returns the list of a shard with the given owner, valid until the
// next call: the owner; then, clockwise from where the owner was found, the
// first member of each zone not yet in the list; then, if zones ran out, the
// members passed over, in the order of the walk.
func (w *walk) holders(shard int, owner int32) []int32 {
	w.round++
	w.list, w.others = w.list[:0], w.others[:0]
	w.take(owner)

	// The owner was found at its first vnode: it had room there or nowhere.
	i := w.circle.start(shard)
	for w.circle[i].member != owner {
		i = w.circle.next(i)
	}
	for !w.done() {
		i = w.circle.next(i)
		m := w.circle[i].member
		switch {
		case w.memberMarked[m] == w.round:
		case w.zoneMarked[w.zone[m]] != w.round:
			w.take(m)
		default:
			w.memberMarked[m] = w.round
			w.others = append(w.others, m)
		}
	}
	return append(w.list, w.others[:w.width-len(w.list)]...)
}

func (w *walk) take(m int32) {
	w.memberMarked[m] = w.round
	w.zoneMarked[w.zone[m]] = w.round
	w.list = append(w.list, m)
}

// done reports whether walking on cannot change the list. Once every zone has a
// holder no new one is looked for: the circle is long.
func (w *walk) done() bool {
	return len(w.list) == w.width ||
		len(w.list) == w.zones && len(w.list)+len(w.others) >= w.width
}
