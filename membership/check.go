package membership

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// The kinds of memberlist's messages, of which those that are not here are
// refused: no tracker sends them, and some unpack to any size.
const (
	kindPing         = 0
	kindIndirectPing = 1
	kindAck          = 2
	kindSuspect      = 3
	kindAlive        = 4
	kindDead         = 5
	kindPushPull     = 6
	kindCompound     = 7
	kindNack         = 11
	kindCRC          = 12
	kindError        = 13
	kindLabel        = 244
)

const (
	// maxMessage is the largest message of a stream, in bytes: the state of more
	// members than a table takes, with the longest metadata.
	maxMessage = 4 << 20

	// smallMessage is how much of a message is read before it counts as large.
	smallMessage = 64 << 10

	// maxNodes is how many members a push/pull may tell of: also the dead are told
	// of for a while.
	maxNodes = 2 * maxMembers

	// maxState is what a push/pull may tell besides, in bytes; see vanished.
	maxState = maxVanished * (1 + maxIDLen + binary.MaxVarintLen64)

	maxField = 2 * 512 // bytes; the longest is metadata
)

var (
	errPool      = errors.New("it is of another pool: has it come to the right address?")
	errMalformed = errors.New("malformed")
)

// labelOf is what begins all that memberlist sends for a pool.
func labelOf(pool string) string { return string([]byte{kindLabel, byte(len(pool))}) + pool }

// checkPacket returns why a packet must not be seen by memberlist, whose decoders
// take space for what a length promises, and unpack without end.
func checkPacket(pool string, b []byte) error {
	b, ok := bytes.CutPrefix(b, []byte(labelOf(pool)))
	if !ok {
		return errPool
	}
	if len(b) >= 5 && b[0] == kindCRC {
		b = b[5:]
	}
	if len(b) == 0 || b[0] != kindCompound {
		return checkPart(b)
	}
	if len(b) < 2 || len(b) < 2+2*int(b[1]) {
		return fmt.Errorf("%w: %d bytes of parts", errMalformed, len(b))
	}
	lengths, rest := b[2:2+2*int(b[1])], b[2+2*int(b[1]):]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		n := int(binary.BigEndian.Uint16(lengths))
		if n > len(rest) {
			return fmt.Errorf("%w: a part of %d bytes, of which %d are there", errMalformed, n, len(rest))
		}
		if err := checkPart(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return noMore(rest)
}

func noMore(rest []byte) error {
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes too many", errMalformed, len(rest))
	}
	return nil
}

// checkPart checks one message of a packet.
func checkPart(b []byte) error {
	if len(b) == 0 {
		return fmt.Errorf("%w: empty", errMalformed)
	}
	switch b[0] {
	case kindPing, kindIndirectPing, kindAck, kindSuspect, kindAlive, kindDead, kindNack:
	default:
		return fmt.Errorf("%w: kind %d is not for a packet", errMalformed, b[0])
	}
	from := bytes.NewReader(b[1:])
	w := wire{from: from, most: len(b), read: make([]byte, 0, len(b))}
	if err := w.fields(nil); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: cut short", errMalformed) // a packet is whole or wrong
		}
		return err
	}
	return noMore(b[len(b)-from.Len():])
}

// direction is who opened a stream.
type direction bool

const (
	inbound  direction = false
	outbound direction = true
)

// checkStream reads one message, and returns it if memberlist may see it.
func checkStream(from io.Reader, pool string, d direction, g *gate) ([]byte, error) {
	w := wire{from: from, most: maxMessage, gate: g}
	defer w.close()
	kinds := []byte{kindPushPull, kindAck, kindError} // an answer
	if d == inbound {
		kinds = []byte{kindPushPull, kindPing}
		want := labelOf(pool)
		for i := range len(want) { // one by one: another pool's may be shorter, and waits for us
			if b, err := w.byte(); err != nil {
				return nil, err
			} else if b != want[i] {
				return nil, errPool
			}
		}
	}
	kind, err := w.byte()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(kinds, kind) {
		return nil, fmt.Errorf("%w: kind %d is not for a stream", errMalformed, kind)
	}
	header := make(map[string]uint64)
	if err := w.fields(header); err != nil || kind != kindPushPull {
		return w.read, err
	}
	if n := header["Nodes"]; n > maxNodes {
		return nil, fmt.Errorf("%w: %d members, more than %d", errMalformed, n, maxNodes)
	}
	if n := header["UserStateLen"]; n > maxState {
		return nil, fmt.Errorf("%w: %d bytes besides the members, more than %d", errMalformed, n, maxState)
	}
	for range header["Nodes"] {
		if err := w.fields(nil); err != nil {
			return nil, err
		}
	}
	if _, err := w.next(int(header["UserStateLen"])); err != nil {
		return nil, err
	}
	return w.read, nil
}

// A wire reads messages in the encoding of memberlist, MessagePack, and keeps
// what it has read.
type wire struct {
	from io.Reader
	most int   // bytes to keep
	gate *gate // nil: no message is large
	read []byte

	leave func() // leaves the gate
}

func (w *wire) close() {
	if w.leave != nil {
		w.leave()
	}
}

// next reads n bytes.
func (w *wire) next(n int) ([]byte, error) {
	at := len(w.read)
	if at+n > w.most {
		return nil, fmt.Errorf("%w: more than %d bytes", errMalformed, w.most)
	}
	if w.gate != nil && w.leave == nil && at+n > smallMessage {
		leave, ok := w.gate.enterLarge()
		if !ok {
			return nil, errBusy
		}
		w.leave = leave
	}
	w.read = slices.Grow(w.read, n)[:at+n]
	if _, err := io.ReadFull(w.from, w.read[at:]); err != nil {
		w.read = w.read[:at]
		if errors.Is(err, io.EOF) && (at > 0 || n > 1) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return w.read[at:], nil
}

func (w *wire) byte() (byte, error) {
	b, err := w.next(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// number reads n bytes, the highest first.
func (w *wire) number(n int) (uint64, error) {
	b, err := w.next(n)
	var v uint64
	for _, digit := range b {
		v = v<<8 | uint64(digit)
	}
	return v, err
}

// fields reads a map from names to scalars, and notes those that are whole numbers
// unless numbers is nil; a negative one is a great one.
func (w *wire) fields(numbers map[string]uint64) error {
	tag, err := w.byte()
	if err != nil {
		return err
	}
	if tag&0xf0 != 0x80 {
		return fmt.Errorf("%w: no map of at most 15 fields", errMalformed)
	}
	for range tag & 0x0f {
		name, _, err := w.scalar()
		if err != nil {
			return err
		}
		_, v, err := w.scalar()
		if err != nil {
			return err
		}
		if numbers != nil {
			numbers[string(name)] = v
		}
	}
	return nil
}

// scalar reads a number, a truth value, nothing, or bytes.
func (w *wire) scalar() ([]byte, uint64, error) {
	tag, err := w.byte()
	if err != nil {
		return nil, 0, err
	}
	size := 0 // of a number
	switch {
	case tag < 0x80: // small number
		return nil, uint64(tag), nil
	case tag >= 0xe0: // small negative number
		return nil, uint64(int64(int8(tag))), nil
	case tag&0xe0 == 0xa0: // short string
		return w.text(uint64(tag & 0x1f))
	case tag == 0xc0 || tag == 0xc2 || tag == 0xc3: // nothing, false, true
		return nil, 0, nil
	case 0xc4 <= tag && tag <= 0xc6: // bytes
		size = 1 << (tag - 0xc4)
	case 0xd9 <= tag && tag <= 0xdb: // string
		size = 1 << (tag - 0xd9)
	case 0xcc <= tag && tag <= 0xcf: // number
		v, err := w.number(1 << (tag - 0xcc))
		return nil, v, err
	case 0xd0 <= tag && tag <= 0xd3: // number with a sign
		n := 1 << (tag - 0xd0)
		v, err := w.number(n)
		shift := 64 - 8*n
		return nil, uint64(int64(v<<shift) >> shift), err
	default:
		return nil, 0, fmt.Errorf("%w: a field of type %#x", errMalformed, tag)
	}
	n, err := w.number(size)
	if err != nil {
		return nil, 0, err
	}
	return w.text(n)
}

func (w *wire) text(n uint64) ([]byte, uint64, error) {
	if n > maxField {
		return nil, 0, fmt.Errorf("%w: a field of %d bytes, more than %d", errMalformed, n, maxField)
	}
	b, err := w.next(int(n))
	return b, 0, err
}
