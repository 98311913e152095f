package trackercmd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A wire is a connection that says what it likes in HTTP/2. It reads what the tracker
// says, answers its pings and notes how streams end.
type wire struct {
	net.Conn
	done chan struct{} // closed when the tracker has closed the connection

	mu     sync.Mutex // guards the rest
	out    *bufio.Writer
	framer *http2.Framer
	header *hpack.Encoder
	block  bytes.Buffer // of header
	stream uint32       // the last one
	frames int          // written
	acks   int          // of pings
	ends   map[uint32]string
	opened map[uint32]int // by WINDOW_UPDATEs of streams
	grown  chan struct{}  // closed, and made anew, when acks, ends or opened have grown
}

// newWire speaks over conn, to begin with the preface and settings unless it is raw.
func newWire(conn net.Conn, raw bool, settings ...http2.Setting) (*wire, error) {
	w := &wire{Conn: conn, done: make(chan struct{}), out: bufio.NewWriterSize(conn, 32<<10), ends: map[uint32]string{}, opened: map[uint32]int{}, grown: make(chan struct{})}
	w.framer = http2.NewFramer(w.out, bufio.NewReader(conn))
	w.framer.AllowIllegalWrites = true
	w.framer.SetMaxReadFrameSize(1<<24 - 1)
	w.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.header = hpack.NewEncoder(&w.block)
	if !raw {
		if _, err := w.out.WriteString(http2.ClientPreface); err != nil {
			return nil, err
		}
		if err := w.framer.WriteSettings(settings...); err != nil {
			return nil, err
		}
	}
	if err := w.out.Flush(); err != nil {
		return nil, err
	}
	go w.read()
	return w, nil
}

func (w *wire) read() {
	defer close(w.done)
	taken := 0
	for {
		frame, err := w.framer.ReadFrame()
		if err != nil {
			if _, ok := errors.AsType[http2.StreamError](err); ok {
				continue
			}
			return
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			if f.IsAck() {
				w.note(func() { w.acks++ })
				continue
			}
			// A tracker that does not take it closes the connection, which is seen here.
			_ = w.write(func(fr *http2.Framer) error { return fr.WritePing(true, f.Data) })
			_ = w.flush()
		case *http2.DataFrame:
			if taken += int(f.Length); taken > 16<<10 {
				_ = w.write(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(0, uint32(taken)) })
				_ = w.flush()
				taken = 0
			}
		case *http2.WindowUpdateFrame:
			w.note(func() { w.opened[f.StreamID] += int(f.Increment) })
		case *http2.RSTStreamFrame:
			w.end(f.StreamID, "reset "+f.ErrCode.String())
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				if field.Name == "grpc-status" {
					w.end(f.StreamID, "status "+field.Value)
				}
			}
		}
	}
}

// end notes how a stream ended. After the status a reset may come, which says nothing.
func (w *wire) end(stream uint32, how string) {
	w.note(func() {
		if w.ends[stream] == "" {
			w.ends[stream] = how
		}
	})
}

func (w *wire) note(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.grown)
	w.grown = make(chan struct{})
}

// write writes a frame, which is sent when there are enough of them, or by flush.
func (w *wire) write(one func(*http2.Framer) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frames++
	return one(w.framer)
}

func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Flush()
}

// raw sends bytes as they are.
func (w *wire) raw(b []byte) error {
	err := w.write(func(*http2.Framer) error { _, err := w.out.Write(b); return err })
	return errors.Join(err, w.flush())
}

// fields are the headers of a call, and more.
func fields(method string, more ...hpack.HeaderField) []hpack.HeaderField {
	return append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: method}, {Name: ":authority", Value: "tracker"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...)
}

// encodeLocked encodes headers.
func (w *wire) encodeLocked(list []hpack.HeaderField) []byte {
	w.block.Reset()
	for _, f := range list {
		if err := w.header.WriteField(f); err != nil {
			panic(err) // a buffer takes all
		}
	}
	return bytes.Clone(w.block.Bytes())
}

// headers opens a stream, with CONTINUATIONs where they are needed.
func (w *wire) headers(list []hpack.HeaderField) (stream uint32, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stream += 2
	stream = w.stream - 1
	block := w.encodeLocked(list)
	first := block[:min(len(block), 16<<10)]
	block = block[len(first):]
	w.frames++
	err = w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndHeaders: len(block) == 0})
	for err == nil && len(block) > 0 {
		next := block[:min(len(block), 16<<10)]
		block = block[len(next):]
		w.frames++
		err = w.framer.WriteContinuation(stream, len(block) == 0, next)
	}
	return stream, err
}

// call opens a stream and sends content, which need not be a message.
func (w *wire) call(method string, content []byte, end bool, more ...hpack.HeaderField) (stream uint32, err error) {
	if stream, err = w.headers(fields(method, more...)); err != nil {
		return stream, err
	}
	return stream, w.data(stream, content, end)
}

func (w *wire) data(stream uint32, content []byte, end bool) error {
	for {
		part := content[:min(len(content), 16<<10)]
		content = content[len(part):]
		err := w.write(func(f *http2.Framer) error { return f.WriteData(stream, end && len(content) == 0, part) })
		if err != nil || len(content) == 0 {
			return err
		}
	}
}

// ended waits until the tracker has ended a stream, and says how.
func (w *wire) ended(stream uint32) (how string, err error) {
	err = w.until(func() bool { how = w.ends[stream]; return how != "" })
	return how, err
}

// alive waits for the answer to a ping.
func (w *wire) alive() error {
	w.mu.Lock()
	acks := w.acks
	w.mu.Unlock()
	if err := w.write(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{1}) }); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.until(func() bool { return w.acks > acks })
}

// until flushes, and waits until what is asked under mu is true.
func (w *wire) until(is func() bool) error {
	if err := w.flush(); err != nil {
		return err
	}
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		yes, grown := is(), w.grown
		w.mu.Unlock()
		if yes {
			return nil
		}
		select {
		case <-grown:
		case <-w.done:
			return errors.New("the tracker closed the connection")
		case <-deadline:
			return fmt.Errorf("the tracker did not answer for %v", patience)
		}
	}
}

// dropped waits until the tracker closes the connection.
func (w *wire) dropped() error {
	_ = w.flush() // it may be closed already
	select {
	case <-w.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the connection is still open after %v", patience)
	}
}

// message is a message of gRPC.
func message(flag byte, length int, content []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(length)), content...)
}

// whole is a message as it should be.
func whole(content []byte) []byte { return message(0, len(content), content) }

// dialTLS connects with a certificate. The tracker is not asked for its own.
func dialTLS(ctx context.Context, addr string, cert tls.Certificate) (net.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}}
	return d.DialContext(ctx, "tcp", addr)
}
