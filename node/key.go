package node

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	uuidBytes = 16
	uuidText  = 36 // of the canonical form, 8-4-4-4-12

	// shortBytes is how long a text may be to be kept in a Key itself.
	shortBytes = 15
)

// The kinds of keys: 1 to shortBytes is the length of a short text.
const (
	kindNone = 0
	kindUUID = shortBytes + 1
	kindLong = shortBytes + 2
)

// A Key is a node ID in the form in which tables and messages keep it: the 16
// bytes of a UUID, or text. Equal IDs have equal Keys, so that Keys may be
// compared and used in maps. The zero Key is no node's.
type Key struct {
	long string   // the text of a kindLong
	raw  [16]byte // a UUID, or a short text and zeros
	kind uint8
}

// ParseID returns the Key of id. Only UUIDs in canonical form, lower case,
// become 16 bytes; any other spelling is another node's ID. The error is an
// *InvalidError for node_id.
func ParseID(id ID) (Key, error) {
	k, problem := keyOf(string(id))
	if problem != "" {
		return Key{}, &InvalidError{Field: "node_id", Value: shorten(string(id)), Problem: problem}
	}
	return k, nil
}

// keyOf returns the key of a text, or what is wrong with it. A long key keeps
// the text itself.
func keyOf(text string) (k Key, problem string) {
	if problem := idProblem(text); problem != "" {
		return Key{}, problem
	}
	switch {
	case len(text) <= shortBytes:
		k.kind = uint8(len(text))
		copy(k.raw[:], text)
	case parseUUID(text, &k.raw):
		k.kind = kindUUID
	default:
		k.raw, k.kind, k.long = [16]byte{}, kindLong, text
	}
	return k, ""
}

// keyOfBytes is keyOf for bytes that the caller goes on to change.
func keyOfBytes(text []byte) (k Key, problem string) {
	// Only a long key keeps the string, and that one gets a copy.
	k, problem = keyOf(unsafe.String(unsafe.SliceData(text), len(text)))
	k.long = strings.Clone(k.long)
	return k, problem
}

func uuidKey(raw [16]byte) Key { return Key{raw: raw, kind: kindUUID} }

// ID returns the exact text that the key was made of.
func (k Key) ID() ID {
	if k.kind == kindLong {
		return ID(k.long)
	}
	return ID(k.appendText(make([]byte, 0, uuidText)))
}

// String returns the ID as text.
func (k Key) String() string { return string(k.ID()) }

// IsZero reports whether k is no node's.
func (k Key) IsZero() bool { return k.kind == kindNone }

// Hash returns ring.Hash of the exact text, without making it.
func (k Key) Hash() uint64 {
	if k.kind == kindLong {
		return ring.Hash(k.long)
	}
	var buf [uuidText]byte
	text := k.appendText(buf[:0])
	return ring.Hash(unsafe.String(unsafe.SliceData(text), len(text)))
}

// appendText appends the exact text of k.
func (k *Key) appendText(b []byte) []byte {
	switch k.kind {
	case kindLong:
		return append(b, k.long...)
	case kindUUID:
		return appendUUID(b, &k.raw)
	}
	return append(b, k.raw[:k.kind]...)
}

// appendUUID appends the canonical form of raw. It is on the way of every lookup.
func appendUUID(b []byte, raw *[16]byte) []byte {
	var hex [32]byte
	for i := range 4 {
		binary.BigEndian.PutUint64(hex[8*i:], hexDigits(binary.BigEndian.Uint32(raw[4*i:])))
	}
	b = append(append(b, hex[:8]...), '-')
	b = append(append(b, hex[8:12]...), '-')
	b = append(append(b, hex[12:16]...), '-')
	b = append(append(b, hex[16:20]...), '-')
	return append(b, hex[20:]...)
}

// hexDigits returns the eight lower-case hex digits of v, a byte each.
func hexDigits(v uint32) uint64 {
	n := uint64(v) // spread to one nibble a byte
	n = (n | n<<16) & 0x0000ffff0000ffff
	n = (n | n<<8) & 0x00ff00ff00ff00ff
	n = (n | n<<4) & 0x0f0f0f0f0f0f0f0f
	letters := (n + 0x0606060606060606) >> 4 & 0x0101010101010101 // 1 for 10 and more
	return n + 0x3030303030303030 + letters*('a'-'0'-10)
}

// parseUUID reports whether text is a UUID in canonical form, and puts it into
// raw, whose content is undefined where it is not.
func parseUUID(text string, raw *[16]byte) bool {
	if len(text) != uuidText || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return false
	}
	for i, at := range uuidPairs {
		hi, lo := nibble(text[at]), nibble(text[at+1])
		if hi|lo > 0xf {
			return false
		}
		raw[i] = hi<<4 | lo
	}
	return true
}

// uuidPairs are where the two digits of each byte begin in the canonical form.
var uuidPairs = [uuidBytes]uint8{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// nibble returns the value of a lower-case hex digit, or 0xff.
func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// idProblem says what is wrong with the ID of a node or a proxy, or nothing.
func idProblem(text string) string {
	switch {
	case text == "":
		return "is empty; give 1 to 255 bytes of UTF-8"
	case len(text) > MaxIDBytes:
		return "is longer than 255 bytes; shorten it"
	case !utf8.ValidString(text):
		return "is not valid UTF-8; encode it"
	}
	return ""
}

// shorten cuts a value to what an error may carry over the wire: some bytes, and
// valid UTF-8.
func shorten(value string) string {
	const most = 64
	if len(value) > most {
		value = value[:most] + "..."
	}
	return strings.ToValidUTF8(value, "\ufffd")
}
