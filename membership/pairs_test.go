package membership

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	var w window
	for _, step := range []struct {
		n    uint64
		want bool
	}{
		{0, false}, {1, true}, {1, false}, {3, true}, {2, true}, {2, false}, {3, false}, {0, false},
		{66, true}, {3, false}, {2, false}, {4, true}, {4, false}, {1000, true}, {66, false}, {937, true}, {936, false}, {1000, false},
	} {
		if got := w.take(step.n); got != step.want {
			t.Fatalf("number %d counts: %v, want %v", step.n, got, step.want)
		}
	}
}

// good is when the certificates run out.
var good = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// somePair returns both ends of what two trackers derived.
func somePair(t *testing.T, a, b string, seed byte) (ofA, ofB *pair) {
	t.Helper()
	material := bytes.Repeat([]byte{seed}, pairMaterial)
	for i := range material {
		material[i] += byte(i)
	}
	ofA, err := newPair(b, good, material, true)
	if err != nil {
		t.Fatal(err)
	}
	ofB, err = newPair(a, good, material, false)
	if err != nil {
		t.Fatal(err)
	}
	return ofA, ofB
}

func TestPairs(t *testing.T) {
	a, b := newPairs(), newPairs()
	if _, ok := a.seal(good, "b", []byte("x")); ok {
		t.Error("sealed for one that was not met")
	}
	ofA, ofB := somePair(t, "a", "b", 1)
	a.add(ofA)
	b.add(ofB)
	text := []byte("a packet")
	first, ok := a.seal(good, "b", text)
	if !ok || len(first) != len(text)+pairOverhead {
		t.Fatalf("sealed: %v, %d bytes; want %d", ok, len(first), len(text)+pairOverhead)
	}
	second, _ := a.seal(good, "b", text)
	back, _ := b.seal(good, "a", text)
	for _, c := range []struct {
		name   string
		to     *pairs
		packet []byte
		want   error
	}{
		{"the second overtakes", b, second, nil},
		{"the first", b, first, nil},
		{"the first again", b, first, errRepeated},
		{"the other way", a, back, nil},
		{"sent back to its sender", a, first, errUnpaired},
		{"for nobody", newPairs(), first, errUnpaired},
		{"not sealed", b, text, errStranger},
		{"too short", b, first[:pairOverhead-1], errStranger},
		{"nothing", b, nil, errStranger},
	} {
		got, err := c.to.open(good, bytes.Clone(c.packet))
		if !errors.Is(err, c.want) || c.want == nil && !bytes.Equal(got, text) {
			t.Errorf("%s: %q, %v; want %v", c.name, got, err, c.want)
		}
	}
	third, _ := a.seal(good, "b", text)
	for i := range third {
		bad := bytes.Clone(third)
		bad[i] ^= 1
		if got, err := b.open(good, bad); err == nil {
			t.Errorf("with byte %d changed it opens as %q", i, got)
		}
	}
	if _, err := b.open(good, third); err != nil {
		t.Errorf("forgeries of a packet have used it up: %v", err)
	}
}

func TestPairsEndWithTheCertificate(t *testing.T) {
	a, b := newPairs(), newPairs()
	ofA, ofB := somePair(t, "a", "b", 1)
	a.add(ofA)
	b.add(ofB)
	packet, _ := a.seal(good, "b", []byte("x"))
	if _, ok := a.seal(good.Add(1), "b", []byte("x")); ok {
		t.Error("sealed for one whose certificate has run out")
	}
	if got, err := b.open(good.Add(1), packet); !errors.Is(err, errUnpaired) {
		t.Errorf("from one whose certificate has run out: %q, %v", got, err)
	}
	if _, err := b.open(good, packet); err != nil {
		t.Error(err)
	}
}

// The last keys of each tracker open, and so many trackers are remembered.
func TestPairsAreBounded(t *testing.T) {
	a, b := newPairs(), newPairs()
	var sealed [][]byte
	for i := range maxPairsOf + 1 {
		ofA, ofB := somePair(t, "a", "b", byte(i))
		a.add(ofA)
		b.add(ofB)
		packet, _ := a.seal(good, "b", []byte("x"))
		sealed = append(sealed, packet)
	}
	for i, packet := range sealed {
		if _, err := b.open(good, packet); (err == nil) != (i > 0) {
			t.Errorf("sealed with key %d of %d: %v", i, len(sealed), err)
		}
	}
	p, _ := somePair(t, "a", "b", 99)
	for i := range maxMembers {
		other := *p
		other.other = fmt.Sprint(i)
		other.inID = pairID{byte(i), byte(i >> 8), 77}
		b.add(&other)
	}
	if len(b.of) != maxMembers || len(b.order) != maxMembers || len(b.in) != maxMembers || b.met("a") || !b.met("0") {
		t.Errorf("%d trackers in order, %d with keys, %d keys; want %d, without the one that was met first",
			len(b.order), len(b.of), len(b.in), maxMembers)
	}
}
