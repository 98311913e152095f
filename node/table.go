package node

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/trackerpool/trackerpool/ring"
)

// An Owner says whose a claim is: one life of a proxy, as the tracker numbers
// them, from 1 to MaxOwner.
type Owner uint32

// MaxOwner is the highest Owner.
const MaxOwner Owner = 1<<28 - 1

// A Value is what a Table keeps of a claim.
type Value struct {
	Generation uint64
	Stamp      uint32 // when the node connected, in units of the table's user
}

// An Entry is one owner's claim of a node.
type Entry struct {
	Key   Key
	Value Value
}

// Held is one claim of a node.
type Held struct {
	Owner Owner
	Value Value
}

// A Table keeps claims by node and owner, without pointers, 36 bytes in the mean for a
// UUID and 76 for a text of 36 bytes. It is safe for concurrent use. Each shard
// has a lock of its own, held for one call's work in that shard; so what reads
// several shards sees each at another time.
//
// A hash in its arguments is Key.Hash of the key beside it, which the caller
// computes once; it selects the shard alone. Within a shard keys are hashed with
// a random seed, so that nobody can choose IDs that collide. All claims of one
// node stand in one row, so their number should stay small: Put and Lookup
// take time in proportion.
type Table struct {
	seed   maphash.Seed
	locks  []sync.Mutex // apart from what they guard, so that they stay in a processor's cache
	shards []slots      // each guarded by its lock
	claims atomic.Int64
}

// NewTable returns an empty table of 1 to 65536 shards.
func NewTable(shards int) *Table {
	return &Table{seed: maphash.MakeSeed(), locks: make([]sync.Mutex, shards), shards: make([]slots, shards)}
}

// lock locks a shard and returns it.
func (t *Table) lock(shard ring.Shard) *slots {
	t.locks[shard].Lock()
	return &t.shards[shard]
}

func (t *Table) unlock(shard ring.Shard) { t.locks[shard].Unlock() }

func (t *Table) shardOf(hash uint64) ring.Shard { return ring.ShardOf(hash, len(t.shards)) }

// Put stores o's claim of k. It returns the value that it replaces, if any.
func (t *Table) Put(hash uint64, k Key, o Owner, v Value) (old Value, had bool) {
	mustOwn(o)
	p := newProbe(t.seed, &k)
	shard := t.shardOf(hash)
	old, had = t.lock(shard).put(t.seed, &p, o, v)
	t.unlock(shard)
	if !had {
		t.claims.Add(1)
	}
	return old, had
}

func mustOwn(o Owner) {
	if o == 0 || o > MaxOwner {
		panic(fmt.Sprintf("node: invariant: 1 <= owner %d <= %d", o, MaxOwner))
	}
}

// Delete drops o's claim of k. It returns the value that it had, if any.
func (t *Table) Delete(hash uint64, k Key, o Owner) (old Value, had bool) {
	p := newProbe(t.seed, &k)
	shard := t.shardOf(hash)
	old, had = t.lock(shard).remove(t.seed, &p, o)
	t.unlock(shard)
	if had {
		t.claims.Add(-1)
	}
	return old, had
}

// Get returns o's claim of k.
func (t *Table) Get(hash uint64, k Key, o Owner) (v Value, ok bool) {
	p := newProbe(t.seed, &k)
	shard := t.shardOf(hash)
	s := t.lock(shard)
	defer t.unlock(shard)
	i, ok := s.find(&p, o)
	if ok {
		v = s.value(&s.all[i])
	}
	return v, ok
}

// Lookup appends all claims of k to buf.
func (t *Table) Lookup(hash uint64, k Key, buf []Held) []Held {
	p := newProbe(t.seed, &k)
	shard := t.shardOf(hash)
	buf = t.lock(shard).lookup(&p, buf)
	t.unlock(shard)
	return buf
}

// Replace makes content all of o's claims of a shard, in one step for readers,
// and returns the sums of o's claims before and after. Of entries with equal
// keys the last counts. The keys must be the shard's: Replace does not check.
func (t *Table) Replace(shard ring.Shard, o Owner, content []Entry) (before, after Sum) {
	s := t.lock(shard)
	defer t.unlock(shard)
	before = s.dropIf(func(of Owner) bool { return of == o })
	s.reserve(t.seed, len(content))
	for i := range content {
		e := &content[i]
		p := newProbe(t.seed, &e.Key)
		hash := e.Key.Hash()
		if old, had := s.put(t.seed, &p, o, e.Value); had {
			after.SubClaim(hash, old.Generation)
		}
		after.AddClaim(hash, e.Value.Generation)
	}
	s.tidy(t.seed)
	t.claims.Add(int64(after.Count) - int64(before.Count))
	return before, after
}

// Release drops o's claims of a shard and returns their sum.
func (t *Table) Release(shard ring.Shard, o Owner) Sum {
	return t.drop(shard, func(of Owner) bool { return of == o })
}

// Sweep drops the claims of dead owners in a shard and returns how many there
// were. It calls dead under the shard's lock: dead must not wait, nor use t.
func (t *Table) Sweep(shard ring.Shard, dead func(Owner) bool) int {
	return int(t.drop(shard, dead).Count)
}

func (t *Table) drop(shard ring.Shard, match func(Owner) bool) Sum {
	s := t.lock(shard)
	dropped := s.dropIf(match)
	s.tidy(t.seed)
	t.unlock(shard)
	t.claims.Add(-int64(dropped.Count))
	return dropped
}

// SumOf returns the sum of o's claims of a shard. It reads the whole shard.
func (t *Table) SumOf(shard ring.Shard, o Owner) Sum {
	s := t.lock(shard)
	defer t.unlock(shard)
	return s.sumOf(o)
}

// Sums returns the sums of the shards in which o has claims, in ascending order.
// It reads the whole table.
func (t *Table) Sums(o Owner) []ShardSum {
	var sums []ShardSum
	for i := range t.shards {
		if sum := t.SumOf(ring.Shard(i), o); sum.Count > 0 {
			sums = append(sums, ShardSum{Shard: ring.Shard(i), Sum: sum})
		}
	}
	return sums
}

// AppendShard appends o's claims of a shard to buf, in no order.
func (t *Table) AppendShard(shard ring.Shard, o Owner, buf []Entry) []Entry {
	s := t.lock(shard)
	defer t.unlock(shard)
	return s.entries(o, buf)
}

// Len returns the number of claims.
func (t *Table) Len() int { return int(t.claims.Load()) }

// ShardLen returns the number of claims of a shard.
func (t *Table) ShardLen(shard ring.Shard) int {
	s := t.lock(shard)
	defer t.unlock(shard)
	return s.used
}

// Bytes returns how many bytes the table has allocated.
func (t *Table) Bytes() int {
	n := len(t.shards) * int(unsafe.Sizeof(slots{})+unsafe.Sizeof(sync.Mutex{}))
	for i := range ring.Shard(len(t.shards)) {
		n += t.lock(i).bytes()
		t.unlock(i)
	}
	return n
}
