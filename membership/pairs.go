package membership

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// pairedPacket is the first byte of a packet between two trackers that have met.
	pairedPacket = 0xf3

	pairIDBytes  = 8
	pairKeyBytes = 32
	pairHeader   = 1 + pairIDBytes + 8
	pairOverhead = pairHeader + 16

	// pairMaterial is what two trackers derive from a handshake: a key and its ID
	// for each direction.
	pairMaterial = 2 * (pairKeyBytes + pairIDBytes)

	// maxPairsOf is how many of the last keys of one tracker open packets: each end
	// seals with the one that it noted last, and two handshakes may cross.
	maxPairsOf = 4
)

var (
	errStranger = errors.New("it does not come from one that has shown a tracker's certificate: " +
		"give all trackers https_keypairs, ca_file and client_ca_file")
	errUnpaired = errors.New("its key is not good any more")
	errRepeated = errors.New("it has come before")
)

// A pairID names a key to the tracker that opens with it.
type pairID [pairIDBytes]byte

// A pair is what two boots of trackers derived from one handshake.
type pair struct {
	other       string    // gossip name
	until       time.Time // the other's certificate is good
	inID, outID pairID
	in, out     cipher.AEAD
	sent        uint64
	seen        window
}

// newPair returns the pair of what both ends derived; client says which end this
// is.
func newPair(other string, until time.Time, material []byte, client bool) (*pair, error) {
	p := &pair{other: other, until: until}
	half := func(id *pairID, aead *cipher.AEAD) error {
		block, err := aes.NewCipher(material[:pairKeyBytes])
		if err != nil {
			return err
		}
		copy(id[:], material[pairKeyBytes:])
		material = material[pairKeyBytes+pairIDBytes:]
		*aead, err = cipher.NewGCM(block)
		return err
	}
	if client {
		return p, errors.Join(half(&p.outID, &p.out), half(&p.inID, &p.in))
	}
	return p, errors.Join(half(&p.inID, &p.in), half(&p.outID, &p.out))
}

// A window knows which of the numbers of a sender have come: each counts once, and
// one that is 64 behind the highest does not count. Numbers begin with 1.
type window struct {
	highest uint64
	bits    uint64 // bit i: highest-i has come
}

// take notes a number, and reports whether it counts.
func (w *window) take(n uint64) bool {
	switch {
	case n > w.highest:
		w.bits = w.bits<<min(n-w.highest, 64) | 1
		w.highest = n
		return true
	case w.highest-n >= 64 || n == 0:
		return false
	}
	bit := uint64(1) << (w.highest - n)
	fresh := w.bits&bit == 0
	w.bits |= bit
	return fresh
}

// pairs are the keys shared with others, at most maxMembers of them. It is safe for
// concurrent use.
type pairs struct {
	mu    sync.Mutex // guards the fields below
	of    map[string][]*pair
	in    map[pairID]*pair
	order []string // of of, the one that was met least lately first
}

func newPairs() *pairs { return &pairs{of: make(map[string][]*pair), in: make(map[pairID]*pair)} }

// add notes a pair, which packets to the other are sealed with from now on.
func (s *pairs) add(p *pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.order, p.other); i >= 0 {
		s.order = slices.Delete(s.order, i, i+1)
	} else if len(s.order) == maxMembers {
		for _, old := range s.of[s.order[0]] {
			delete(s.in, old.inID)
		}
		delete(s.of, s.order[0])
		s.order = slices.Delete(s.order, 0, 1)
	}
	s.order = append(s.order, p.other)
	all := append(s.of[p.other], p)
	if len(all) > maxPairsOf {
		delete(s.in, all[0].inID)
		all = slices.Delete(all, 0, 1)
	}
	s.of[p.other], s.in[p.inID] = all, p
}

// met reports whether the boot of that gossip name is among those that were met
// last.
func (s *pairs) met(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.of[name]) > 0
}

// seal returns a packet that only the boot of that gossip name opens, or false if
// it was not met, or its certificate has run out since.
func (s *pairs) seal(now time.Time, name string, packet []byte) ([]byte, bool) {
	s.mu.Lock()
	all := s.of[name]
	if len(all) == 0 || now.After(all[len(all)-1].until) {
		s.mu.Unlock()
		return nil, false
	}
	p := all[len(all)-1]
	p.sent++
	n := p.sent
	s.mu.Unlock()
	b := append(make([]byte, 0, pairOverhead+len(packet)), pairedPacket)
	b = append(b, p.outID[:]...)
	b = binary.BigEndian.AppendUint64(b, n)
	return p.out.Seal(b, nonceOf(n), packet, b), true
}

// open is the inverse of seal at the other end, once for each packet.
func (s *pairs) open(now time.Time, packet []byte) ([]byte, error) {
	if len(packet) < pairOverhead || packet[0] != pairedPacket {
		return nil, errStranger
	}
	header, sealed := packet[:pairHeader], packet[pairHeader:]
	n := binary.BigEndian.Uint64(header[1+pairIDBytes:])
	s.mu.Lock()
	p := s.in[pairID(header[1:1+pairIDBytes])]
	s.mu.Unlock()
	if p == nil || now.After(p.until) {
		return nil, errUnpaired
	}
	plain, err := p.in.Open(nil, nonceOf(n), sealed, header)
	if err != nil {
		return nil, errStranger
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.seen.take(n) {
		return nil, errRepeated
	}
	return plain, nil
}

func nonceOf(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), n) }
