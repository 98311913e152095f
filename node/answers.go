package node

import (
	"encoding/binary"
	"math"
)

// Answers is a sequence of answers to lookups. Each is a byte, the Answer in its
// two low bits and the number of claims above them, 63 for a number that
// follows; and for each claim the proxy's number, the generation and the age. It
// is a packed form like IDs.
type Answers []byte

// manyClaims in an answer's first byte says that the number of claims follows.
const manyClaims = 63

// A Ref is a claim as Answers carry it.
type Ref struct {
	Proxy      uint32 // its number on the stream: FindReply.Proxies tells it
	Generation uint64
	Age        uint32 // of the node's connection, in tenths of a second
}

// Answered is one answer of Answers.
type Answered struct {
	Answer Answer
	Claims []Ref // with Unknown they are hints
}

// AppendAnswer appends an answer. Found has at least one claim, Absent none.
func AppendAnswer(p Answers, a Answer, claims []Ref) Answers {
	p = append(p, byte(a)|byte(min(len(claims), manyClaims))<<2)
	if len(claims) >= manyClaims {
		p = binary.AppendUvarint(p, uint64(len(claims)))
	}
	for _, c := range claims {
		p = binary.AppendUvarint(p, uint64(c.Proxy))
		p = binary.AppendUvarint(p, c.Generation)
		p = binary.AppendUvarint(p, uint64(c.Age))
	}
	return p
}

// Cursor returns a cursor before the first answer.
func (p Answers) Cursor() AnswerCursor {
	return AnswerCursor{r: reader{field: "answers", rest: p}}
}

// An AnswerCursor reads Answers. It is not safe for concurrent use.
type AnswerCursor struct{ r reader }

// Next puts the next answer into a, whose Claims it overwrites in place, and
// reports whether there was one.
func (c *AnswerCursor) Next(a *Answered) bool {
	var head byte
	if !c.r.more() || !c.r.byte(&head) {
		return false
	}
	a.Answer, a.Claims = Answer(head&3), a.Claims[:0]
	n := uint64(head >> 2)
	if n == manyClaims && !c.r.uvarint("number of claims", math.MaxUint32, &n) {
		return false
	}
	if least := 3 * n; least > uint64(len(c.r.rest)) {
		return c.r.fail("is cut off: %d claims take %d bytes or more, %d are there", n, least, len(c.r.rest))
	}
	if !c.consistent(a.Answer, n) {
		return false
	}
	for range n {
		var proxy, generation, age uint64
		if !c.r.uvarint("proxy number", math.MaxUint32, &proxy) ||
			!c.r.uvarint("generation", math.MaxUint64, &generation) ||
			!c.r.uvarint("age", math.MaxUint32, &age) {
			return false
		}
		a.Claims = append(a.Claims, Ref{Proxy: uint32(proxy), Generation: generation, Age: uint32(age)})
	}
	c.r.record++
	return true
}

// consistent fails on what no tracker may say.
func (c *AnswerCursor) consistent(a Answer, claims uint64) bool {
	switch {
	case a > Absent:
		return c.r.fail("is answer %d; known are %d to %d", a, Unknown, Absent)
	case a == Absent && claims > 0:
		return c.r.fail("is ABSENT with %d claims; it has none", claims)
	case a == Found && claims == 0:
		return c.r.fail("is FOUND without a claim; it has at least one")
	}
	return true
}

// Err returns the *InvalidError that ended the cursor, or nil.
func (c *AnswerCursor) Err() error { return c.r.error() }
