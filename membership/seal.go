package membership

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// The first byte of what is sealed. memberlist's own begin with 244, the label.
const (
	sealedPacket = 0xf1
	sealedStream = 0xf2
)

const (
	saltBytes = 16

	// maxChunk is how much of a stream is sealed at a time, in bytes: what a
	// stranger can make us store.
	maxChunk = 16 << 10

	// sealOverhead is what sealing adds to a packet: the first byte, a nonce and a
	// tag.
	sealOverhead = 1 + 12 + 16
)

// Errors of what comes in. They are counted by kind, and logged with a remedy.
var (
	errPlain = errors.New("it is not sealed, and this tracker has a gossip key: give its sender the pool's key file")
	errNoKey = errors.New("it is sealed with a key that this tracker does not have, or for another pool: " +
		"add a key at all trackers before one seals with it")
	errNotOurs = errors.New("it is sealed, and this tracker has no gossip key: give it the pool's key file")
)

// seal returns a packet of the pool that only its key opens, or the packet itself
// if there is no key.
func (r keyring) seal(pool string, packet []byte) []byte {
	if len(r) == 0 {
		return packet
	}
	return r[0].Seal(append(make([]byte, 0, len(packet)+sealOverhead), sealedPacket), nil, packet, []byte(pool))
}

// open is the inverse of seal, for all keys of the ring.
func (r keyring) open(pool string, packet []byte) ([]byte, error) {
	sealed := len(packet) > 0 && packet[0] == sealedPacket
	switch {
	case sealed && len(r) == 0:
		return nil, errNotOurs
	case len(r) == 0:
		return packet, nil
	case !sealed:
		return nil, errPlain
	}
	return r.tryAll(packet[1:], []byte(pool))
}

func (r keyring) tryAll(sealed, data []byte) ([]byte, error) {
	for _, s := range r {
		if plain, err := s.Open(nil, nil, sealed, data); err == nil {
			return plain, nil
		}
	}
	return nil, errNoKey
}

// A sealedConn seals what is written, in chunks: one that is cut short, repeated,
// moved or from another stream does not open. It is for one reader and one writer.
type sealedConn struct {
	net.Conn
	keys keyring
	pool string

	in, out sealedHalf
	rest    []byte // opened, and not read yet
}

// A sealedHalf is one direction of a stream.
type sealedHalf struct {
	begun  bool
	salt   [saltBytes]byte
	chunks uint64
}

// data is what the next chunk is bound to.
func (h *sealedHalf) data(pool string) []byte {
	b := binary.LittleEndian.AppendUint64(h.salt[:len(h.salt):len(h.salt)], h.chunks)
	h.chunks++
	return append(b, pool...)
}

func (c *sealedConn) Write(b []byte) (int, error) {
	var sealed []byte
	if !c.out.begun {
		c.out.begun = true
		rand.Read(c.out.salt[:]) // never fails
		sealed = append(append(sealed, sealedStream), c.out.salt[:]...)
	}
	for rest := b; len(rest) > 0; {
		chunk := rest[:min(len(rest), maxChunk)]
		rest = rest[len(chunk):]
		sealed = binary.BigEndian.AppendUint16(sealed, uint16(len(chunk)+c.keys[0].Overhead()))
		sealed = c.keys[0].Seal(sealed, nil, chunk, c.out.data(c.pool))
	}
	if _, err := c.Conn.Write(sealed); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *sealedConn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// fill reads and opens one chunk.
func (c *sealedConn) fill() error {
	if !c.in.begun {
		var first [1]byte
		if _, err := io.ReadFull(c.Conn, first[:]); err != nil {
			return err
		}
		if first[0] != sealedStream {
			return errPlain
		}
		if _, err := io.ReadFull(c.Conn, c.in.salt[:]); err != nil {
			return err
		}
		c.in.begun = true
	}
	var size [2]byte
	if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if overhead := c.keys[0].Overhead(); n <= overhead || n > maxChunk+overhead {
		return fmt.Errorf("a sealed chunk of %d bytes, which is not in %d to %d", n, overhead+1, maxChunk+overhead)
	}
	chunk := make([]byte, n)
	if _, err := io.ReadFull(c.Conn, chunk); err != nil {
		return err
	}
	plain, err := c.keys.tryAll(chunk, c.in.data(c.pool))
	c.rest = plain
	return err
}
