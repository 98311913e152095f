package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/trackerpool/trackerpool/ring"
)

// savedAt is what the wall clock says when a test saves.
var savedAt = time.UnixMilli(1_800_000_000_000)

// claimsOf is what a tracker has, by proxy.
func claimsOf(x *Tracker) map[ProxyID]map[ID]Op {
	all := map[ProxyID]map[ID]Op{}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, lives := range []map[ProxyID]*life{x.proxies, x.restored} {
		for p, l := range lives {
			all[p] = map[ID]Op{}
			for sh := range x.cfg.Shards {
				for _, e := range x.table.AppendShard(ring.Shard(sh), l.owner, nil) {
					all[p][e.Key.ID()] = Op{Key: e.Key, Generation: e.Value.Generation, Age: x.age(x.cfg.Now(), e.Value.Stamp)}
				}
			}
		}
	}
	return all
}

func randomID(r *rand.Rand) ID {
	switch r.IntN(3) {
	case 0:
		var u uuid.UUID
		binary.LittleEndian.PutUint64(u[:], r.Uint64())
		binary.LittleEndian.PutUint64(u[8:], r.Uint64())
		return ID(u.String())
	case 1:
		return ID(fmt.Sprintf("n-%d", r.IntN(1e6)))
	}
	return ID(fmt.Sprintf("%d/%s", r.IntN(1e6), strings.Repeat("long", 1+r.IntN(40))))
}

// fill gives a tracker sessions with random claims.
func fill(t testing.TB, x *Tracker, r *rand.Rand, proxies, claims int) {
	t.Helper()
	for p := range proxies {
		s, _, end, _ := x.admit(&Hello{Proxy: testProxy(fmt.Sprintf("p-%d", p)), Incarnation: incarnationOf(1+r.Uint64N(9), 1+r.Uint64N(9)), HasClaims: true})
		if end != nil {
			t.Fatalf("%+v", end)
		}
		for seq := uint64(1); claims > 0; seq++ {
			var ops Ops
			n := min(claims, 1+r.IntN(MaxChunk))
			for range n {
				ops = AppendAdd(ops, mustKey(t, string(randomID(r))), r.Uint64()>>r.IntN(64), uint32(r.IntN(1e6)))
			}
			if err := s.apply(&ProxyFrame{Batch: &Batch{Seq: seq, Ops: ops}}); err != nil {
				t.Fatal(err)
			}
			claims -= n
			if r.IntN(3) == 0 {
				break
			}
		}
	}
}

func saveOf(t testing.TB, x *Tracker) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := x.Save(&b, savedAt); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSaveAndRestore(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		x := stillTracker(t)
		fill(t, x, r, r.IntN(5), r.IntN(5000))
		want := claimsOf(x)
		snapshot := saveOf(t, x)

		y := stillTracker(t)
		away := time.Duration(r.IntN(3)-1) * time.Hour // also a clock that was set back
		saved, err := y.Restore(iotest.HalfReader(bytes.NewReader(snapshot)), savedAt.Add(away))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, claims := range want {
			for id, op := range claims {
				op.Age += uint32(max(0, away) / stampUnit)
				claims[id] = op
			}
		}
		if diff := cmp.Diff(want, claimsOf(y), cmp.AllowUnexported(Key{})); diff != "" {
			t.Fatalf("seed %d: claims (-want +got):\n%s", seed, diff)
		}
		for p, l := range y.restored {
			if diff := cmp.Diff(y.table.Sums(l.owner), l.sums); diff != "" {
				t.Fatalf("seed %d: sums of %s (-want +got):\n%s", seed, p, diff)
			}
		}
		if wantSaved := (Saved{savedAt, len(want), x.table.Len()}); !saved.At.Equal(savedAt) || saved.Proxies != wantSaved.Proxies || saved.Claims != wantSaved.Claims {
			t.Fatalf("seed %d: %+v, want %+v", seed, saved, wantSaved)
		}
		if again := saveOf(t, y); len(want) == 1 && away <= 0 && len(again) != len(snapshot) {
			t.Fatalf("seed %d: what nobody came for yet is not saved again: %d bytes, %d before", seed, len(again), len(snapshot))
		}
	}
}

// What dies or comes while a snapshot is being written does no harm.
func TestSaveWhileItChanges(t *testing.T) {
	x := stillTracker(t)
	fill(t, x, rand.New(rand.NewPCG(1, 1)), 3, 3000)
	sections := 0
	var b bytes.Buffer
	_, err := x.Save(writerFunc(func(p []byte) (int, error) {
		if sections++; sections == 5 {
			x.mu.Lock()
			x.killLocked(x.proxies["p-0"], lifeForgotten, nil)
			x.mu.Unlock()
			if _, _, end, _ := x.admit(&Hello{Proxy: testProxy("late"), Incarnation: incarnationOf(1, 1)}); end != nil {
				t.Errorf("%+v", end)
			}
		}
		return b.Write(p)
	}), savedAt)
	if err != nil {
		t.Fatal(err)
	}
	y := stillTracker(t)
	if _, err := y.Restore(&b, savedAt); err != nil {
		t.Fatal(err)
	}
	got := claimsOf(y)
	if len(got) != 3 || got["late"] != nil {
		t.Errorf("restored %d proxies", len(got))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for p, l := range x.proxies {
		if p != "late" && len(got[p]) != int(sumAll(x.table.Sums(l.owner)).Count) {
			t.Errorf("%s: %d claims", p, len(got[p]))
		}
	}
}

func sumAll(sums []ShardSum) (all Sum) {
	for _, s := range sums {
		all.Add(s.Sum)
	}
	return all
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestSaveFails(t *testing.T) {
	x := stillTracker(t)
	fill(t, x, rand.New(rand.NewPCG(1, 1)), 3, 3000)
	full := errors.New("no space")
	whole := len(saveOf(t, x))
	for room := 0; room < whole; room += 1 + whole/50 {
		left := room
		_, err := x.Save(writerFunc(func(p []byte) (int, error) {
			if left -= len(p); left < 0 {
				return 0, full
			}
			return len(p), nil
		}), savedAt)
		if !errors.Is(err, full) {
			t.Fatalf("room for %d of %d bytes: %v", room, whole, err)
		}
	}
}

// sections are the payloads of a snapshot.
func sections(t testing.TB, snapshot []byte) (payloads [][]byte) {
	t.Helper()
	for rest := snapshot[len(saveMagic)+4:]; len(rest) > 0; {
		n := int(binary.LittleEndian.Uint32(rest))
		payloads = append(payloads, rest[lengthBytes:][:n])
		rest = rest[lengthBytes+n+checksumBytes:]
	}
	return payloads
}

// sealed is a snapshot of payloads, whatever they say.
func sealed(payloads ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(saveMagic), saveVersion)
	digest := xxhash.New()
	for _, p := range payloads {
		from := len(b)
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(p))), p...)
		_, _ = digest.Write(b[from:])
		b = binary.LittleEndian.AppendUint64(b, digest.Sum64())
	}
	return b
}

// refused checks that a snapshot is refused, for a reason, and leaves nothing.
func refused(t *testing.T, x *Tracker, what string, snapshot []byte, reason string) {
	t.Helper()
	_, err := x.Restore(bytes.NewReader(snapshot), savedAt)
	var invalid *InvalidError
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), reason) {
		t.Errorf("%s: %v; want an *InvalidError with %q", what, err, reason)
	}
	if n := x.table.Len(); n != 0 || len(x.restored) != 0 {
		t.Errorf("%s: %d claims of %d proxies are there", what, n, len(x.restored))
	}
}

func TestDamagedSnapshots(t *testing.T) {
	x := stillTracker(t)
	fill(t, x, rand.New(rand.NewPCG(3, 3)), 2, 8)
	good := saveOf(t, x)
	y := stillTracker(t)
	for n := range len(good) {
		refused(t, y, fmt.Sprintf("cut off at %d of %d", n, len(good)), good[:n], "is cut off")
	}
	for bit := range 8 * len(good) {
		bad := slices.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		refused(t, y, fmt.Sprintf("bit %d flipped", bit), bad, "snapshot")
	}
	parts := sections(t, good)
	last := len(parts) - 1
	life, shard := parts[1], parts[2]
	with := func(at int, p []byte) []byte {
		changed := slices.Clone(parts)
		changed[at] = p
		return sealed(changed...)
	}
	for _, tt := range []struct {
		name, reason string
		snapshot     []byte
	}{
		{"more follows", "more follows", append(slices.Clone(good), 0)},
		{"sections changed places", "wrong checksum", slices.Concat(good[:12], good[12+len(parts[0])+12:][:len(life)+12], good[12:][:len(parts[0])+12], good[12+len(parts[0])+len(life)+24:])},
		{"a later version", "version", binary.LittleEndian.AppendUint32([]byte(saveMagic), saveVersion+1)},
		{"no snapshot", "data_dir of its own", []byte("#!/bin/sh -e\n")},
		{"a shard is missing", "ends with", sealed(slices.Delete(slices.Clone(parts), 2, 3)...)},
		{"a shard twice", "once more", sealed(slices.Insert(slices.Clone(parts), 2, shard)...)},
		{"shards out of order", "of shard", sealed(slices.Insert(slices.Clone(parts), last, shard)...)},
		{"lives are missing", "there are 0", sealed(slices.Delete(slices.Clone(parts), 1, 2)...)},
		{"lives twice", "once more", sealed(slices.Insert(slices.Clone(parts), 1, life)...)},
		{"no head", "of kind", sealed(parts[1:]...)},
		{"two heads", "of kind", with(1, parts[0])},
		{"a kind that is not known", "kind 9", with(1, []byte{9, 1})},
		{"another shard", "another shard", with(2, append(append([]byte{sectionClaims}, shard[1]^1), shard[2:]...))},
		{"a removal", "removal", with(2, slices.Concat(shard[:2], []byte{0}, AppendRemove(nil, mustKey(t, "a"))))},
		{"a claim of nobody", "life 2", with(2, slices.Concat(shard[:2], []byte{2}, AppendAdd(nil, mustKey(t, "a"), 0, 0)))},
		{"a shard too high", "shard of", with(2, []byte{sectionClaims, poolShards})},
		{"a text cut off", "cut off in its proxy_id", with(1, []byte{sectionLives, 9, 'p'})},
		{"a long text", "length of its proxy_id", with(1, []byte{sectionLives, 0xff, 0xff, 1})},
		{"a proxy without an address", "proxy_addr", with(1, []byte{sectionLives, 1, 'p', 0, 0, 0, 1, 1})},
		{"a proxy without an incarnation", "incarnation", with(1, []byte{sectionLives, 1, 'p', 3, 'h', ':', '1', 0, 0, 0, 0})},
		{"the end goes on", "more follows", with(last, append(slices.Clone(parts[last]), 0))},
		{"an endless section", "length of", append(slices.Clone(good[:12]), 0xff, 0xff, 0xff, 0xff)},
	} {
		refused(t, y, tt.name, tt.snapshot, tt.reason)
	}
	if _, err := y.Restore(bytes.NewReader(sealed(parts...)), savedAt); err != nil {
		t.Errorf("sealed anew: %v", err)
	}
}

// What another tracker saved is refused, and the difference is named.
func TestForeignSnapshots(t *testing.T) {
	good := saveOf(t, stillTracker(t))
	for _, tt := range []struct {
		name   string
		id     ring.MemberID
		change func(*Config)
		reason string
	}{
		{"pool", "t-0", func(c *Config) { c.Pool.Name = "other" }, `snapshot pool "test": this tracker is of pool "other"`},
		{"tracker", "t-1", func(*Config) {}, `snapshot tracker "t-0": this is tracker "t-1"`},
		{"shards", "t-0", func(c *Config) { c.Shards = 128 }, `snapshot shards "64": this pool has 128`},
	} {
		c := Config{Pool: Pool{Name: "test", Seats: [][]ring.MemberID{{"t-0"}}}, Shards: poolShards, Now: time.Now}
		tt.change(&c)
		x, err := New(ring.Member{ID: tt.id, Boot: 2}, c)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, x, tt.name, good, tt.reason)
	}
	failure := errors.New("bad sector")
	if _, err := stillTracker(t).Restore(io.MultiReader(bytes.NewReader(good[:20]), iotest.ErrReader(failure)), savedAt); !errors.Is(err, failure) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

// Whatever is in a file, a tracker refuses it and is empty, or takes it and can save it
// again; also where the checksums are right.
func FuzzRestore(f *testing.F) {
	x := stillTracker(f)
	fill(f, x, rand.New(rand.NewPCG(5, 5)), 2, 12)
	good := saveOf(f, x)
	f.Add(good, false)
	for _, p := range sections(f, good) {
		f.Add(p, true)
	}
	parts := sections(f, good)
	y := stillTracker(f)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		snapshots := [][]byte{data}
		if seal && len(data) > 0 && len(data) <= maxSectionBytes {
			snapshots = nil
			for i := range parts {
				changed := slices.Clone(parts)
				changed[i] = data
				snapshots = append(snapshots, sealed(changed...))
			}
		}
		for _, b := range snapshots {
			y.table, y.lives, y.restored = NewTable(poolShards), newLives(), nil
			saved, err := y.Restore(bytes.NewReader(b), savedAt)
			if err != nil {
				if y.table.Len() != 0 || y.restored != nil {
					t.Fatalf("refused, and there are %d claims", y.table.Len())
				}
				continue
			}
			again, err := y.Restore(bytes.NewReader(saveOf(t, y)), savedAt)
			if err != nil || again.Claims != saved.Claims || again.Proxies != saved.Proxies {
				t.Fatalf("%+v became %+v, %v", saved, again, err)
			}
		}
	})
}
