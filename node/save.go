package node

import (
	"encoding/binary"
	"io"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/trackerpool/trackerpool/ring"
)

// A snapshot of a tracker's claims is saveMagic, the format's version in four bytes, and
// sections: the length of the payload in four bytes, the payload, and in eight the
// xxhash64 of all sections so far, so that one that is missing or out of place shows
// too. All numbers of fixed size are little-endian, others are uvarints, texts follow
// their length. A payload begins with its kind:
//
//	head     the pool's name, the tracker's ID, the number of shards, when it was saved
//	lives    each: the proxy's ID, address, cluster and zone, and both numbers of its incarnation
//	claims   a shard, and of it each: the life's place among all lives, and an addition of Ops
//	end      how many lives and how many claims there are
const (
	saveMagic   = "TPCLAIMS"
	saveVersion = 1

	sectionHead   = 1
	sectionLives  = 2
	sectionClaims = 3
	sectionEnd    = 4

	// sectionBytes is when a section ends; none is longer than maxSectionBytes.
	sectionBytes    = 64 << 10
	maxSectionBytes = 2 * sectionBytes

	lengthBytes   = 4
	checksumBytes = 8
)

// Saved says what a snapshot has.
type Saved struct {
	At              time.Time // by the wall clock of the machine that saved it
	Proxies, Claims int
}

// Save writes a snapshot of the claims of all sessions to w, some 64 KiB at a time. It
// takes a shard after the other, each as it then is, holds no lock while it writes, and
// needs memory for one shard. wall is what the wall clock says. The error is w's.
func (t *Tracker) Save(w io.Writer, wall time.Time) (Saved, error) {
	t.mu.Lock()
	all := make([]*life, 0, len(t.proxies)+len(t.restored))
	for _, l := range t.proxies {
		all = append(all, l)
	}
	for _, l := range t.restored {
		all = append(all, l)
	}
	t.mu.Unlock()

	s := newSaver(w)
	s.begin(sectionHead)
	s.text(t.cfg.Pool.Name)
	s.text(string(t.self.ID))
	s.number(uint64(t.cfg.Shards))
	s.number(uint64(max(0, wall.UnixMilli())))
	s.end()
	places := make(map[Owner]int, len(all))
	s.begin(sectionLives)
	for i, l := range all {
		places[l.owner] = i
		p := l.proxy.Load()
		for _, field := range []string{string(p.ID), p.Addr, p.Cluster, p.Zone} {
			s.text(field)
		}
		s.number(l.incarnation.Number)
		s.number(l.incarnation.Random)
		s.endIfLong(sectionLives)
	}
	s.end()
	var content []ownedEntry
	claims := 0
	for sh := range t.cfg.Shards {
		content = t.table.appendOwned(ring.Shard(sh), content[:0])
		if s.err != nil {
			break
		}
		if len(content) == 0 {
			continue
		}
		now := t.cfg.Now()
		s.begin(sectionClaims, uint64(sh))
		for i := range content {
			e := &content[i]
			place, ok := places[e.Owner]
			if !ok || all[place].dead.Load() { // a life that is over, or came after the others were listed
				continue
			}
			s.number(uint64(place))
			s.buf = appendAdd(s.buf, &e.Key, e.Value.Generation, t.age(now, e.Value.Stamp))
			claims++
			s.endIfLong(sectionClaims, uint64(sh))
		}
		s.end()
	}
	s.begin(sectionEnd)
	s.number(uint64(len(all)))
	s.number(uint64(claims))
	s.end()
	return Saved{At: wall, Proxies: len(all), Claims: claims}, s.err
}

// An ownedEntry is one claim of a shard.
type ownedEntry struct {
	Entry
	Owner Owner
}

// appendOwned appends all claims of a shard to buf, in no order.
func (t *Table) appendOwned(shard ring.Shard, buf []ownedEntry) []ownedEntry {
	s := t.lock(shard)
	defer t.unlock(shard)
	for i := range s.all {
		if e := &s.all[i]; !e.empty() {
			k := s.key(e)
			k.long = strings.Clone(k.long)
			buf = append(buf, ownedEntry{Entry{Key: k, Value: s.value(e)}, e.owner()})
		}
	}
	return buf
}

// A saver writes sections. After an error it does nothing.
type saver struct {
	w      io.Writer
	digest *xxhash.Digest
	buf    []byte // the section under way
	bare   int    // how long it is while it has no record
	err    error
}

func newSaver(w io.Writer) *saver {
	s := &saver{w: w, digest: xxhash.New()}
	_, s.err = w.Write(binary.LittleEndian.AppendUint32([]byte(saveMagic), saveVersion))
	return s
}

// begin begins a section of a kind, whose payload begins with numbers.
func (s *saver) begin(kind byte, numbers ...uint64) {
	s.buf = append(s.buf[:0], make([]byte, lengthBytes)...)
	s.buf = append(s.buf, kind)
	for _, n := range numbers {
		s.number(n)
	}
	s.bare = len(s.buf)
}

func (s *saver) number(n uint64) { s.buf = binary.AppendUvarint(s.buf, n) }

func (s *saver) text(t string) {
	s.number(uint64(len(t)))
	s.buf = append(s.buf, t...)
}

// endIfLong goes on in another section of the kind where this one is long.
func (s *saver) endIfLong(kind byte, numbers ...uint64) {
	if len(s.buf) >= sectionBytes {
		s.end()
		s.begin(kind, numbers...)
	}
}

// end writes the section, unless it has no record.
func (s *saver) end() {
	if s.err != nil || len(s.buf) == s.bare {
		return
	}
	binary.LittleEndian.PutUint32(s.buf, uint32(len(s.buf)-lengthBytes))
	_, _ = s.digest.Write(s.buf) // it never fails
	s.buf = binary.LittleEndian.AppendUint64(s.buf, s.digest.Sum64())
	_, s.err = s.w.Write(s.buf)
}
