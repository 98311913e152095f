package node

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trackerpool/trackerpool/ring"
)

const testShards = 3 // few, so that shards grow and shrink

// A model does what a Table does, in a map.
type model map[modelKey]Value

type modelKey struct {
	key   Key
	owner Owner
}

func (m model) shard(s ring.Shard, o Owner) (entries []Entry, sum Sum) {
	for k, v := range m {
		if k.owner == o && ring.ShardOf(k.key.Hash(), testShards) == s {
			entries = append(entries, Entry{k.key, v})
			sum.AddClaim(k.key.Hash(), v.Generation)
		}
	}
	return sorted(entries), sum
}

func (m model) held(k Key, owners int) (held []Held) {
	for o := Owner(1); o <= Owner(owners); o++ {
		if v, ok := m[modelKey{k, o}]; ok {
			held = append(held, Held{o, v})
		}
	}
	return held
}

func sorted(entries []Entry) []Entry {
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(bytes.Compare(a.Key.raw[:], b.Key.raw[:]), cmp.Compare(a.Key.long, b.Key.long), cmp.Compare(a.Key.kind, b.Key.kind))
	})
	return entries
}

// A duel runs the same operations on a table and its model.
type duel struct {
	t      *testing.T
	rnd    *rand.Rand
	table  *Table
	model  model
	keys   []Key
	owners int
}

func newDuel(t *testing.T, rnd *rand.Rand) *duel {
	d := &duel{t: t, rnd: rnd, table: NewTable(testShards), model: make(model), owners: 1 + rnd.IntN(5)}
	for range 1 + rnd.IntN(400) {
		d.keys = append(d.keys, randomKey(rnd))
	}
	return d
}

func (d *duel) check(what string, got, want any) {
	d.t.Helper()
	if diff := diff(want, got); diff != "" {
		d.t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func (d *duel) key() Key     { return d.keys[d.rnd.IntN(len(d.keys))] }
func (d *duel) owner() Owner { return Owner(1 + d.rnd.IntN(d.owners)) }

// value is often wider than a slot.
func (d *duel) value() Value {
	return Value{Generation: randomNumber(d.rnd, 64), Stamp: d.rnd.Uint32()}
}

// step does one operation at random; the chance of removals is given in percent.
func (d *duel) step(removals int) {
	k, o, shard := d.key(), d.owner(), ring.Shard(d.rnd.IntN(testShards))
	mk := modelKey{k, o}
	had, ok := d.model[mk]
	switch op := d.rnd.IntN(1000); {
	case op < 4:
		d.replace(shard, o)
	case op < 6:
		_, want := d.model.shard(shard, o)
		d.check("Release", d.table.Release(shard, o), want)
		d.drop(shard, func(of Owner) bool { return of == o })
	case op < 8:
		dead := func(of Owner) bool { return of%3 == o%3 }
		want := d.drop(shard, dead)
		d.check("Sweep", d.table.Sweep(shard, dead), want)
	case op < 60:
		d.change(removals)
	case op < 60+removals*9:
		got, gotOK := d.table.Delete(k.Hash(), k, o)
		d.check("Delete", []any{got, gotOK}, []any{had, ok})
		delete(d.model, mk)
	default:
		v := d.value()
		got, gotOK := d.table.Put(k.Hash(), k, o, v)
		d.check("Put", []any{got, gotOK}, []any{had, ok})
		d.model[mk] = v
	}
}

// change does several operations of one owner in one call, some on one key.
func (d *duel) change(removals int) {
	o := d.owner()
	changes := make([]Change, d.rnd.IntN(3*together))
	want := make([]Change, len(changes))
	for i := range changes {
		k := d.key()
		c := Change{Hashed: Hashed{k, k.Hash()}, Value: d.value(), Remove: d.rnd.IntN(100) < removals}
		changes[i], want[i] = c, c
		mk := modelKey{k, o}
		want[i].Old, want[i].Had = d.model[mk]
		if c.Remove {
			delete(d.model, mk)
		} else {
			d.model[mk] = c.Value
		}
	}
	d.table.Change(o, changes)
	d.check("Change", changes, want)
}

func (d *duel) drop(shard ring.Shard, dead func(Owner) bool) int {
	before := len(d.model)
	for k := range d.model {
		if dead(k.owner) && ring.ShardOf(k.key.Hash(), testShards) == shard {
			delete(d.model, k)
		}
	}
	return before - len(d.model)
}

func (d *duel) replace(shard ring.Shard, o Owner) {
	_, wantBefore := d.model.shard(shard, o)
	d.drop(shard, func(of Owner) bool { return of == o })
	var content []Entry
	for range d.rnd.IntN(2 * len(d.keys)) { // some twice
		if k := d.key(); ring.ShardOf(k.Hash(), testShards) == shard {
			e := Entry{k, d.value()}
			content = append(content, e)
			d.model[modelKey{k, o}] = e.Value
		}
	}
	before, after := d.table.Replace(shard, o, content)
	_, wantAfter := d.model.shard(shard, o)
	d.check("Replace", []Sum{before, after}, []Sum{wantBefore, wantAfter})
}

// agree compares everything that can be read.
func (d *duel) agree() {
	d.check("Len", d.table.Len(), len(d.model))
	asked := make([]Hashed, len(d.keys))
	for i, k := range d.keys {
		asked[i] = Hashed{k, k.Hash()}
	}
	all, ends := d.table.LookupMany(asked, nil, nil)
	first := 0
	for i, k := range d.keys {
		got := d.table.Lookup(k.Hash(), k, nil)
		d.check("LookupMany", all[first:ends[i]:ends[i]], append([]Held{}, got...))
		first = ends[i]
		slices.SortFunc(got, func(a, b Held) int { return cmp.Compare(a.Owner, b.Owner) })
		d.check("Lookup", got, d.model.held(k, d.owners))
		o := d.owner()
		v, ok := d.table.Get(k.Hash(), k, o)
		want, wantOK := d.model[modelKey{k, o}]
		d.check("Get", []any{v, ok}, []any{want, wantOK})
	}
	lens := make([]int, testShards)
	for o := Owner(0); o <= Owner(d.owners); o++ { // nobody owns by 0
		var want []ShardSum
		for s := range ring.Shard(testShards) {
			entries, sum := d.model.shard(s, o)
			lens[s] += len(entries)
			d.check("AppendShard", sorted(d.table.AppendShard(s, o, nil)), entries)
			d.check("SumOf", d.table.SumOf(s, o), sum)
			if sum.Count > 0 {
				want = append(want, ShardSum{s, sum})
			}
		}
		d.check("Sums", d.table.Sums(o), want)
	}
	for s, want := range lens {
		d.check("ShardLen", d.table.ShardLen(ring.Shard(s)), want)
		d.sound(&d.table.shards[s])
	}
}

// sound checks what slots promise themselves.
func (d *duel) sound(s *slots) {
	used, dead, text, wide := 0, 0, 0, 0
	for i := range s.all {
		e := &s.all[i]
		mark := s.markAt(i)
		if e.empty() {
			if mark == markDead {
				dead++
			} else if mark != markEmpty {
				d.t.Fatalf("invariant: slot %d is empty, and marked %#x", i, mark)
			}
			continue
		}
		used++
		if want := markOf(e.hash(d.table.seed)); mark != want {
			d.t.Fatalf("invariant: slot %d is marked %#x, want %#x", i, mark, want)
		}
		if e.tag&tagKind == tagLong {
			text += len(s.text.at(e))
		}
		if e.tag&tagWide != 0 {
			wide++
		}
	}
	d.check("used, text, wide", []int{s.used, len(s.text.all) - s.text.dead, len(s.wide.all) - s.wide.dead}, []int{used, text, wide})
	d.check("dead", s.dead, dead)
	if used+dead > room(len(s.all)) {
		d.t.Fatalf("invariant: %d of %d slots are in use, %d are dead", used, len(s.all), dead)
	}
}

func TestTableDoesWhatAMapDoes(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			d := newDuel(t, rand.New(rand.NewPCG(seed, 0)))
			for phase := range 12 { // they grow and shrink in turn
				for range 400 {
					d.step([]int{20, 80}[phase%2])
				}
				d.agree()
			}
			for _, s := range d.table.Sums(1) {
				d.table.Release(s.Shard, 1)
			}
			for s := range ring.Shard(testShards) {
				d.table.Sweep(s, func(Owner) bool { return true })
			}
			if n, empty := d.table.Bytes(), NewTable(testShards).Bytes(); d.table.Len() != 0 || n != empty {
				t.Errorf("an emptied table keeps %d claims in %d bytes, want %d", d.table.Len(), n, empty)
			}
		})
	}
}

func FuzzTable(f *testing.F) {
	f.Add(uint64(1), uint16(500), uint8(50))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16, removals uint8) {
		d := newDuel(t, rand.New(rand.NewPCG(seed, 0)))
		for range steps {
			d.step(int(removals % 100))
		}
		d.agree()
	})
}

// Two long IDs of one hash are two nodes. Chance does not bring that about, so
// the hashes are made equal here.
func TestLongIDsOfOneHashAreTwo(t *testing.T) {
	seed := maphash.MakeSeed()
	a, b := mustKey(t, "a long node ID, the first"), mustKey(t, "a long node ID, the other")
	first := newProbe(seed, &a)
	other := first
	other.long = b.long
	var s slots
	s.put(seed, &first, 1, Value{Generation: 1})
	if _, had := s.put(seed, &other, 1, Value{Generation: 2}); had || s.used != 2 {
		t.Fatalf("the other took the first one's place")
	}
	for want, p := range map[uint64]*probe{1: &first, 2: &other} {
		if got := s.lookup(p, nil); len(got) != 1 || got[0].Value.Generation != want {
			t.Errorf("%q: got %v, want generation %d", p.long, got, want)
		}
	}
}

func TestTableRefusesImpossibleOwners(t *testing.T) {
	for _, o := range []Owner{0, MaxOwner + 1} {
		func() {
			defer func() {
				if r, _ := recover().(string); !strings.Contains(r, "invariant") {
					t.Errorf("owner %d: got panic %q, want one that names the invariant", o, r)
				}
			}()
			k := mustKey(t, "x")
			NewTable(1).Put(k.Hash(), k, o, Value{})
		}()
	}
	table, k, want := NewTable(1), mustKey(t, "x"), Value{math.MaxUint64, math.MaxUint32}
	table.Put(k.Hash(), k, MaxOwner, want)
	if got := table.Lookup(k.Hash(), k, nil); len(got) != 1 || got[0] != (Held{MaxOwner, want}) {
		t.Errorf("got %v", got)
	}
}

// A claim of a UUID takes at most 40 bytes, at whatever size of the table, and whether
// claims came one by one or ten proxies sent theirs.
func TestTableBytes(t *testing.T) {
	const shards, step, most = 256, 24, 400
	keys := make([][]Entry, shards)
	for _, k := range benchKeys(shards*most*5/4, true) {
		s := ring.ShardOf(k.Hash(), shards)
		keys[s] = append(keys[s], Entry{Key: k})
	}
	oneByOne, replaced := NewTable(shards), NewTable(shards)
	for n := 0; n < most; n += step {
		for s := range keys {
			some := keys[s][n : n+step]
			for _, e := range some {
				oneByOne.Put(e.Key.Hash(), e.Key, 1, Value{})
			}
			replaced.Replace(ring.Shard(s), Owner(1+n/step), some)
		}
		if n < 100 {
			continue // slots come in groups of eight
		}
		for name, table := range map[string]*Table{"one by one": oneByOne, "replaced": replaced} {
			if each := float64(table.Bytes()) / float64(table.Len()); each > 40 {
				t.Errorf("%d claims that came %s take %.1f bytes each", table.Len(), name, each)
			}
		}
	}
}

// A table that shrinks gives its memory back, also that of long IDs and wide
// generations.
func TestTableShrinks(t *testing.T) {
	const claims, kept = 20_000, 500
	table := NewTable(16)
	put := func(i int) {
		k := mustKey(t, fmt.Sprintf("a node with a rather long name, number %d", i))
		table.Put(k.Hash(), k, 1, Value{Generation: math.MaxUint64 - uint64(i)})
	}
	for i := range kept {
		put(i)
	}
	small := table.Bytes()
	for i := range claims {
		put(i)
	}
	full := table.Bytes()
	for i := kept; i < claims; i++ {
		k := mustKey(t, fmt.Sprintf("a node with a rather long name, number %d", i))
		if _, had := table.Delete(k.Hash(), k, 1); !had {
			t.Fatalf("claim %d is gone", i)
		}
	}
	if got := table.Bytes(); got > 4*small || full < 10*small {
		t.Errorf("%d claims took %d bytes, %d took %d, %d again %d", kept, small, claims, full, kept, got)
	}
}

// Readers see the old content of a shard or the new, whole.
func TestReplaceIsOneStep(t *testing.T) {
	table := NewTable(1)
	contents := make([][]Entry, 2)
	var sums [2]Sum
	for i := range contents {
		for j := range 200 {
			k := mustKey(t, fmt.Sprintf("%d of content %d", j, i))
			contents[i] = append(contents[i], Entry{k, Value{Generation: uint64(j) << 30}})
			sums[i].AddClaim(k.Hash(), uint64(j)<<30)
		}
	}
	table.Replace(0, 1, contents[0])
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	defer close(done)
	for o := Owner(1); o <= 2; o++ {
		wg.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-done:
					return
				default:
					table.Replace(0, o, contents[i%2])
				}
			}
		})
	}
	for range 300 {
		if got := table.SumOf(0, 1); got != sums[0] && got != sums[1] {
			t.Fatalf("read %v, which is neither %v", got, sums)
		}
		if got := table.ShardLen(0); got != 200 && got != 400 {
			t.Fatalf("read %d claims", got)
		}
	}
}

func TestTableIsSafeForConcurrentUse(t *testing.T) {
	seed := rand.Uint64()
	table := NewTable(testShards)
	var keys []Key
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		keys = append(keys, randomKey(rnd))
	}
	var wg sync.WaitGroup
	for o := Owner(1); o <= 4; o++ {
		wg.Go(func() { // each owner sees its own claims as if it were alone
			rnd := rand.New(rand.NewPCG(seed, uint64(o)))
			mine := make(map[Key]Value)
			var buf []Held
			var ends []int
			for range 3000 {
				k := keys[rnd.IntN(len(keys))]
				v := Value{Generation: randomNumber(rnd, 64)}
				if rnd.IntN(2) == 0 {
					table.Put(k.Hash(), k, o, v)
					mine[k] = v
				} else {
					table.Delete(k.Hash(), k, o)
					delete(mine, k)
				}
				if rnd.IntN(10) == 0 {
					changes := make([]Change, 2*together)
					for i := range changes {
						k := keys[rnd.IntN(len(keys))]
						changes[i] = Change{Hashed: Hashed{k, k.Hash()}, Value: Value{Generation: randomNumber(rnd, 64)}, Remove: rnd.IntN(2) == 0}
						if changes[i].Remove {
							delete(mine, k)
						} else {
							mine[k] = changes[i].Value
						}
					}
					table.Change(o, changes)
				}
				k = keys[rnd.IntN(len(keys))]
				other := keys[rnd.IntN(len(keys))]
				buf, ends = table.LookupMany([]Hashed{{k, k.Hash()}, {other, other.Hash()}}, buf[:0], ends[:0])
				buf = buf[:ends[0]]
				i := slices.IndexFunc(buf, func(h Held) bool { return h.Owner == o })
				if v, ok := mine[k]; ok != (i >= 0) || ok && buf[i].Value != v {
					t.Errorf("seed %d: owner %d looked up %v, its own is %v, %v", seed, o, buf, v, ok)
					return
				}
			}
			for s := range ring.Shard(testShards) {
				table.Release(s, o)
			}
		})
	}
	wg.Wait()
	if table.Len() != 0 {
		t.Errorf("seed %d: %d claims are left", seed, table.Len())
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	table := NewTable(1)
	buf := make([]Held, 0, 4)
	for _, k := range []Key{mustKey(t, "short"), mustKey(t, someUUID), mustKey(t, strings.Repeat("long", 10))} {
		for o := Owner(1); o <= 3; o++ {
			table.Put(k.Hash(), k, o, Value{Generation: math.MaxUint64})
		}
		if n := testing.AllocsPerRun(100, func() { buf = table.Lookup(k.Hash(), k, buf[:0]) }); n != 0 || len(buf) != 3 {
			t.Errorf("%v: %v allocations, %d claims", k, n, len(buf))
		}
	}
}
