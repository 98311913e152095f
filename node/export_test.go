package node

import "github.com/trackerpool/trackerpool/ring"

// Lose drops n claims of a proxy from the table, at most each of them from one shard,
// behind the back of its session. It returns the shards, and how many claims of the
// proxy were there.
func (t *Tracker) Lose(proxy ProxyID, n, each int) (shards ring.ShardSet, had int) {
	t.mu.Lock()
	o := t.proxies[proxy].owner
	t.mu.Unlock()
	shards = ring.NewShardSet(t.cfg.Shards)
	for i := range t.cfg.Shards {
		sh := ring.Shard(i)
		entries := t.table.AppendShard(sh, o, nil)
		if len(entries) < each {
			continue
		}
		for _, e := range entries[:min(n, each)] {
			t.table.Delete(e.Key.Hash(), e.Key, o)
		}
		shards.Add(sh)
		had += len(entries)
		if n -= each; n <= 0 {
			break
		}
	}
	return shards, had
}

// Covered is in how many shards the claims of a proxy are covered.
func (t *Tracker) Covered(proxy ProxyID) (covered ring.ShardSet) {
	t.mu.Lock()
	l := t.proxies[proxy]
	t.mu.Unlock()
	covered = ring.NewShardSet(t.cfg.Shards)
	now := t.cfg.Now().UnixNano()
	for i := range t.cfg.Shards {
		if l.covered(now, ring.Shard(i)) {
			covered.Add(ring.Shard(i))
		}
	}
	return covered
}
