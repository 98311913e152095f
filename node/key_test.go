package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/trackerpool/trackerpool/ring"
)

const someUUID = "0b5d7f6e-1c2a-4e3b-9d8f-00112233aaff"

func mustKey(tb testing.TB, id string) Key {
	tb.Helper()
	k, err := ParseID(ID(id))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// keyTexts has every kind of key, and texts that nearly are another kind.
func keyTexts() []string {
	return []string{
		"a", "short", "fifteen-bytes-x", "sixteen-bytes-xx", "ünïcödé", "nul\x00", "a\x00",
		someUUID,
		strings.ToUpper(someUUID),
		strings.ReplaceAll(someUUID, "-", ""),
		strings.Replace(someUUID, "-", "_", 1),
		"0b5d7f6e-1c2a-4e3b-9d8f-00112233aafg",
		"0b5d7f6e-1c2a-4e3b-9d8-f00112233aaff",
		"-b5d7f6e-1c2a-4e3b-9d8f-00112233aaff",
		"0b5d7f6e-1c2a-4e3b-9d8f-00112233aa-f",
		"0b5d7f6e-1c2a-4e3b-9d8f-00112233a--f",
		"{" + someUUID + "}",
		strings.Repeat("x", MaxIDBytes),
	}
}

func TestKeyKeepsTheExactText(t *testing.T) {
	seen := make(map[Key]string)
	for _, text := range keyTexts() {
		k := mustKey(t, text)
		if got := string(k.ID()); got != text {
			t.Errorf("ParseID(%q).ID() = %q", text, got)
		}
		if got, want := k.Hash(), ring.Hash(text); got != want {
			t.Errorf("ParseID(%q).Hash() = %x, want %x", text, got, want)
		}
		if other, dup := seen[k]; dup {
			t.Errorf("%q and %q have the same key", text, other)
		}
		if k.IsZero() {
			t.Errorf("the key of %q is zero", text)
		}
		seen[k] = text
	}
	if !(Key{}).IsZero() || (Key{}).ID() != "" {
		t.Error("the zero key has an ID")
	}
}

// The hash places a node: every process of a pool must agree on it.
func TestKeyHashIsPinned(t *testing.T) {
	for text, want := range map[string]uint64{someUUID: 0x42d734de10643035, "abc": 0x44bc2cf5ad770999} {
		if got := mustKey(t, text).Hash(); got != want {
			t.Errorf("Hash of %q = %#x, want %#x", text, got, want)
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	for name, id := range map[string]string{
		"empty": "", "too long": strings.Repeat("x", MaxIDBytes+1), "not UTF-8": "a\xff", "cut rune": "caf\xc3",
	} {
		_, err := ParseID(ID(id))
		var invalid *InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "node_id" || len(invalid.Value) > 80 {
			t.Errorf("%s: got %v, want an *InvalidError for node_id with a short value", name, err)
		}
	}
}

func TestKeyHashAllocatesNothing(t *testing.T) {
	for _, text := range []string{"short", someUUID, strings.Repeat("x", 100)} {
		k := mustKey(t, text)
		if n := testing.AllocsPerRun(100, func() { k.Hash() }); n != 0 {
			t.Errorf("Hash of %q: %v allocations", text, n)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, text := range keyTexts() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseID(ID(text))
		if err != nil {
			return
		}
		if string(k.ID()) != text || k.Hash() != ring.Hash(text) {
			t.Errorf("%q became %q", text, k.ID())
		}
	})
}

func BenchmarkKeyHash(b *testing.B) {
	for name, text := range map[string]string{"uuid": someUUID, "long": strings.ToUpper(someUUID)} {
		b.Run(name, func(b *testing.B) {
			k := mustKey(b, text)
			for b.Loop() {
				k.Hash()
			}
		})
	}
}
