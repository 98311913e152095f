package node

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/trackerpool/trackerpool/ring"
)

// diff returns how got differs from want, or nothing.
func diff(want, got any) string {
	if reflect.DeepEqual(want, got) {
		return "" // cmp.Diff would take most of the tests' time
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b Key) bool { return a == b }))
}

func readIDs(p IDs) (keys []Key, err error) {
	c := p.Cursor()
	for k := (Key{}); c.Next(&k); {
		keys = append(keys, k)
	}
	return keys, c.Err()
}

func readOps(p Ops) (ops []Op, err error) {
	c := p.Cursor()
	for op := (Op{}); c.Next(&op); {
		ops = append(ops, op)
	}
	return ops, c.Err()
}

type section struct {
	Head Chunk
	Ops  []Op
}

func readChunks(p Chunks, shards int) (sections []section, err error) {
	c := p.Cursor(shards)
	for head := (Chunk{}); c.NextChunk(&head); {
		s := section{Head: head}
		for op := (Op{}); c.NextOp(&op); {
			s.Ops = append(s.Ops, op)
		}
		sections = append(sections, s)
	}
	return sections, c.Err()
}

func readAnswers(p Answers) (answers []Answered, err error) {
	c := p.Cursor()
	for a := (Answered{}); c.Next(&a); {
		answers = append(answers, Answered{a.Answer, slices.Clone(a.Claims)})
	}
	return answers, c.Err()
}

func appendOp(p Ops, op Op) Ops {
	if op.Remove {
		return AppendRemove(p, op.Key)
	}
	return AppendAdd(p, op.Key, op.Generation, op.Age)
}

func packSections(sections []section) (p Chunks) {
	for _, s := range sections {
		p = AppendChunk(p, s.Head)
		for _, op := range s.Ops {
			p = AppendChunkAdd(p, op.Key, op.Generation, op.Age)
		}
	}
	return p
}

func packAnswers(answers []Answered) (p Answers) {
	for _, a := range answers {
		p = AppendAnswer(p, a.Answer, a.Claims)
	}
	return p
}

// A change of these bytes changes the wire and needs a release note.
func TestPackedFormsArePinned(t *testing.T) {
	uuid, short, long := mustKey(t, someUUID), mustKey(t, "dev-1"), mustKey(t, "sixteen-bytes-xx")
	const uuidHex = "00" + "0b5d7f6e1c2a4e3b9d8f00112233aaff"
	const shortHex = "05" + "6465762d31"
	const longHex = "10" + "7369787465656e2d62797465732d7878"
	many := slices.Repeat([]Ref{{1, 0, 2}}, 63)
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"ids", AppendID(AppendID(AppendID(nil, uuid), short), long), uuidHex + shortHex + longHex},
		{"plain add", AppendAdd(nil, uuid, 0, 0), "00" + uuidHex},
		{"add with generation and age", AppendAdd(nil, short, 300, 5), "06" + "ac02" + "05" + shortHex},
		{"add with age", AppendAdd(nil, long, 0, math.MaxUint32), "04" + "ffffffff0f" + longHex},
		{"remove", AppendRemove(nil, short), "01" + shortHex},
		{"chunk", AppendChunkAdd(AppendChunk(nil, Chunk{Shard: 300, First: true, Last: true, Claims: 1}), short, 1, 0),
			"ac02" + "03" + "01" + "02" + "01" + shortHex},
		{"empty last chunk", AppendChunk(nil, Chunk{Shard: 1, Last: true}), "01" + "02" + "00"},
		{"unknown", AppendAnswer(nil, Unknown, nil), "00"},
		{"absent", AppendAnswer(nil, Absent, nil), "02"},
		{"found", AppendAnswer(nil, Found, []Ref{{0, 0, 9}, {128, 2, 0}}), "09" + "000009" + "8001" + "02" + "00"},
		{"many hints", AppendAnswer(nil, Unknown, many), "fc" + "3f" + strings.Repeat("010002", 63)},
	} {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestUUIDsInTextFormAreTheSameKey(t *testing.T) {
	text := append(IDs{uuidText}, someUUID...)
	got, err := readIDs(append(text, AppendID(nil, mustKey(t, someUUID))...))
	if err != nil || len(got) != 2 || got[0] != got[1] {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestDecodersRefuse(t *testing.T) {
	add := string(AppendAdd(nil, mustKey(t, "x"), 0, 0))
	for _, tt := range []struct{ name, kind, input, problem string }{
		{"cut UUID", "ids", "\x00abc", "cut off"},
		{"cut text", "ids", "\x01a\x05abc", "cut off"},
		{"text not UTF-8", "ids", "\x01\xff", "UTF-8"},
		{"unknown flag", "ops", "\x08\x01a", "flags"},
		{"removal with a generation", "ops", "\x03\x01\x01a", "neither"},
		{"generation of 65 bits", "ops", "\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x01a", "64 bits"},
		{"age of 33 bits", "ops", "\x04\xff\xff\xff\xff\x1f\x01a", "age"},
		{"cut age", "ops", "\x04\xff", "cut off"},
		{"no ID", "ops", "\x00", "cut off"},
		{"too many ops", "ops", strings.Repeat(add, MaxChunk+1), "at most 1000"},
		{"no such shard", "chunks", "\x08\x03\x00", "shard"},
		{"unknown chunk flag", "chunks", "\x01\x04\x00", "flags"},
		{"too many claims", "chunks", "\x01\x03\xe9\x07", "number of claims"},
		{"too many claims in all", "chunks", "\x01\x01\x01" + add + "\x01\x02\xe8\x07", "number of claims"},
		{"missing claim", "chunks", "\x01\x03\x02" + add, "cut off"},
		{"removal in a chunk", "chunks", "\x01\x03\x01\x01\x01a", "removal"},
		{"too many sections", "chunks", strings.Repeat("\x01\x03\x00", 9), "section"},
		{"unknown answer", "answers", "\x03", "answer"},
		{"absent with claims", "answers", "\x06\x00\x00\x00", "ABSENT"},
		{"found without", "answers", "\x01", "FOUND"},
		{"huge number of claims", "answers", "\xfd\xff\xff\xff\xff\x0f", "cut off"},
		{"proxy of 33 bits", "answers", "\x05\xff\xff\xff\xff\x1f\x00\x00", "proxy number"},
	} {
		_, err := decode(tt.kind, []byte(tt.input))
		var invalid *InvalidError
		if !errors.As(err, &invalid) || !strings.HasPrefix(invalid.Field, tt.kind+"[") || !strings.Contains(invalid.Problem, tt.problem) {
			t.Errorf("%s: got %v, want an *InvalidError for %s about %q", tt.name, err, tt.kind, tt.problem)
		}
	}
}

// decode reads input as one of the packed forms and packs again what it read.
func decode(kind string, input []byte) (again []byte, err error) {
	switch kind {
	case "ids":
		keys, err := readIDs(input)
		for _, k := range keys {
			again = AppendID(again, k)
		}
		return again, err
	case "ops":
		ops, err := readOps(input)
		for _, op := range ops {
			again = appendOp(again, op)
		}
		return again, err
	case "chunks":
		sections, err := readChunks(input, 8)
		return packSections(sections), err
	}
	answers, err := readAnswers(input)
	return packAnswers(answers), err
}

// What a decoder accepts comes back the same when it is packed and read again.
func fuzzDecoder(f *testing.F, kind string, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		given := bytes.Clone(input)
		again, err := decode(kind, input)
		if !bytes.Equal(input, given) {
			t.Fatal("the decoder changed its input")
		}
		if err != nil {
			return
		}
		if len(again) > len(input) {
			t.Errorf("%x became longer: %x", input, again)
		}
		third, err := decode(kind, again)
		if err != nil || !bytes.Equal(again, third) {
			t.Errorf("%x became %x, then %x, %v", input, again, third, err)
		}
	})
}

func FuzzIDs(f *testing.F) {
	k := mustKey(f, someUUID)
	fuzzDecoder(f, "ids", AppendID(nil, k), append(IDs{uuidText}, someUUID...), []byte("\x05dev-1\x00abc"))
}

func FuzzOps(f *testing.F) {
	k := mustKey(f, someUUID)
	fuzzDecoder(f, "ops", AppendAdd(nil, k, 1<<40, 7), AppendRemove(nil, k), []byte("\x02\x80\x00\x01a"))
}

func FuzzChunks(f *testing.F) {
	head := AppendChunk(nil, Chunk{Shard: 7, First: true, Last: true, Claims: 1})
	fuzzDecoder(f, "chunks", AppendChunkAdd(head, mustKey(f, "dev-1"), 1, 2), AppendChunk(nil, Chunk{Last: true}))
}

func FuzzAnswers(f *testing.F) {
	fuzzDecoder(f, "answers", AppendAnswer(nil, Found, []Ref{{1, 2, 3}}), AppendAnswer(nil, Unknown, make([]Ref, 64)), []byte{2, 0})
}

func randomKey(rnd *rand.Rand) Key {
	text := make([]byte, 1+rnd.IntN(40))
	if rnd.IntN(50) == 0 {
		text = make([]byte, MaxIDBytes-rnd.IntN(2))
	}
	for i := range text {
		text[i] = byte('a' + rnd.IntN(26))
	}
	if rnd.IntN(2) == 0 {
		var raw [16]byte
		for i := range raw {
			raw[i] = byte(rnd.Uint32())
		}
		return uuidKey(raw)
	}
	k, _ := keyOf(string(text))
	return k
}

// randomNumber has any number of bits with the same chance.
func randomNumber(rnd *rand.Rand, bits int) uint64 {
	return rnd.Uint64() >> (64 - bits) >> rnd.IntN(bits+1)
}

func randomAdd(rnd *rand.Rand) Op {
	return Op{Key: randomKey(rnd), Generation: randomNumber(rnd, 64), Age: uint32(randomNumber(rnd, 32))}
}

func TestPackedFormsComeBack(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		var keys []Key
		var ids IDs
		var ops []Op
		var packedOps Ops
		for range rnd.IntN(30) {
			op := randomAdd(rnd)
			if rnd.IntN(3) == 0 {
				op = Op{Key: op.Key, Remove: true}
			}
			ops, packedOps = append(ops, op), appendOp(packedOps, op)
			keys, ids = append(keys, op.Key), AppendID(ids, op.Key)
		}
		var sections []section
		for range rnd.IntN(8) {
			s := section{Head: Chunk{Shard: ring.Shard(rnd.IntN(8)), First: rnd.IntN(2) == 0, Last: rnd.IntN(2) == 0, Claims: rnd.IntN(5)}}
			for range s.Head.Claims {
				s.Ops = append(s.Ops, randomAdd(rnd))
			}
			sections = append(sections, s)
		}
		var answers []Answered
		for range rnd.IntN(10) {
			a := Answered{Answer: Answer(rnd.IntN(3))}
			if a.Answer != Absent {
				for range 1 + int(randomNumber(rnd, 7)) {
					a.Claims = append(a.Claims, Ref{uint32(randomNumber(rnd, 32)), randomNumber(rnd, 64), uint32(randomNumber(rnd, 32))})
				}
			}
			answers = append(answers, a)
		}

		gotKeys, err1 := readIDs(ids)
		gotOps, err2 := readOps(packedOps)
		gotSections, err3 := readChunks(packSections(sections), 8)
		gotAnswers, err4 := readAnswers(packAnswers(answers))
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		all := diff(keys, gotKeys) + diff(ops, gotOps) + diff(sections, gotSections) + diff(answers, gotAnswers)
		if all != "" {
			t.Fatalf("seed %d: %s", seed, all)
		}
		if ids.Count() != len(keys) {
			t.Fatalf("seed %d: Count() = %d of %d IDs", seed, ids.Count(), len(keys))
		}
	}
}

func TestNextChunkPassesOverClaims(t *testing.T) {
	want := []section{{Head: Chunk{Shard: 1, First: true, Claims: 2}}, {Head: Chunk{Shard: 2, Last: true, Claims: 1}}}
	for i := range want {
		for range want[i].Head.Claims {
			want[i].Ops = append(want[i].Ops, Op{Key: mustKey(t, "x")})
		}
	}
	c := packSections(want).Cursor(8)
	for i := range want {
		var head Chunk
		if !c.NextChunk(&head) || head != want[i].Head {
			t.Errorf("section %d: got %v, want %v, %v", i, head, want[i].Head, c.Err())
		}
	}
	var head Chunk
	if c.NextChunk(&head) || c.Err() != nil {
		t.Errorf("got another section %v, %v", head, c.Err())
	}
}

func TestIDsCountCutOff(t *testing.T) {
	for input, want := range map[string]int{"": 0, "\x00": 1, "\x01a\x05ab": 2, "\x05": 1} {
		if got := IDs(input).Count(); got != want {
			t.Errorf("Count of %q = %d, want %d", input, got, want)
		}
	}
}

func TestCursorsAllocateNothing(t *testing.T) {
	uuid, short := mustKey(t, someUUID), mustKey(t, "dev-1")
	ids := AppendID(AppendID(nil, uuid), short)
	ops := AppendRemove(AppendAdd(nil, uuid, 1<<40, 9), short)
	chunks := AppendChunkAdd(AppendChunk(nil, Chunk{Claims: 1}), uuid, 1, 1)
	answers := AppendAnswer(AppendAnswer(nil, Found, []Ref{{1, 2, 3}}), Absent, nil)
	answered := Answered{Claims: make([]Ref, 0, 4)}
	if n := testing.AllocsPerRun(100, func() {
		var k Key
		var op Op
		var head Chunk
		for c := ids.Cursor(); c.Next(&k); {
		}
		for c := ops.Cursor(); c.Next(&op); {
		}
		for c := chunks.Cursor(8); c.NextChunk(&head); {
			for c.NextOp(&op) {
			}
		}
		for c := answers.Cursor(); c.Next(&answered); {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkOpCursor(b *testing.B) {
	var ops Ops
	rnd := rand.New(rand.NewPCG(1, 1))
	for range MaxChunk {
		var raw [16]byte
		for i := range raw {
			raw[i] = byte(rnd.Uint32())
		}
		ops = AppendAdd(ops, uuidKey(raw), 0, 100)
	}
	b.ReportAllocs()
	for b.Loop() {
		var op Op
		for c := ops.Cursor(); c.Next(&op); {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxChunk, "ns/claim")
}
