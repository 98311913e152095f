package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
)

// A script is what a client sends, and a connection that says it.
type script struct {
	net.Conn
	bytes.Buffer
	*http2.Framer
	closed atomic.Bool
}

func newScript() *script {
	s := new(script)
	s.Framer = http2.NewFramer(&s.Buffer, nil)
	s.AllowIllegalWrites = true
	s.WriteString(http2.ClientPreface)
	return s
}

func (s *script) Read(b []byte) (int, error)  { return s.Buffer.Read(b) }
func (s *script) Write(b []byte) (int, error) { return len(b), nil }
func (s *script) Close() error                { s.closed.Store(true); return nil }
func (s *script) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

// said has the guard read all that was written.
func (s *script) said(g *guard) error {
	_, err := io.Copy(io.Discard, struct{ io.Reader }{g})
	return err
}

// open begins streams, from 1.
func (s *script) open(streams ...uint32) {
	for _, id := range streams {
		must(s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: []byte("x")}))
	}
}

func must(err error) {
	if err != nil {
		panic(err) // a buffer takes all
	}
}

// tells has the guard see frames to the client.
func tells(g *guard, frames func(*http2.Framer)) {
	var b bytes.Buffer
	frames(http2.NewFramer(&b, nil))
	if _, err := g.Write(b.Bytes()); err != nil {
		panic(err)
	}
}

func guarding(l Limits, from ...string) (*door, []*guard, []*script) {
	d := newDoor(Insecure(), l.withDefaults(), nil)
	var guards []*guard
	var scripts []*script
	for _, f := range from {
		s := newScript()
		g := newGuard(s, s, d, f)
		d.open++
		change(d.conns, f, 1)
		d.guards[g] = struct{}{}
		guards, scripts = append(guards, g), append(scripts, s)
	}
	return d, guards, scripts
}

func TestIdleTalk(t *testing.T) {
	answer := func(f *http2.Framer) { must(f.WriteData(1, false, nil)) }
	ping := func(s *script) { must(s.WritePing(false, [8]byte{})) }
	for name, test := range map[string]struct {
		say  func(*script)
		most int
		more int // that answers and a second allow
	}{
		"pings":             {ping, idleTalk, talkPerAnswer + idleTalkPerSecond},
		"settings":          {func(s *script) { must(s.WriteSettings()) }, idleTalk, talkPerAnswer + idleTalkPerSecond},
		"empty data":        {func(s *script) { must(s.WriteData(1, false, nil)) }, idleTalk, talkPerAnswer + idleTalkPerSecond},
		"data of no stream": {func(s *script) { must(s.WriteData(3, false, []byte("x"))) }, idleTalk, talkPerAnswer + idleTalkPerSecond},
		"data after the end": {func(s *script) {
			for range 8 {
				must(s.WriteData(0, false, []byte("x")))
			}
		}, idleTalk, talkPerAnswer + idleTalkPerSecond},
		"continuations":         {func(s *script) { must(s.WriteContinuation(1, false, nil)) }, idleTalk, talkPerAnswer + idleTalkPerSecond},
		"unknown frames":        {func(s *script) { must(s.WriteRawFrame(77, 0, 1, []byte("x"))) }, idleTalk, talkPerAnswer + idleTalkPerSecond},
		"resets of no stream":   {func(s *script) { must(s.WriteRSTStream(3, 0)) }, idleTalk, talkPerAnswer + idleTalkPerSecond},
		"windows":               {func(s *script) { must(s.WriteWindowUpdate(0, 1)) }, idleTalk, talkPerAnswer + idleTalkPerSecond},
		"resets of other calls": {nil, cancels, cancelsPerSecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, guards, scripts := guarding(Limits{}, "")
				g, s := guards[0], scripts[0]
				s.open(1)
				next := uint32(1)
				say := test.say
				if say == nil {
					say = func(s *script) {
						next += 2
						s.open(next)
						must(s.WriteRSTStream(next, http2.ErrCodeCancel))
					}
				}
				for range test.most {
					say(s)
				}
				if err := s.said(g); err != nil {
					t.Fatalf("%d of them: %v", test.most, err)
				}
				tells(g, answer)
				time.Sleep(time.Second)
				for range test.more {
					say(s)
				}
				if err := s.said(g); err != nil {
					t.Fatalf("%d more: %v", test.more, err)
				}
				say(s)
				began := time.Now()
				if err := s.said(g); !errors.Is(err, errIdleTalk) {
					t.Errorf("one more: %v, want errIdleTalk", err)
				}
				if held := time.Since(began); held != refusedTime {
					t.Errorf("it may come back after %v, want %v", held, refusedTime)
				}
				if n := d.abusive.Load(); n != 1 {
					t.Errorf("%d connections were counted as abusive", n)
				}
				must(g.Close())
			})
		})
	}
}

// A client may keep its windows shut for so long, and not for longer while something
// waits for them.
func TestShutWindows(t *testing.T) {
	const most = 10 * time.Second
	shut := func(s *script) { must(s.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})) }
	for name, test := range map[string]struct {
		say   func(*script, *guard)
		later func(*script, *guard) // just before the time is over
		slow  time.Duration         // when the connection is closed, or 0
	}{
		"a stream that may not be answered": {say: func(s *script, _ *guard) { shut(s); s.open(1) }, slow: most},
		"shut after it was opened":          {say: func(s *script, _ *guard) { s.open(1); shut(s) }, slow: most},
		"nothing asked":                     {say: func(s *script, _ *guard) { shut(s) }},
		"the stream's used up": {say: func(s *script, g *guard) {
			s.open(1)
			must(s.said(g))
			tells(g, func(f *http2.Framer) { must(f.WriteData(1, false, make([]byte, initialWindow))) })
			must(s.WriteWindowUpdate(0, 1))
		}, slow: most},
		"one byte is left": {say: func(s *script, g *guard) {
			s.open(1)
			must(s.said(g))
			tells(g, func(f *http2.Framer) { must(f.WriteData(1, false, make([]byte, initialWindow-1))) })
		}},
		"the connection's used up": {say: func(s *script, g *guard) {
			s.open(1, 3)
			must(s.said(g))
			tells(g, func(f *http2.Framer) {
				must(f.WriteData(1, true, make([]byte, initialWindow)))
			})
		}, slow: most},
		"opened in time": {
			say:   func(s *script, _ *guard) { shut(s); s.open(1) },
			later: func(s *script, _ *guard) { must(s.WriteWindowUpdate(1, 5)) },
		},
		"another one opened": {
			say:   func(s *script, _ *guard) { shut(s); s.open(1, 3) },
			later: func(s *script, _ *guard) { must(s.WriteWindowUpdate(3, 5)) },
			slow:  most,
		},
		"ended in time": {
			say: func(s *script, _ *guard) { shut(s); s.open(1) },
			later: func(_ *script, g *guard) {
				tells(g, func(f *http2.Framer) {
					must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true}))
				})
			},
		},
		"opened, and shut again": {
			say: func(s *script, _ *guard) { shut(s); s.open(1) },
			later: func(s *script, g *guard) {
				must(s.WriteWindowUpdate(1, 5))
				must(s.said(g))
				tells(g, func(f *http2.Framer) { must(f.WriteData(1, false, []byte("12345"))) })
			},
			slow: 2*most - time.Nanosecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, guards, scripts := guarding(Limits{SendTime: most}, "")
				g, s := guards[0], scripts[0]
				began := time.Now()
				test.say(s, g)
				must(s.said(g))
				time.Sleep(most - time.Nanosecond)
				if test.later != nil {
					test.later(s, g)
					must(s.said(g))
				}
				synctest.Wait()
				if s.closed.Load() {
					t.Fatal("closed before its time")
				}
				if test.slow > 0 {
					time.Sleep(time.Until(began.Add(test.slow)))
				} else {
					time.Sleep(3 * most)
				}
				synctest.Wait()
				if s.closed.Load() != (test.slow > 0) {
					t.Errorf("closed after %v: %v", time.Since(began), s.closed.Load())
				}
				if slow := d.slow.Load(); (slow == 1) != s.closed.Load() {
					t.Errorf("%d were counted as slow", slow)
				}
				must(g.Close())
			})
		})
	}
}

// What is counted of messages whose end has not come.
func TestUnfinishedIsCounted(t *testing.T) {
	d, guards, scripts := guarding(Limits{CallsPerIdentity: 10}, "a")
	g, s := guards[0], scripts[0]
	half := func(name string, want int64) {
		t.Helper()
		must(s.said(g))
		if got := d.half.Load(); got != want || g.half.Load() != want {
			t.Errorf("%s: %d at the door and %d at the connection, want %d", name, got, g.half.Load(), want)
		}
	}
	s.open(1, 3)
	half("streams", 0)
	must(s.WriteData(1, false, []byte{0, 0, 0}))
	half("a part of a prefix", pieceBytes)
	must(s.WriteData(1, false, []byte{0, 10, 1, 2, 3}))
	half("three bytes of ten", 2*pieceBytes+3)
	must(s.WriteDataPadded(1, false, []byte{4, 5}, make([]byte, 200)))
	half("two more, and padding", 3*pieceBytes+5)
	must(s.WriteData(3, false, []byte{0, 0, 0, 1, 0, 9}))
	half("another stream", 4*pieceBytes+6)
	must(s.WriteData(1, false, []byte{6, 7, 8, 9, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1}))
	half("the end, an empty message, and one of two", pieceBytes+1+1)
	must(s.WriteRSTStream(3, http2.ErrCodeCancel))
	half("a stream reset", 1)
	tells(g, func(f *http2.Framer) { must(f.WriteRSTStream(1, http2.ErrCodeNo)) })
	half("the other reset by the server", 0)
	s.open(5)
	must(s.WriteData(5, false, []byte{0, 0, 0, 1, 0, 9}))
	half("one more", pieceBytes+1)
	must(g.Close())
	half("the connection closed", 0)
	if diff := cmp.Diff([]int{0, 0, 0, 0}, []int{d.open, len(d.conns), len(d.calls), len(d.guards)}); diff != "" {
		t.Errorf("left at the door (-want +got):\n%s", diff)
	}
}

// Where there is no room for more of messages without an end, the greediest has to go,
// and nobody else.
func TestGreediestGoes(t *testing.T) {
	d, guards, scripts := guarding(Limits{UnfinishedBytes: 10_000}, "honest", "evil", "evil", "evil")
	half := func(i, n int) error {
		s := scripts[i]
		s.open(1)
		must(s.WriteData(1, false, append([]byte{0, 0, 1, 0, 0}, make([]byte, n-pieceBytes)...)))
		return s.said(guards[i])
	}
	for i, n := range []int{4000, 2000, 2500, 1500} {
		must(half(i, n))
	}
	if slices.ContainsFunc(scripts, func(s *script) bool { return s.closed.Load() }) {
		t.Fatal("at the limit somebody was closed")
	}
	s := scripts[0]
	must(s.WriteData(1, false, []byte{1}))
	must(s.said(guards[0]))
	var closed []bool
	for _, s := range scripts {
		closed = append(closed, s.closed.Load())
	}
	if diff := cmp.Diff([]bool{false, false, true, false}, closed); diff != "" {
		t.Errorf("past the limit were closed (-want +got):\n%s", diff)
	}
	if n := d.abusive.Load(); n != 1 {
		t.Errorf("%d were counted as abusive", n)
	}
}

// A client that was told to go away is not heard any more.
func TestRefusedIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, guards, scripts := guarding(Limits{}, "")
		g, s := guards[0], scripts[0]
		tells(g, func(f *http2.Framer) { must(f.WriteGoAway(1<<31-1, http2.ErrCodeNo, []byte("by and by"))) })
		s.open(1)
		if err := s.said(g); err != nil || len(g.streams) != 1 {
			t.Fatalf("after a GOAWAY without fault: %v, %d streams", err, len(g.streams))
		}
		tells(g, func(f *http2.Framer) { must(f.WriteGoAway(1, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings"))) })
		heard := make(chan error)
		must(s.WritePing(false, [8]byte{}))
		go func() { heard <- s.said(g) }()
		synctest.Wait()
		select {
		case err := <-heard:
			t.Errorf("its ping was read: %v", err)
		default:
		}
		must(g.Close())
		if err := <-heard; !errors.Is(err, net.ErrClosed) {
			t.Errorf("when it is closed: %v", err)
		}
	})
}

// A client whose calls fail is read from as slowly as they may.
func TestFailures(t *testing.T) {
	status := func(f *http2.Framer, stream uint32) {
		must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, EndStream: true, BlockFragment: []byte("x")}))
	}
	for name, test := range map[string]struct {
		answer  func(f *http2.Framer, stream uint32)
		calls   int
		delayed time.Duration
	}{
		"as many as may be": {status, failures, 0},
		"more":              {status, failures + failuresPerSecond/2, time.Second / 2},
		"answers": {func(f *http2.Framer, stream uint32) {
			must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, BlockFragment: []byte("x")}))
			must(f.WriteData(stream, false, []byte("answer")))
			status(f, stream)
		}, 10 * failures, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, guards, scripts := guarding(Limits{}, "")
				g, s := guards[0], scripts[0]
				for i := range test.calls {
					s.open(1 + 2*uint32(i))
				}
				must(s.said(g))
				tells(g, func(f *http2.Framer) {
					for i := range test.calls {
						test.answer(f, 1+2*uint32(i))
					}
				})
				began := time.Now()
				s.open(1 << 20)
				must(s.said(g))
				if took := time.Since(began); took.Round(time.Millisecond) != test.delayed {
					t.Errorf("the next call was read after %v, want %v", took, test.delayed)
				}
				must(g.Close())
			})
		})
	}
}

// Streams that are reset for what the client did in them end its connection, if they are
// many; others do not.
func TestFaults(t *testing.T) {
	const most = idleTalk / perFault
	for code, want := range map[http2.ErrCode]error{http2.ErrCodeFrameSize: errIdleTalk, http2.ErrCodeRefusedStream: nil, http2.ErrCodeNo: nil} {
		synctest.Test(t, func(t *testing.T) {
			_, guards, scripts := guarding(Limits{}, "")
			g, s := guards[0], scripts[0]
			resets := func(n int) error {
				tells(g, func(f *http2.Framer) {
					for range n {
						must(f.WriteRSTStream(1, code))
					}
				})
				s.open(1)
				return s.said(g)
			}
			if err := resets(most); err != nil {
				t.Errorf("%d by %v: %v", most, code, err)
			}
			if err := resets(1); !errors.Is(err, want) {
				t.Errorf("one more by %v: %v, want %v", code, err, want)
			}
			must(g.Close())
		})
	}
}

// A message may come in pieces, but not in crumbs.
func TestCrumbs(t *testing.T) {
	for size, want := range map[int]error{1: errIdleTalk, crumb - 1: errIdleTalk, crumb: nil} {
		synctest.Test(t, func(t *testing.T) {
			_, guards, scripts := guarding(Limits{}, "")
			g, s := guards[0], scripts[0]
			s.open(1)
			must(s.WriteData(1, false, []byte{0, 0, 0x40, 0, 0}))
			for range idleTalk {
				must(s.WriteData(1, false, make([]byte, size)))
			}
			if err := s.said(g); err != nil {
				t.Fatalf("%d pieces of %d bytes: %v", idleTalk, size, err)
			}
			must(s.WriteData(1, false, make([]byte, size)))
			if err := s.said(g); !errors.Is(err, want) {
				t.Errorf("one more of %d bytes: %v, want %v", size, err, want)
			}
			must(g.Close())
		})
	}
}

// Who was sent away is not heard for a while when it comes back. Nor is one that comes too
// often, and its handshakes wait. Others are not concerned.
func TestStandings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, guards, scripts := guarding(Limits{}, "evil", "honest", "noise", "brief")
		arrive := func(who string) time.Duration {
			d.mu.Lock()
			defer d.mu.Unlock()
			return max(0, time.Until(d.arrivedLocked(who, scripts[0])))
		}
		delay := func() time.Duration {
			wait, err := d.knock(scripts[0])
			must(err)
			return wait
		}
		guards[0].leave(errHalf)
		guards[1].ended = true
		must(guards[1].Close())
		must(guards[2].Close()) // before it has begun a stream
		scripts[3].open(1)
		must(scripts[3].said(guards[3]))
		must(guards[3].Close())
		for who, want := range map[string]time.Duration{"evil": refusedTime, "honest": 0, "noise": refusedTime, "brief": 0} {
			if got := arrive(who); got != want {
				t.Errorf("%s is heard after %v, want %v", who, got, want)
			}
		}
		again := newGuard(scripts[0], scripts[0], d, "evil")
		again.unheard = time.Now().Add(refusedTime)
		began := time.Now()
		scripts[0].open(1)
		if err := scripts[0].said(again); err != nil || time.Since(began) != refusedTime {
			t.Errorf("evil was heard after %v: %v", time.Since(began), err)
		}
		if got := arrive("evil"); got != 0 {
			t.Errorf("later evil is heard after %v", got)
		}
		must(again.Close())

		for range arrivals {
			if got := arrive("often"); got != 0 {
				t.Fatalf("who comes for the first times is heard after %v", got)
			}
		}
		if delay := delay(); delay > 0 {
			t.Errorf("a handshake waits for %v", delay)
		}
		if heard, delay := arrive("often"), delay(); heard != refusedTime || delay != refusedTime {
			t.Errorf("who comes often is heard after %v, and waits for %v; want %v", heard, delay, refusedTime)
		}
		time.Sleep(refusedTime)
		if heard, delay := arrive("often"), delay(); heard != 0 || delay > 0 {
			t.Errorf("later it is heard after %v, and waits for %v", heard, delay)
		}
		for i := range 2 * manyStandings {
			arrive(fmt.Sprint("one of many ", i))
			time.Sleep(time.Second)
		}
		if n := len(d.standings); n > manyStandings {
			t.Errorf("%d standings are kept", n)
		}
	})
}

// FuzzGuard holds the counts of a guard to what they are of, whatever is said, and
// however it is cut.
func FuzzGuard(f *testing.F) {
	s := newScript()
	must(s.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5}))
	s.open(1, 3)
	must(s.WriteData(1, false, []byte{0, 0, 0, 0, 9, 1}))
	must(s.WriteDataPadded(3, true, []byte{0, 0, 0, 0, 1, 1}, make([]byte, 3)))
	must(s.WriteWindowUpdate(1, 7))
	must(s.WriteRSTStream(3, 0))
	f.Add(s.Bytes()[len(http2.ClientPreface):], []byte{0, 0, 1, 0, 0, 0, 0, 0, 1, 7}, uint8(3))
	f.Fuzz(func(t *testing.T, in, out []byte, cut uint8) {
		var states []any
		for _, size := range []int{1 << 20, 1 + int(cut)} {
			d, guards, scripts := guarding(Limits{}, "a")
			g := guards[0]
			scripts[0].Buffer.Write(in)
			var err error
			for b := make([]byte, size); err == nil; {
				_, err = g.Read(b)
			}
			if !g.refused {
				for part := range slices.Chunk(out, size) {
					_, _ = g.Write(part) // scripts take all
				}
			}
			held := 0
			for id, s := range g.streams {
				if id > g.last || s.held < 0 {
					t.Fatalf("stream %d of %d holds %d", id, g.last, s.held)
				}
				held += s.held
			}
			if int64(held) != g.half.Load() || int64(held) != d.half.Load() || d.calls["a"] != len(g.streams) {
				t.Fatalf("%d held, %d and %d counted; %d streams, %d counted", held, g.half.Load(), d.half.Load(), len(g.streams), d.calls["a"])
			}
			if errors.Is(err, io.EOF) {
				states = append(states, []any{held, len(g.streams), g.last, g.initial, g.window})
			}
			must(g.Close())
			if d.half.Load() != 0 || len(d.calls) != 0 || d.open != 0 {
				t.Fatalf("left at the door: %d bytes, %v calls, %d connections", d.half.Load(), d.calls, d.open)
			}
		}
		if len(states) == 2 {
			if diff := cmp.Diff(states[0], states[1]); diff != "" {
				t.Errorf("cut into parts of %d (-whole +cut):\n%s", 1+int(cut), diff)
			}
		}
	})
}
