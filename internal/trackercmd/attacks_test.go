package trackercmd_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// An attack is what a client with a good certificate does to a tracker that it should
// not. run goes on while more says so.
type attack struct {
	name string
	// raw is without the preface of HTTP/2.
	raw     bool
	run     func(w *wire, more func() bool) error
	dropped bool   // the tracker closes the connection; else it lives
	ends    string // how the last stream ends, where that matters
}

const (
	getProxies = pb.NodeTracker_GetProxies_FullMethodName
	find       = pb.NodeTracker_Find_FullMethodName
	session    = pb.NodeTracker_Session_FullMethodName
)

// encoded is a message of gRPC that is as it should be.
func encoded(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // none of these can fail
	}
	return whole(b)
}

// each is an attack that repeats one thing, by its number.
func each(one func(w *wire, i uint32) error) func(*wire, func() bool) error {
	return func(w *wire, more func() bool) error {
		for i := uint32(0); more(); i++ {
			if err := one(w, i); err != nil {
				return err
			}
		}
		return w.flush()
	}
}

// once is an attack that says one thing.
func once(one func(w *wire) error) func(*wire, func() bool) error {
	return func(w *wire, _ func() bool) error { return one(w) }
}

// frames repeats one frame.
func frames(one func(f *http2.Framer, i uint32) error) func(*wire, func() bool) error {
	return each(func(w *wire, i uint32) error { return w.write(func(f *http2.Framer) error { return one(f, i) }) })
}

// calls repeats one call. Each ends before the one after the next hundred begins.
func calls(method string, content func() []byte, more ...hpack.HeaderField) func(*wire, func() bool) error {
	return each(func(w *wire, i uint32) error {
		stream, err := w.call(method, content(), true, more...)
		if err == nil && i%100 == 99 {
			_, err = w.ended(stream)
		}
		return err
	})
}

// bomb is 4 GiB of zeros, of which the first part is at hand.
func bomb() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(make([]byte, 16<<20)); err != nil {
		panic(err) // a buffer takes all
	}
	return message(1, b.Len(), b.Bytes())
}

// expanding are headers of n fields, of which each but the first is one byte on the
// wire.
func expanding(n, size int) []hpack.HeaderField {
	list := fields(getProxies)
	for range n {
		list = append(list, hpack.HeaderField{Name: "x", Value: strings.Repeat("x", size)})
	}
	return list
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// attacks are quick: what they do shows at once.
func attacks() []attack {
	zeros := bomb()
	ask := encoded(&pb.GetProxiesRequest{NodeId: "n"})
	answered := func(b []byte) func() []byte { return func() []byte { return b } }
	return []attack{
		{name: "noise", raw: true, dropped: true, run: each(func(w *wire, _ uint32) error { return w.raw(noise(1000)) })},
		{name: "HTTP/1.1", raw: true, dropped: true, run: once(func(w *wire) error { return w.raw([]byte("GET / HTTP/1.1\r\nHost: tracker\r\n\r\n")) })},
		{name: "no settings first", raw: true, dropped: true, run: once(func(w *wire) error {
			return w.raw(append([]byte(http2.ClientPreface), 0, 0, 8, byte(http2.FramePing), 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8))
		})},
		{name: "noise for frames", dropped: true, run: each(func(w *wire, _ uint32) error { return w.raw(noise(1000)) })},
		{name: "an oversized frame", dropped: true, run: once(func(w *wire) error {
			return w.write(func(f *http2.Framer) error { return f.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20)) })
		})},
		{name: "a header list of 100,000 fields", dropped: true, run: once(func(w *wire) error {
			_, err := w.headers(expanding(100_000, 0))
			return err
		})},
		{name: "header lists of 32 KiB", dropped: true, run: each(func(w *wire, i uint32) error {
			stream, err := w.headers(expanding(8, 4000))
			if err == nil && i%100 == 99 {
				_, err = w.ended(stream)
			}
			return err
		})},
		{name: "CONTINUATION without end", dropped: true, run: func(w *wire, more func() bool) error {
			block := w.encodeLocked(fields(getProxies))
			err := w.write(func(f *http2.Framer) error {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
			})
			if err != nil {
				return err
			}
			block = bytes.Repeat([]byte{0, 1, 'x', 1, 'x'}, 200)
			return frames(func(f *http2.Framer, _ uint32) error { return f.WriteContinuation(1, false, block) })(w, more)
		}},
		{name: "empty CONTINUATION without end", dropped: true, run: func(w *wire, more func() bool) error {
			err := w.write(func(f *http2.Framer) error { return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1}) })
			if err != nil {
				return err
			}
			return frames(func(f *http2.Framer, _ uint32) error { return f.WriteContinuation(1, false, nil) })(w, more)
		}},
		{name: "CONTINUATION of nothing", dropped: true, run: frames(func(f *http2.Framer, _ uint32) error { return f.WriteContinuation(1, true, nil) })},
		{name: "streams with even numbers", dropped: true, run: each(func(w *wire, _ uint32) error {
			block := w.encodeLocked(fields(getProxies))
			return w.write(func(f *http2.Framer) error {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2, BlockFragment: block, EndHeaders: true})
			})
		})},
		{name: "streams from the last to the first", dropped: true, run: each(func(w *wire, i uint32) error {
			block := w.encodeLocked(fields(getProxies))
			return w.write(func(f *http2.Framer) error {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: math.MaxInt32 - 2*i, BlockFragment: block, EndHeaders: true})
			})
		})},
		{name: "PUSH_PROMISE", dropped: true, run: frames(func(f *http2.Framer, i uint32) error {
			return f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2 + 2*i, EndHeaders: true})
		})},
		{name: "SETTINGS flood", dropped: true, run: frames(func(f *http2.Framer, i uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: i % 4096}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: i})
		})},
		{name: "PING flood", dropped: true, run: frames(func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{}) })},
		{name: "PING acknowledgements", dropped: true, run: frames(func(f *http2.Framer, _ uint32) error { return f.WritePing(true, [8]byte{2, 4, 16, 16, 9, 14, 7, 7}) })},
		{name: "PRIORITY flood", dropped: true, run: frames(func(f *http2.Framer, i uint32) error {
			return f.WritePriority(1+2*(i%1000), http2.PriorityParam{StreamDep: 3 + 2*i, Weight: 1})
		})},
		{name: "frames of unknown types", dropped: true, run: frames(func(f *http2.Framer, i uint32) error {
			return f.WriteRawFrame(http2.FrameType(32+i%200), 0xff, i, []byte("?"))
		})},
		{name: "GOAWAY flood", dropped: true, run: frames(func(f *http2.Framer, _ uint32) error { return f.WriteGoAway(0, http2.ErrCodeNo, []byte("bye")) })},
		{name: "rapid reset", dropped: true, run: each(func(w *wire, _ uint32) error {
			stream, err := w.headers(fields(find))
			if err != nil {
				return err
			}
			return w.write(func(f *http2.Framer) error { return f.WriteRSTStream(stream, http2.ErrCodeCancel) })
		})},
		{name: "RST_STREAM of idle streams", dropped: true, run: frames(func(f *http2.Framer, i uint32) error { return f.WriteRSTStream(1+2*i, http2.ErrCodeCancel) })},
		{name: "WINDOW_UPDATE of 0", dropped: true, run: frames(func(f *http2.Framer, _ uint32) error { return f.WriteWindowUpdate(0, 0) })},
		{name: "WINDOW_UPDATE of 0 of a stream", ends: "reset PROTOCOL_ERROR", run: once(func(w *wire) error {
			stream, err := w.headers(fields(find))
			if err != nil {
				return err
			}
			return w.write(func(f *http2.Framer) error { return f.WriteWindowUpdate(stream, 0) })
		})},
		{name: "WINDOW_UPDATE overflow", dropped: true, run: func(w *wire, more func() bool) error {
			if _, err := w.call(find, nil, false); err != nil {
				return err
			}
			return frames(func(f *http2.Framer, i uint32) error { return f.WriteWindowUpdate(i%2, math.MaxInt32) })(w, more)
		}},
		{name: "DATA of an idle stream", dropped: true, run: frames(func(f *http2.Framer, _ uint32) error { return f.WriteData(99, false, ask) })},
		{name: "DATA after the end", ends: "reset STREAM_CLOSED", run: once(func(w *wire) error {
			stream, err := w.call(find, nil, true)
			if err != nil {
				return err
			}
			return w.data(stream, ask, true)
		})},
		{name: "DATA past the window", run: once(func(w *wire) error {
			_, err := w.call(getProxies, message(0, 4<<20, make([]byte, 16<<20)), false)
			return err
		})},
		{name: "empty DATA", dropped: true, run: func(w *wire, more func() bool) error {
			stream, err := w.headers(fields(find))
			if err != nil {
				return err
			}
			return frames(func(f *http2.Framer, _ uint32) error { return f.WriteData(stream, false, nil) })(w, more)
		}},
		{name: "a message cut off", ends: "status 13", run: calls(getProxies, answered(message(0, 1000, ask)))},
		{name: "a prefix cut off", ends: "status 13", run: calls(getProxies, answered(ask[:3]))},
		{name: "no message", ends: "status 13", run: calls(getProxies, answered(nil))},
		{name: "messages past the limit", ends: noRoom, run: calls(getProxies, answered(message(0, 4<<20+1, nil)))},
		{name: "messages of 4 GiB", ends: noRoom, run: calls(getProxies, answered(message(0, math.MaxUint32, nil)))},
		{name: "compressed without an encoding", ends: "status 13", run: calls(getProxies, answered(zeros))},
		{name: "compression bombs", ends: "status 13", run: calls(getProxies, answered(zeros), hpack.HeaderField{Name: "grpc-encoding", Value: "gzip"})},
		{name: "a flag of no meaning", ends: "status 13", run: calls(getProxies, answered(message(7, 0, nil)))},
		{name: "noise for messages", ends: "status 3", run: calls(getProxies, func() []byte { return whole(append([]byte{0xff}, noise(200)...)) })},
		{name: "messages of another method", ends: "status 3", run: calls(getProxies, answered(encoded(&pb.FindRequest{View: 1})))},
		{name: "noise in a session", ends: "status 3", run: calls(session, func() []byte { return whole(append([]byte{0xff}, noise(200)...)) })},
		{name: "an empty session", ends: "status 3", run: calls(session, answered(encoded(&pb.ProxyFrame{})))},
		{name: "unknown methods", ends: "status 12", run: calls("/trackerpool.v1.NodeTracker/Own", answered(ask))},
		{name: "unknown services", ends: "status 12", run: calls("/"+strings.Repeat("x", 1000)+"/y", answered(ask))},
		{name: "no path", ends: "status 12", run: calls("", answered(ask))},
		{name: "others' methods", ends: "status 7", run: calls(pb.Peering_Store_FullMethodName, answered(encoded(&pb.StoreRequest{})))},
		{name: "timeouts of nothing", ends: "status 4", run: calls(getProxies, answered(ask), hpack.HeaderField{Name: "grpc-timeout", Value: "0n"})},
		{name: "bad metadata", ends: "status 13", run: calls(getProxies, answered(ask), hpack.HeaderField{Name: "x-bin", Value: "*"})},
		{name: "honest calls, as fast as they are answered", ends: "status 0", run: calls(getProxies, answered(ask))},
		// Each of a thousand streams is within all limits.
		{name: "messages that never end", dropped: true, run: each(func(w *wire, i uint32) error {
			if i >= 200 {
				return fmt.Errorf("%d streams have 4 MiB each", i)
			}
			return w.half()
		})},
		{name: "messages that never end, by the byte", dropped: true, run: each(func(w *wire, i uint32) error {
			stream, err := w.call(getProxies, message(0, 4<<20, nil), false)
			for range 20_000 {
				if err == nil {
					err = w.write(func(f *http2.Framer) error { return f.WriteData(stream, false, []byte{0}) })
				}
			}
			return err
		})},
	}
}

// half sends a message of 4 MiB but for its last byte, as far as the tracker lets it.
func (w *wire) half() error {
	stream, err := w.call(getProxies, message(0, 4<<20, nil), false)
	if err != nil {
		return err
	}
	// It gives the message's window when it has seen the length.
	if err := w.until(func() bool { return w.opened[stream] >= 4<<20 }); err != nil {
		return err
	}
	return w.data(stream, make([]byte, 4<<20-1), false)
}
