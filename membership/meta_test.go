package membership

import (
	"bytes"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

func ids(s string) []ring.MemberID {
	var set []ring.MemberID
	for id := range strings.FieldsSeq(s) {
		set = append(set, ring.MemberID(id))
	}
	return set
}

func someMeta() meta {
	return meta{
		Member: ring.Member{
			ID: "t-0", Boot: 0x19a0b1c2d3e4f506, Addr: "10.0.0.1:7000", Zone: "eu-1",
			State: ring.Serving, Algorithm: 1, Replicas: ring.ReplicasOf(2, 3),
		},
		shards: 4096, term: 10 * time.Second,
		seats: newSeats([][]ring.MemberID{ids("t-2 t-0 t-1"), ids("t-0")}),
	}
}

// exported lets cmp see all of a meta.
var exported = cmp.AllowUnexported(meta{})

// The encoding is a contract between releases that run together: a change of it
// needs another format, and a release note.
func TestMetaGolden(t *testing.T) {
	const want = "0103742d3086ea939fadb8acd0190d31302e302e302e313a37303030" + // format, ID, boot, address
		"0465752d3101010c8020904e" + // zone, state, algorithm, replicas, shards, term
		"02edc9a0bd3f3530b3cc0177f4719f5edc" + // sums of two seat sets
		"010303742d3003742d3103742d320103742d30" // their IDs
	got, err := someMeta().encode()
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != want {
		t.Errorf("encoding is\n%x, want\n%s", got, want)
	}
}

func TestMetaRoundTrip(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name string
		edit func(*meta)
		lost bool // the IDs of seats do not fit
	}{
		{name: "typical", edit: func(*meta) {}},
		{name: "seats not known", edit: func(m *meta) { m.seats = Seats{} }},
		{name: "empty zone", edit: func(m *meta) { m.Zone = "" }},
		{name: "least", edit: func(m *meta) { m.Boot, m.shards, m.term, m.Replicas = 1, 1, time.Millisecond, 2 }},
		{name: "longest", lost: true, edit: func(m *meta) {
			m.ID, m.Addr, m.Zone = ring.MemberID(long(maxIDLen)), long(maxAddrLen), long(maxZoneLen)
			m.Boot, m.shards, m.term, m.Replicas = maxBoot-1, maxShards, maxTerm, math.MaxUint16
			m.State, m.Algorithm = ring.Leaving, math.MaxUint8
			m.seats = newSeats([][]ring.MemberID{ids("a"), ids("b"), ids("c"), ids("d")})
			for _, set := range m.seats.Sets {
				set[0] = ring.MemberID(long(maxIDLen))
			}
			for i := range m.seats.Sums {
				m.seats.Sums[i] = math.MaxUint64
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := someMeta()
			c.edit(&want)
			b, err := want.encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeMeta(append(b, "a later field"[:min(13, maxMeta-len(b))]...))
			if err != nil {
				t.Fatal(err)
			}
			if c.lost {
				want.seats.Sets = nil
			}
			if diff := cmp.Diff(want, got, exported); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMetaTooLong(t *testing.T) {
	m := someMeta()
	m.Addr = strings.Repeat("x", 600)
	_, err := m.encode()
	if err == nil || !strings.Contains(err.Error(), "addr 600") {
		t.Errorf("error %v, want one that names the length of the address", err)
	}
}

func TestMetaRefusesGarbage(t *testing.T) {
	good, err := someMeta().encode()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(good) {
		if _, err := decodeMeta(good[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were decoded", n, len(good))
		}
	}
	edits := map[string]func([]byte) []byte{
		"another format": func(b []byte) []byte { b[0] = 2; return b },
		"empty ID":       func(b []byte) []byte { b[1] = 0; return b },
		"unknown state":  func(b []byte) []byte { b[bytes.Index(b, []byte("eu-1"))+4] = 3; return b },
		"another seat":   func(b []byte) []byte { b[len(b)-1] = '9'; return b },
		"too long":       func(b []byte) []byte { return append(b, make([]byte, maxMeta)...) },
	}
	for name, edit := range edits {
		if m, err := decodeMeta(edit(bytes.Clone(good))); err == nil {
			t.Errorf("%s: decoded as %+v", name, m)
		}
	}
}

func FuzzMeta(f *testing.F) {
	good, err := someMeta().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		got, err := decodeMeta(again)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if diff := cmp.Diff(m, got, exported); diff != "" {
			t.Errorf("second decoding (-first +second):\n%s", diff)
		}
	})
}

func TestNewBoot(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	ms := uint64(now.UnixMilli())
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		known := rng.Uint64() >> rng.IntN(64)
		boot := NewBoot(now, known)
		if boot <= known {
			t.Fatalf("seed %d: NewBoot(%d) = %d, want more", seed, known, boot)
		}
		if boot>>randomBootBits != ms && boot != known+1 {
			t.Fatalf("seed %d: NewBoot(%d) = %d, want the clock %d, or the next", seed, known, boot, ms)
		}
	}
	if boot := NewBoot(time.Unix(-1, 0), 0); boot>>randomBootBits != 0 {
		t.Errorf("before 1970: %d, want a clock of 0", boot)
	}
	if boot := NewBoot(now, math.MaxUint64); boot != math.MaxUint64 {
		t.Errorf("after the last boot: %d, want it again", boot)
	}
	if a, b := NewBoot(now, 0), NewBoot(now, 0); a == b && NewBoot(now, 0) == a {
		t.Errorf("three boots of one millisecond are equal: %d", a)
	}
}

func TestMismatch(t *testing.T) {
	type seats = [][]ring.MemberID
	for _, c := range []struct {
		name         string
		ours, theirs func(*meta)
		want         *MismatchError
	}{
		{name: "equal"},
		{name: "state, zone, algorithm", ours: func(m *meta) { m.State, m.Zone, m.Algorithm = ring.Leaving, "b", 9 }},
		{name: "shards", ours: func(m *meta) { m.shards = 1024 }, want: &MismatchError{"shards", "1024", "4096", "t-0"}},
		{name: "term", theirs: func(m *meta) { m.term = time.Minute }, want: &MismatchError{"term", "10s", "1m0s", "t-0"}},
		{name: "one replica count in common", ours: func(m *meta) { m.Replicas = ring.ReplicasOf(1, 3) }},
		{name: "replicas", ours: func(m *meta) { m.Replicas = ring.ReplicasOf(1, 4) }, want: &MismatchError{"replicas", "1,4", "2,3", "t-0"}},
		{name: "one seat set in common", ours: func(m *meta) { m.seats = newSeats(seats{ids("a b c"), ids("t-0 t-1 t-2")}) }},
		{name: "seats not known here", ours: func(m *meta) { m.seats = Seats{} }},
		{name: "seats not known there", theirs: func(m *meta) { m.seats = Seats{} }},
		{
			name: "seats", ours: func(m *meta) { m.seats = newSeats(seats{ids("t-0 t-1")}) },
			want: &MismatchError{"seats", "[[t-0 t-1]]", "[[t-0 t-1 t-2] [t-0]]", "t-0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := someMeta(), someMeta()
			if c.ours != nil {
				c.ours(&ours)
			}
			if c.theirs != nil {
				c.theirs(&theirs)
			}
			if diff := cmp.Diff(c.want, ours.mismatch(theirs)); diff != "" {
				t.Errorf("mismatch (-want +got):\n%s", diff)
			}
			if back := theirs.mismatch(ours); (back == nil) != (c.want == nil) {
				t.Errorf("the other side says %v", back)
			}
		})
	}
}
