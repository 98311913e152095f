package node

import "github.com/trackerpool/trackerpool/ring"

// together is how many keys have their shards locked at once. A large table is in
// memory, not in a cache: the processor fetches what several keys need at the same
// time, if nothing that orders its reads, as a lock does, stands in between. More than
// 16 bring little, and keep others from their shards for longer.
const together = 16

// A Hashed is a key and its Key.Hash.
type Hashed struct {
	Key  Key
	Hash uint64
}

// A Change is one owner's claim made or removed, and what was there before.
type Change struct {
	Hashed
	Value  Value
	Remove bool

	Old Value // undefined unless Had
	Had bool
}

// A group is some keys whose shards are locked.
type group struct {
	probes [together]probe
	shards [together]ring.Shard // of the keys
	locked [together]ring.Shard // ascending, each once, so that no two groups wait for each other
	n      int                  // of locked
}

// join puts the key that comes at place i into the group, which is not locked yet.
func (g *group) join(t *Table, i int, k *Hashed) {
	if i == 0 {
		g.n = 0
	}
	g.probes[i] = newProbe(t.seed, &k.Key)
	shard := t.shardOf(k.Hash)
	g.shards[i] = shard
	at := g.n
	for at > 0 && g.locked[at-1] > shard {
		at--
	}
	if at > 0 && g.locked[at-1] == shard {
		return
	}
	copy(g.locked[at+1:g.n+1], g.locked[at:g.n])
	g.locked[at] = shard
	g.n++
}

// lock locks the shards of the n keys, and has fetched what their searches will read.
func (g *group) lock(t *Table, n int) {
	for _, shard := range g.locked[:g.n] {
		t.locks[shard].Lock()
	}
	for i := range n {
		t.shards[g.shards[i]].fetch(&g.probes[i])
	}
}

func (g *group) unlock(t *Table) {
	for _, shard := range g.locked[:g.n] {
		t.locks[shard].Unlock()
	}
}

// fetch reads what a search for p will probably read first, for the read's sake.
func (s *slots) fetch(p *probe) {
	if len(s.marks) == 0 {
		return
	}
	g := s.home(p.hash)
	word := s.marks[g]
	set := matching(word, markOf(p.hash))
	if set == 0 {
		set = unused(word)
	}
	if set != 0 {
		fetched(s.all[slotOf(g, set)].tag)
	}
}

// fetched keeps the compiler from leaving out the read of its argument.
//
//go:noinline
func fetched(uint32) {}

// LookupMany appends all claims of keys to buf, and to ends for each key the length
// that buf has then.
func (t *Table) LookupMany(keys []Hashed, buf []Held, ends []int) ([]Held, []int) {
	var g group
	for len(keys) > 0 {
		n := min(len(keys), together)
		for i := range n {
			g.join(t, i, &keys[i])
		}
		g.lock(t, n)
		for i := range n {
			buf = t.shards[g.shards[i]].lookup(&g.probes[i], buf)
			ends = append(ends, len(buf))
		}
		g.unlock(t)
		keys = keys[n:]
	}
	return buf, ends
}

// Change makes changes to o's claims, one after another, and fills in what was there
// before each.
func (t *Table) Change(o Owner, changes []Change) {
	mustOwn(o)
	var g group
	for len(changes) > 0 {
		n := min(len(changes), together)
		for i := range n {
			g.join(t, i, &changes[i].Hashed)
		}
		g.lock(t, n)
		more := 0
		for i := range n {
			c, s := &changes[i], &t.shards[g.shards[i]]
			if c.Remove {
				if c.Old, c.Had = s.remove(t.seed, &g.probes[i], o); c.Had {
					more--
				}
			} else if c.Old, c.Had = s.put(t.seed, &g.probes[i], o, c.Value); !c.Had {
				more++
			}
		}
		g.unlock(t)
		t.claims.Add(int64(more))
		changes = changes[n:]
	}
}
