package ring

import "testing"

// These values are the wire contract: never change them.
func TestHashGolden(t *testing.T) {
	for _, tt := range []struct {
		key   string
		hash  uint64
		shard Shard // of 4096
	}{
		{"", 0xef46db3751d8e999, 0x999},
		{"a", 0xd24ec4f1a98c6e5b, 0xe5b},
		{"abc", 0x44bc2cf5ad770999, 0x999},
		{"00000000-0000-4000-8000-000000000000", 0x17fe5f46ccd4481c, 0x81c},
	} {
		h := Hash(tt.key)
		if h != tt.hash || ShardOf(h, 4096) != tt.shard {
			t.Errorf("%q: got %#x, shard %#x; want %#x, %#x", tt.key, h, ShardOf(h, 4096), tt.hash, tt.shard)
		}
	}
	for _, tt := range []struct {
		shards int
		want   Shard
	}{{1, 0}, {2, 1}, {10, 5}, {4099, 210}, {65536, 65535}} {
		if got := ShardOf(1<<64-1, tt.shards); got != tt.want {
			t.Errorf("%d shards: got %d, want %d", tt.shards, got, tt.want)
		}
	}
}

func TestFingerprintString(t *testing.T) {
	if got := Fingerprint(0xbeef).String(); got != "000000000000beef" {
		t.Errorf("got %q", got)
	}
}

func FuzzShardOf(f *testing.F) {
	f.Add("", 1)
	f.Add("tracker", 4096)
	f.Fuzz(func(t *testing.T, key string, shards int) {
		if shards < 1 || shards > maxShards {
			return
		}
		if got := ShardOf(Hash(key), shards); int(got) >= shards {
			t.Errorf("%q: shard %d of %d", key, got, shards)
		}
	})
}
