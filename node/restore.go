package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/trackerpool/trackerpool/ring"
)

// Restore takes the claims of a snapshot that an earlier life of this tracker saved.
// They are not answered, not even as hints, and nothing counts because of them: they
// wait for a Hello of the same life of their proxy, whose Welcome then has their sums,
// so that the proxy need not send what is equal. A Hello of another life voids them, and
// what nobody came for is dropped two terms after the start.
//
// It takes all or, where it returns an error, nothing: an *InvalidError where the
// snapshot is damaged, of a later format, or not this tracker's; else r's. wall is what
// the wall clock says: connections grew older by the time since the snapshot was saved.
// Restore is called before Run, and before the tracker is served.
func (t *Tracker) Restore(r io.Reader, wall time.Time) (Saved, error) {
	s := restorer{t: t, in: r, digest: xxhash.New(), wall: wall, table: NewTable(t.cfg.Shards), all: []*life{nil}, restored: map[ProxyID]*life{}}
	if err := s.read(); err != nil {
		return Saved{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.table, t.restored = s.table, s.restored
	t.lives.all.Store(&s.all)
	return s.saved, nil
}

// forgetRestoredLocked drops what nobody came for within two terms of the start, and
// returns of how many proxies.
func (t *Tracker) forgetRestoredLocked(now time.Time) int {
	if len(t.restored) == 0 || now.Sub(t.started) <= t.term.Forgotten() {
		return 0
	}
	n := len(t.restored)
	for _, l := range t.restored {
		t.killLocked(l, lifeUnclaimed, nil)
	}
	t.restored = nil
	return n
}

// comeForLocked takes a proxy's restored life out of those that wait. It returns nil
// where there is none.
func (t *Tracker) comeForLocked(p ProxyID) *life {
	l := t.restored[p]
	delete(t.restored, p)
	return l
}

// A restorer reads a snapshot.
type restorer struct {
	t        *Tracker
	in       io.Reader
	digest   *xxhash.Digest
	wall     time.Time
	buf      []byte
	sections int

	saved    Saved
	now      time.Time
	grown    uint64     // by what ages grew, in their unit
	last     ring.Shard // that claims were of
	table    *Table
	all      []*life // by Owner
	restored map[ProxyID]*life
}

// damaged is the error of what no tracker wrote.
func (s *restorer) damaged(format string, args ...any) error {
	return &InvalidError{fmt.Sprintf("snapshot section %d", s.sections), "", fmt.Sprintf(format, args...) + ": it is damaged; look after the disk"}
}

// fill reads exactly len(p) bytes.
func (s *restorer) fill(p []byte) error {
	_, err := io.ReadFull(s.in, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return s.damaged("is cut off")
	}
	return err
}

func (s *restorer) read() error {
	var begin [len(saveMagic) + 4]byte
	if err := s.fill(begin[:]); err != nil {
		return err
	}
	if string(begin[:len(saveMagic)]) != saveMagic {
		return &InvalidError{"snapshot", fmt.Sprintf("%x", begin[:len(saveMagic)]), "does not begin like one: give the tracker a data_dir of its own"}
	}
	if v := binary.LittleEndian.Uint32(begin[len(saveMagic):]); v != saveVersion {
		return &InvalidError{"snapshot version", fmt.Sprint(v), fmt.Sprintf("this release reads version %d: run the release that wrote it, or go on without", saveVersion)}
	}
	for {
		payload, err := s.section()
		if err != nil {
			return err
		}
		r := reader{field: fmt.Sprintf("snapshot section %d", s.sections), rest: payload}
		s.sections++
		var kind byte
		if r.byte(&kind); (kind == sectionHead) != (s.sections == 1) {
			r.fail("is of kind %d: the first is of kind %d, and no other", kind, sectionHead)
		}
		over := false
		switch kind {
		case sectionHead:
			err = s.head(&r)
		case sectionLives:
			s.lives(&r)
		case sectionClaims:
			s.claims(&r)
		case sectionEnd:
			over = true
			s.end(&r)
		default:
			r.fail("is of kind %d, which is not known", kind)
		}
		switch {
		case r.error() != nil:
			return r.error()
		case err != nil || over:
			return err
		}
	}
}

// section reads the next payload, valid until the one after, and checks its sum.
func (s *restorer) section() ([]byte, error) {
	var length [lengthBytes]byte
	if err := s.fill(length[:]); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(length[:]))
	if n == 0 || n > maxSectionBytes {
		return nil, s.damaged("has a length of %d", n)
	}
	s.buf = slices.Grow(s.buf[:0], int(n)+checksumBytes)
	b := s.buf[:n+checksumBytes]
	if err := s.fill(b); err != nil {
		return nil, err
	}
	payload, sum := b[:n], binary.LittleEndian.Uint64(b[n:])
	_, _ = s.digest.Write(length[:]) // it never fails
	_, _ = s.digest.Write(payload)
	if sum != s.digest.Sum64() {
		return nil, s.damaged("has a wrong checksum")
	}
	return payload, nil
}

// head refuses what another tracker saved.
func (s *restorer) head(r *reader) error {
	var pool, id string
	var shards, at uint64
	if !r.text("pool", &pool) || !r.text("tracker", &id) || !r.uvarint("number of shards", 1<<16, &shards) || !r.uvarint("time", math.MaxInt64, &at) {
		return nil
	}
	cfg := &s.t.cfg
	switch {
	case pool != cfg.Pool.Name:
		return &InvalidError{"snapshot pool", shorten(pool), fmt.Sprintf("this tracker is of pool %q: give it a data_dir of its own", cfg.Pool.Name)}
	case id != string(s.t.self.ID):
		return &InvalidError{"snapshot tracker", shorten(id), fmt.Sprintf("this is tracker %q: give each a data_dir of its own", s.t.self.ID)}
	case int(shards) != cfg.Shards:
		return &InvalidError{"snapshot shards", fmt.Sprint(shards), fmt.Sprintf("this pool has %d: the snapshot is of an earlier pool of that name", cfg.Shards)}
	}
	s.saved.At = time.UnixMilli(int64(at))
	s.now = cfg.Now()
	s.grown = uint64(max(0, s.wall.Sub(s.saved.At)) / stampUnit) // a clock that was set back makes nothing younger
	return nil
}

func (s *restorer) lives(r *reader) {
	for r.more() {
		var id string
		var p Proxy
		l := &life{owner: Owner(len(s.all))}
		if !r.text("proxy_id", &id) || !r.text("proxy_addr", &p.Addr) || !r.text("cluster_name", &p.Cluster) || !r.text("zone", &p.Zone) ||
			!r.uvarint("incarnation", math.MaxUint64, &l.incarnation.Number) || !r.uvarint("incarnation", math.MaxUint64, &l.incarnation.Random) {
			return
		}
		p.ID = ProxyID(id)
		l.id = p.ID
		if err := CheckProxy(p); err != nil {
			r.fail("has a proxy that no tracker takes: %v", err)
			return
		}
		if s.restored[p.ID] != nil || l.owner > MaxOwner || l.incarnation.Number == 0 || l.incarnation.Random == 0 {
			r.fail("has proxy %q once more, or without an incarnation", id)
			return
		}
		l.proxy.Store(&p)
		l.restored.Store(true)
		s.all = append(s.all, l)
		s.restored[p.ID] = l
		r.record++
	}
}

func (s *restorer) claims(r *reader) {
	var number, place uint64
	if !r.uvarint("shard", uint64(s.t.cfg.Shards)-1, &number) {
		return
	}
	shard := ring.Shard(number)
	if shard < s.last {
		r.fail("is of shard %d after %d", shard, s.last)
		return
	}
	s.last = shard
	for op := (Op{}); r.more(); {
		if !r.uvarint("life", math.MaxUint32, &place) || !r.op(&op) {
			return
		}
		hash := op.Key.Hash()
		switch {
		case place >= uint64(len(s.all)-1):
			r.fail("has a claim of life %d; there are %d", place, len(s.all)-1)
			return
		case op.Remove || ring.ShardOf(hash, s.t.cfg.Shards) != shard:
			r.fail("has a removal, or a node of another shard than %d", shard)
			return
		}
		age := uint32(min(uint64(op.Age)+s.grown, math.MaxUint32))
		l := s.all[place+1]
		if _, had := s.table.Put(hash, op.Key, l.owner, Value{Generation: op.Generation, Stamp: s.t.stamp(s.now, age)}); had {
			r.fail("has node %q of life %d once more", op.Key, place)
			return
		}
		if n := len(l.sums); n == 0 || l.sums[n-1].Shard != shard {
			l.sums = append(l.sums, ShardSum{Shard: shard})
		}
		l.sums[len(l.sums)-1].Sum.AddClaim(hash, op.Generation)
	}
}

// end checks that nothing is missing, and nothing too much.
func (s *restorer) end(r *reader) {
	var proxies, claims uint64
	if !r.uvarint("number of lives", math.MaxUint64, &proxies) || !r.uvarint("number of claims", math.MaxUint64, &claims) {
		return
	}
	s.saved.Proxies, s.saved.Claims = len(s.restored), s.table.Len()
	if proxies != uint64(s.saved.Proxies) || claims != uint64(s.saved.Claims) {
		r.fail("ends with %d lives and %d claims; there are %d and %d", proxies, claims, s.saved.Proxies, s.saved.Claims)
	}
	if n, _ := s.in.Read(make([]byte, 1)); r.more() || n > 0 {
		r.fail("is the last, and more follows")
	}
}

// text reads a text behind its length.
func (r *reader) text(what string, s *string) bool {
	var n uint64
	if !r.uvarint("length of its "+what, MaxIDBytes, &n) {
		return false
	}
	if uint64(len(r.rest)) < n {
		return r.fail("is cut off in its %s", what)
	}
	*s, r.rest = string(r.rest[:n]), r.rest[n:]
	return true
}
