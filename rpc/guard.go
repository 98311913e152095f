package rpc

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

const (
	// idleTalk is how many frames a client may send that ask for nothing and bring
	// nothing, such as resets, pings and settings, and idleTalkPerSecond how many it may
	// send again each second. Each frame of an answer allows talkPerAnswer more: for
	// such a client updates windows, and measures its path by a ping.
	idleTalk          = 2000
	idleTalkPerSecond = 200
	talkPerAnswer     = 4

	// afterEnd is what DATA costs of those where its stream has ended: honest clients have
	// a window of them under way when a session ends.
	afterEnd = 1. / 8

	// perFault is what a stream costs of those that was reset for what the client did in
	// it.
	perFault = 8

	// cancels is how many streams a client may reset that have not ended, and
	// cancelsPerSecond how many more each second. Answers allow no more of these: to begin
	// what is dropped at once is the cheaper for the client.
	cancels          = 500
	cancelsPerSecond = 100

	// crumb is how many bytes of a message, and not its last, honest clients send at
	// least.
	crumb = 256

	// failures is how many calls of a connection may be answered by a status alone at
	// once, and failuresPerSecond how many more each second. With more it is read from as
	// slowly: its client makes mistakes, or is not let in, as fast as it is told so.
	failures          = 250
	failuresPerSecond = 500

	// turn is how many bytes are read of a connection before others have theirs. Else a
	// client that never lets its connection run dry has a processor for 10 ms at a time.
	// callTurn is that where many of them are calls, each of which is a goroutine that
	// goes before the one of another client: some 8.
	turn      = 4 << 10
	callTurn  = 512
	manyCalls = 8

	// refusedTime is how long a client that floods, or was told what it did wrong, is not
	// heard before its connection is closed. It would come back at once, and a handshake
	// costs more than what it did; and gRPC leaves it a second to read what it is told, in
	// which it would go on to be answered. For as long new connections of its identity
	// are not heard either.
	refusedTime = 2 * time.Second

	// aside is for how long a client is not heard, after each turn, that has more begun
	// than it ends.
	aside = time.Millisecond

	// pieceBytes is what a frame of a message costs besides its content while the rest
	// has not come.
	pieceBytes = 128

	// grpcPrefixBytes begin each message: a flag, and the length.
	grpcPrefixBytes = 5
)

var (
	errIdleTalk = errors.New("the client sends more frames that bring nothing, or resets more calls, than it may")
	errHalf     = errors.New("the client holds back the ends of its messages, more than others do, and there is no more room for such")
)

// A guard is a connection after its handshake. It follows the frames in both
// directions for what gRPC does not bound: how many streams have not ended, frames
// without content, messages that do not come to their end, and clients that keep
// their windows shut.
//
// Invariant: half is the sum of the held of streams, and door.half that of half over
// all guards.
type guard struct {
	net.Conn
	door *door
	from string   // of the identity; see change
	raw  net.Conn // to close it at once

	began      time.Time
	unheard    time.Time // until when the client is not heard; the reader's
	in         frames    // the reader's
	turn       int       // bytes to read before others have theirs; the reader's
	unyielding int       // bytes read since then; the reader's
	out        frames    // the writer's

	mu      sync.Mutex // guards the rest; door.mu may be taken under it
	left    bool
	ended   bool          // by the client, or the network
	gone    chan struct{} // closed when left is set
	refused bool          // the client was told by GOAWAY what it did wrong
	streams map[uint32]*guarded
	last    uint32    // the highest stream of the client
	begun   int       // streams in the present Read
	talk    allowance // frames that bring nothing
	cancels allowance
	fails   allowance    // calls answered by a status alone
	half    atomic.Int64 // changed under mu
	initial int64        // window of a stream
	window  int64        // of the connection
	since   time.Time    // when it was shut
	looking bool         // look is to run
	look    *time.Timer
	isSlow  bool
	setting [6]byte // of SETTINGS, or of WINDOW_UPDATE
	have    int     // bytes of setting
	pad     int     // bytes of padding that end the present DATA; -1 before that is known
	content int     // bytes of the present DATA before its padding
	code    uint32  // of the present GOAWAY or RST_STREAM
	err     error   // what the reader is to be told
}

// guarded is a stream of a guard that has not ended.
type guarded struct {
	prefix [grpcPrefixBytes]byte
	have   int       // bytes of prefix
	left   uint32    // bytes of the message
	held   int       // bytes of what has come of it, and of its pieces
	window int64     // that the client gives
	since  time.Time // when that was shut
	told   bool      // there was DATA of an answer
}

func newGuard(conn, raw net.Conn, d *door, from string) *guard {
	g := &guard{
		began: time.Now(), Conn: conn, door: d, from: from, raw: raw, in: frames{skip: len(http2.ClientPreface)}, turn: turn, streams: map[uint32]*guarded{},
		talk: newAllowance(idleTalk, idleTalkPerSecond), cancels: newAllowance(cancels, cancelsPerSecond), fails: newAllowance(failures, failuresPerSecond),
		initial: initialWindow, window: initialWindow, gone: make(chan struct{}),
	}
	g.look = time.AfterFunc(d.limits.SendTime, g.lookAtWindows)
	g.look.Stop()
	return g
}

// slow closes the connection of a client that does not read.
func (g *guard) slow() {
	g.mu.Lock()
	first := !g.left && !g.isSlow
	g.isSlow = true
	g.mu.Unlock()
	if first {
		g.door.slow.Add(1)
		_ = g.raw.Close() // what is under way on it then fails
	}
}

func (g *guard) Read(b []byte) (int, error) {
	if !g.unheard.IsZero() {
		g.ignore(time.Until(g.unheard))
		g.unheard = time.Time{}
	}
	n, err := g.Conn.Read(b[:min(len(b), g.turn)])
	g.mu.Lock()
	g.in.read(b[:n], g.asked, g.payload)
	g.ended = g.ended || err != nil
	over, refused, calls, owed := g.err, g.refused, g.begun, g.fails.owed()
	g.begun = 0
	g.mu.Unlock()
	if n == 0 {
		return n, err
	}
	if refused || errors.Is(over, errIdleTalk) {
		g.ignore(refusedTime)
		return 0, cmp.Or(over, net.ErrClosed)
	}
	if over != nil {
		return 0, over
	}
	g.door.spare()
	if g.half.Load() > MaxMessageBytes { // more than any message has
		owed = max(owed, aside)
	}
	if owed > 0 {
		g.ignore(owed)
	}
	if calls >= manyCalls {
		g.turn = callTurn
	} else if calls == 0 {
		g.turn = turn
	}
	if g.unyielding += n; g.unyielding >= g.turn {
		g.unyielding = 0
		runtime.Gosched()
	}
	return n, err
}

// ignore does not hear the client for a while.
func (g *guard) ignore(d time.Duration) {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-g.gone:
	case <-late.C:
	}
}

func (g *guard) Write(b []byte) (int, error) {
	// Before it is sent: who has an answer is not to find its stream still counted.
	g.mu.Lock()
	g.out.read(b, g.answered, g.answer)
	g.mu.Unlock()
	return g.Conn.Write(b)
}

func (g *guard) Close() error {
	g.leave(nil)
	return g.Conn.Close()
}

// leave has the client counted no more. What it goes on to say is answered by err.
func (g *guard) leave(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left {
		return
	}
	// Who is closed at once did not speak HTTP/2.
	if err != nil || g.last == 0 && !g.ended && time.Since(g.began) < refusedTime {
		g.door.disgrace(g.from)
	}
	g.left, g.err = true, err
	close(g.gone)
	g.look.Stop()
	for id := range g.streams {
		g.endLocked(id)
	}
	g.door.leave(g)
}

// SyscallConn lets gRPC set options of the socket.
func (g *guard) SyscallConn() (syscall.RawConn, error) {
	if s, ok := g.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// asked is called with each header of a frame of the client, under mu.
func (g *guard) asked(f frameHeader) {
	g.have, g.pad, g.content = 0, 0, int(f.length)
	switch f.kind {
	case frameHeaders:
		if f.stream > g.last && !g.left {
			g.last = f.stream
			g.begun++
			g.streams[f.stream] = &guarded{window: g.initial}
			g.door.count(g.from, 1)
			g.shutLocked(g.streams[f.stream], 1)
		}
	case frameData:
		if f.flags&flagPadded != 0 {
			g.pad = -1
		}
		if f.length == 0 && f.flags&flagEndStream == 0 {
			g.talkLocked(1)
		}
		if s := g.streams[f.stream]; s != nil && f.length > 0 {
			s.held += pieceBytes
			g.halfLocked(pieceBytes)
		} else if s == nil && f.stream > g.last {
			g.talkLocked(1)
		} else if s == nil {
			g.talkLocked(afterEnd)
		}
	case frameReset:
		if g.streams[f.stream] == nil {
			g.talkLocked(1)
		} else if !g.cancels.take(1) {
			g.abuseLocked()
		}
		g.endLocked(f.stream)
	default:
		g.talkLocked(1)
	}
}

// talkLocked counts a frame that brings nothing.
func (g *guard) talkLocked(cost float64) {
	if !g.talk.take(cost) {
		g.abuseLocked()
	}
}

// abuseLocked has the next Read end the connection.
func (g *guard) abuseLocked() {
	if g.err == nil {
		g.err = errIdleTalk
		g.door.abusive.Add(1)
		g.door.disgrace(g.from)
	}
}

// An allowance is how often something may be done: so many times at once, and so many
// more each second.
type allowance struct {
	most, perSecond, left float64
	at                    time.Time // when time was last counted
}

func newAllowance(most, perSecond float64) allowance {
	return allowance{most: most, perSecond: perSecond, left: most, at: time.Now()}
}

// take reports whether it may be done cost times more. The clock is read where nothing
// is left.
func (a *allowance) take(cost float64) bool {
	if a.left < cost {
		a.refill()
	}
	if a.left < cost {
		return false
	}
	a.left -= cost
	return true
}

// owed is for how long nothing is left, where more was taken than there was.
func (a *allowance) owed() time.Duration {
	if a.left >= 0 {
		return 0
	}
	a.refill()
	return time.Duration(-min(a.left, 0) / a.perSecond * float64(time.Second))
}

// full reports whether there is as much as there may be.
func (a *allowance) full() bool {
	a.refill()
	return a.left == a.most
}

func (a *allowance) refill() {
	now := time.Now()
	a.add(now.Sub(a.at).Seconds() * a.perSecond)
	a.at = now
}

func (a *allowance) add(n float64) { a.left = min(a.most, a.left+n) }

// payload is called with each part of a payload of the client, and with nil at its
// end, under mu.
func (g *guard) payload(f frameHeader, part []byte) {
	switch f.kind {
	case frameData:
		g.dataLocked(f, part)
	case frameSettings:
		for f.flags&flagAck == 0 && len(part) > 0 {
			n := copy(g.setting[g.have:], part)
			part = part[n:]
			if g.have += n; g.have == len(g.setting) {
				g.have = 0
				g.setLocked(binary.BigEndian.Uint16(g.setting[:]), binary.BigEndian.Uint32(g.setting[2:]))
			}
		}
	case frameWindowUpdate:
		if g.have < 4 {
			g.have += copy(g.setting[g.have:4], part)
		}
		if part == nil && g.have == 4 {
			g.openLocked(f.stream, int64(binary.BigEndian.Uint32(g.setting[:])&(1<<31-1)))
		}
	}
}

// dataLocked follows the messages of a stream through a part of DATA.
func (g *guard) dataLocked(f frameHeader, part []byte) {
	s := g.streams[f.stream]
	if s == nil {
		return
	}
	if part == nil && f.length < crumb && s.held > pieceBytes && f.flags&flagEndStream == 0 {
		g.talkLocked(1)
	}
	if g.pad < 0 && len(part) > 0 {
		g.pad = int(part[0])
		g.content = int(f.length) - 1 - g.pad
		part = part[1:]
	}
	part = part[:max(0, min(len(part), g.content))]
	g.content -= len(part)
	for len(part) > 0 {
		if s.have < grpcPrefixBytes {
			n := copy(s.prefix[s.have:], part)
			s.have += n
			part = part[n:]
			s.left = binary.BigEndian.Uint32(s.prefix[1:])
		} else {
			n := min(s.left, uint32(len(part)))
			part = part[n:]
			s.left -= n
			s.held += int(n)
			g.halfLocked(int(n))
		}
		if s.have == grpcPrefixBytes && s.left == 0 {
			g.halfLocked(-s.held)
			s.have, s.held = 0, 0
		}
	}
}

// halfLocked changes how much of messages is here whose end is not.
func (g *guard) halfLocked(by int) {
	g.half.Add(int64(by))
	g.door.half.Add(int64(by))
}

func (g *guard) setLocked(id uint16, value uint32) {
	if id != settingInitialWindow {
		return
	}
	change := int64(value) - g.initial
	g.initial = int64(value)
	for _, s := range g.streams {
		s.window += change
		g.shutLocked(s, s.window-change)
	}
}

// openLocked notes that the client takes more on a stream, or on the connection for 0.
func (g *guard) openLocked(stream uint32, more int64) {
	if stream == 0 {
		g.window += more
	} else if s := g.streams[stream]; s != nil {
		s.window += more
	}
}

// shutLocked notes that the window of a stream was another before.
func (g *guard) shutLocked(s *guarded, before int64) {
	if before > 0 && s.window <= 0 {
		s.since = time.Now()
		g.lookLocked()
	}
}

// lookLocked has lookAtWindows run, as long as it takes a window to be shut for too
// long.
func (g *guard) lookLocked() {
	if !g.looking && !g.left {
		g.looking = true
		g.look.Reset(g.door.limits.SendTime)
	}
}

// lookAtWindows closes the connection of a client that has kept a window shut for too
// long: calls without streams have their answers wait for it, though they have
// returned.
func (g *guard) lookAtWindows() {
	if g.stuck() {
		g.slow()
	}
}

// stuck reports whether a window was shut for too long. Else it looks again, where one
// is shut.
func (g *guard) stuck() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looking = false
	if g.left {
		return false
	}
	var oldest time.Time
	for _, s := range g.streams {
		if s.window <= 0 && (oldest.IsZero() || s.since.Before(oldest)) {
			oldest = s.since
		}
	}
	if g.window <= 0 && len(g.streams) > 0 && (oldest.IsZero() || g.since.Before(oldest)) {
		oldest = g.since
	}
	if oldest.IsZero() {
		return false
	}
	left := time.Until(oldest.Add(g.door.limits.SendTime))
	if left > 0 {
		g.looking = true
		g.look.Reset(left)
	}
	return left <= 0
}

// answered is called with each header of a frame to the client, under mu.
func (g *guard) answered(f frameHeader) {
	switch f.kind {
	case frameData, frameHeaders:
		g.talk.add(talkPerAnswer)
		s := g.streams[f.stream]
		if f.kind == frameData {
			g.window -= int64(f.length)
			if g.window <= 0 && f.length > 0 {
				g.since = time.Now()
				g.lookLocked()
			}
			if s != nil {
				s.told = true
				s.window -= int64(f.length)
				g.shutLocked(s, s.window+int64(f.length))
			}
		}
		if f.flags&flagEndStream != 0 {
			if s != nil && !s.told {
				g.fails.left--
			}
			g.endLocked(f.stream)
		}
	case frameReset:
		g.endLocked(f.stream)
	case frameSettings, framePing:
		if f.flags&flagAck == 0 { // which the client has to acknowledge
			g.talk.add(1)
		}
	}
}

// answer is called with each part of a payload to the client, under mu.
func (g *guard) answer(f frameHeader, part []byte) {
	before := uint32(0) // the code
	switch f.kind {
	case frameGoAway:
		before = 4 // the last stream
	case frameReset:
	default:
		return
	}
	if f.length == g.out.left { // its begin
		g.code = 0
	}
	for i, b := range part {
		if at := f.length - g.out.left + uint32(i); before <= at && at < before+4 {
			g.code = g.code<<8 | uint32(b)
		}
	}
	switch {
	case part != nil:
	case f.kind == frameGoAway && g.code != 0:
		g.refused = true
		g.door.disgrace(g.from)
	case f.kind == frameReset && isFault(http2.ErrCode(g.code)):
		g.talkLocked(perFault)
		g.door.disgrace(g.from)
	}
}

// isFault reports whether a stream was reset for what the client did wrong in it.
func isFault(code http2.ErrCode) bool {
	switch code {
	case http2.ErrCodeProtocol, http2.ErrCodeFlowControl, http2.ErrCodeStreamClosed, http2.ErrCodeFrameSize:
		return true
	}
	return false
}

// endLocked forgets a stream.
func (g *guard) endLocked(id uint32) {
	s := g.streams[id]
	if s == nil {
		return
	}
	delete(g.streams, id)
	g.halfLocked(-s.held)
	g.door.count(g.from, -1)
}
