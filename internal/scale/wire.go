package scale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// An Exchange is a message and its answer over the real gRPC stack and TCP on
// loopback, without TLS, one exchange at a time.
type Exchange struct {
	Request, Answer float64       // bytes on the connection, with all framing above TCP
	CPU             time.Duration // of both ends, the kernel's part too
}

// Wire is what messages cost.
type Wire struct {
	Ping  Exchange // both sides of a Session say that they are alive
	Renew Exchange // a Renew, and an Ack with the next Nonce
	Ask   Exchange // an Ask and a Word that name nobody
	Copy  Exchange // a confirm of unary claims, and an Ack with a Nonce

	AskContact, WordContact Exchange // what each proxy named in them adds
	Straggler               Exchange // what each straggler adds to a Word; in Answer and CPU
	Claim                   Exchange // a claim in a Replace of many; in Request and CPU

	Connection float64 // bytes of memory at one end of a connection with a Session and a Find on it
}

const (
	exchanges    = 500 // of small messages; of large ones much fewer
	manyContacts = 1000
	manyOlder    = 100
	connections  = 100
)

// MeasureWire measures what the messages of the protocol cost on this machine.
func MeasureWire(ctx context.Context) (Wire, error) {
	var w Wire
	s, err := serve()
	if err != nil {
		return w, err
	}
	defer s.close()
	err = errors.Join(s.sessions(ctx, &w), s.grants(ctx, &w), s.copies(ctx, &w))
	if err != nil {
		return w, err
	}
	w.Connection, err = s.connections(ctx)
	return w, err
}

// A served tracker answers each message with what it was told to.
type served struct {
	node.Service // nil: nothing else is called

	server   *rpc.Server
	addr     string
	running  sync.WaitGroup
	frame    atomic.Pointer[node.TrackerFrame]
	word     atomic.Pointer[lease.Word]
	reply    atomic.Pointer[node.CopyReply]
	sent     atomic.Int64 // bytes by clients
	received atomic.Int64
}

func serve() (*served, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen, to measure messages: %w", err)
	}
	s := &served{addr: l.Addr().String()}
	s.server = rpc.NewServer(s, rpc.WithLogger(slog.New(slog.DiscardHandler)))
	s.running.Go(func() { _ = s.server.Serve(l) }) // ends with Stop
	return s, nil
}

func (s *served) close() {
	s.server.Stop()
	s.running.Wait()
}

// Session is node.Service's. It is welcomed as by a pool of lowShards.
func (s *served) Session(_ context.Context, stream node.SessionStream) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	welcome := &node.Welcome{Tracker: process(0), Pool: "scale", Term: term, Params: ring.Params{Algorithm: ring.Algorithm, Shards: lowShards, Replicas: replicas}}
	if err := stream.Send(&node.TrackerFrame{Welcome: welcome}); err != nil {
		return err
	}
	return answer(stream, &s.frame)
}

// Find is node.Service's.
func (s *served) Find(_ context.Context, stream node.FindStream) error {
	var reply atomic.Pointer[node.FindReply]
	reply.Store(&node.FindReply{})
	return answer(stream, &reply)
}

// Seat is node.Service's.
func (s *served) Seat(_ context.Context, stream node.SeatStream) error {
	return answer(stream, &s.word)
}

// Copies is node.Service's.
func (s *served) Copies(_ context.Context, stream node.CopyStream) error {
	return answer(stream, &s.reply)
}

func answer[In, Out any](stream node.Stream[In, *Out], with *atomic.Pointer[Out]) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if err := stream.Send(with.Load()); err != nil {
			return err
		}
	}
}

func (s *served) dial() (*rpc.Client, error) {
	return rpc.Dial(s.addr, rpc.Insecure(), rpc.WithShards(lowShards), rpc.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: c, sent: &s.sent, received: &s.received}, nil
	}))
}

// countedConn counts bytes.
type countedConn struct {
	net.Conn
	sent, received *atomic.Int64
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// exchange sends a request n times in each of some runs, and each time waits for
// the answer.
func exchange[In, Out any](s *served, stream node.Stream[In, Out], request func() Out, n int) (Exchange, error) {
	round := func() error {
		if err := stream.Send(request()); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}
	for range n/10 + 1 { // warm
		if err := round(); err != nil {
			return Exchange{}, err
		}
	}
	const runs = 10 // of whose CPU the least is taken: on a busy machine that repeats best
	e := Exchange{CPU: time.Hour}
	sent, received := s.sent.Load(), s.received.Load()
	for range runs {
		cpu := cpuTime()
		for range n {
			if err := round(); err != nil {
				return Exchange{}, err
			}
		}
		e.CPU = min(e.CPU, (cpuTime()-cpu)/time.Duration(n))
	}
	e.Request = float64(s.sent.Load()-sent) / float64(runs*n)
	e.Answer = float64(s.received.Load()-received) / float64(runs*n)
	return e, nil
}

// more is what each of n things adds to an exchange without any.
func (e Exchange) more(than Exchange, n int) Exchange {
	return Exchange{
		Request: max(0, e.Request-than.Request) / float64(n),
		Answer:  max(0, e.Answer-than.Answer) / float64(n),
		CPU:     max(0, e.CPU-than.CPU) / time.Duration(n),
	}
}

func process(i int) lease.Process {
	return lease.Process{ID: ring.MemberID(fmt.Sprintf("tracker-%06x-%03d", 0x9e3779*i&0xffffff, i)), Boot: 1 << 60}
}

// on opens a stream on a connection of its own, until end is called.
func on[S any](ctx context.Context, s *served, open func(*rpc.Client, context.Context) (S, error)) (stream S, end func(), err error) {
	c, err := s.dial()
	if err != nil {
		return stream, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	end = func() {
		_ = c.Close() // what it carried has been measured
		cancel()
	}
	if stream, err = open(c, ctx); err != nil {
		end()
		return stream, nil, err
	}
	return stream, end, nil
}

func (s *served) sessions(ctx context.Context, w *Wire) error {
	stream, end, err := on(ctx, s, (*rpc.Client).Session)
	if err != nil {
		return err
	}
	defer end()
	s.frame.Store(&node.TrackerFrame{})
	hello := &node.Hello{Pool: "scale", Proxy: node.Proxy{ID: "proxy", Addr: "10.0.0.1:3080"}, Incarnation: life(), HasClaims: true}
	if err := stream.Send(&node.ProxyFrame{Hello: hello}); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if w.Ping, err = exchange(s, stream, func() *node.ProxyFrame { return &node.ProxyFrame{} }, exchanges); err != nil {
		return err
	}
	s.frame.Store(&node.TrackerFrame{Ack: 1 << 20, Nonce: 1 << 60})
	renew := &node.Renew{Seq: 1 << 20, Nonce: 1 << 60, HasClaims: true, Sum: node.Sum{Count: 1 << 20, Sum: 1 << 60}, View: 1 << 60}
	if w.Renew, err = exchange(s, stream, func() *node.ProxyFrame { return &node.ProxyFrame{Renew: renew} }, exchanges); err != nil {
		return err
	}
	chunk := node.AppendChunk(nil, node.Chunk{Shard: 1, First: true, Last: true, Claims: node.MaxChunk})
	for i := range node.MaxChunk {
		chunk = node.AppendChunkAdd(chunk, nodeKey(i), 0, uint32(i))
	}
	replace, err := exchange(s, stream, func() *node.ProxyFrame { return &node.ProxyFrame{Replace: &node.Replace{Seq: 1, Chunks: chunk}} }, exchanges/25)
	w.Claim = replace.more(w.Ping, node.MaxChunk)
	return err
}

// nodeKey is a UUID's.
func nodeKey(i int) node.Key {
	k, err := node.ParseID(node.ID(fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(i)*0x9e3779b9, i)))
	if err != nil {
		panic("a UUID is no node ID: " + err.Error())
	}
	return k
}

func (s *served) grants(ctx context.Context, w *Wire) error {
	stream, end, err := on(ctx, s, (*rpc.Client).Seat)
	if err != nil {
		return err
	}
	defer end()
	var contacts []lease.Contact
	for _, p := range proxyIDs(manyContacts) {
		contacts = append(contacts, lease.Contact{Proxy: p, Incarnation: life(), Age: time.Second, Claims: true})
	}
	var older []lease.Process
	for i := range manyOlder {
		older = append(older, process(i))
	}
	run := func(ask, word []lease.Contact, older []lease.Older, n int) (e Exchange) {
		if err != nil {
			return e
		}
		s.word.Store(&lease.Word{Seat: process(0), Seq: 1 << 20, Nonce: 1 << 60, Grants: true, View: 1 << 60, Contacts: word, Older: older})
		a := &lease.Ask{From: process(1), SeatSets: []uint64{1 << 60}, Nonce: 1 << 60, SeatBoot: 1 << 60, Ack: 1 << 20, Contacts: ask}
		e, err = exchange(s, stream, func() *lease.Ask { return a }, n)
		return e
	}
	w.Ask = run(nil, nil, nil, exchanges)
	w.AskContact = run(contacts, nil, nil, exchanges/25).more(w.Ask, manyContacts)
	w.WordContact = run(nil, contacts, nil, exchanges/25).more(w.Ask, manyContacts)
	w.Straggler = run(nil, nil, []lease.Older{{View: 1 << 60, Stragglers: older}}, exchanges/25).more(w.Ask, manyOlder)
	return err
}

func (s *served) copies(ctx context.Context, w *Wire) error {
	stream, end, err := on(ctx, s, (*rpc.Client).Copies)
	if err != nil {
		return err
	}
	defer end()
	s.reply.Store(&node.CopyReply{Ack: 1 << 20, Nonce: 1 << 60})
	frame := &node.CopyFrame{Seq: 1 << 20, From: process(1), Confirm: true, Nonce: 1 << 60, View: 1 << 60}
	w.Copy, err = exchange(s, stream, func() *node.CopyFrame { return frame }, exchanges)
	return err
}

// connections is how much memory one end of a connection takes with a Session and
// a Find on it, when it has been used.
func (s *served) connections(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.frame.Store(&node.TrackerFrame{})
	before := inUse()
	for range connections {
		c, err := s.dial()
		if err != nil {
			return 0, err
		}
		defer c.Close()
		session, err := c.Session(ctx)
		if err != nil {
			return 0, err
		}
		find, err := c.FindStream(ctx)
		if err != nil {
			return 0, err
		}
		if _, err := exchange(s, session, func() *node.ProxyFrame { return &node.ProxyFrame{} }, 1); err != nil {
			return 0, err
		}
		if _, err := exchange(s, find, func() *node.FindRequest { return &node.FindRequest{} }, 1); err != nil {
			return 0, err
		}
	}
	return float64(inUse()-before) / connections / 2, nil
}

// inUse is what live objects and stacks take.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// Stored is what one claim of a UUID takes in a tracker's table.
type Stored struct {
	Bytes float64
	CPU   time.Duration // to put it there
}

// MeasureStored measures a table of so many claims.
func MeasureStored(claims int) Stored {
	const runs = 3
	runtime.LockOSThread() // for threadTime
	defer runtime.UnlockOSThread()
	keys := make([]node.Key, claims)
	for i := range keys {
		keys[i] = nodeKey(i)
	}
	least := Stored{CPU: time.Hour}
	for range runs {
		t := node.NewTable(lowShards)
		began := threadTime()
		for i, k := range keys {
			t.Put(k.Hash(), k, node.Owner(1+i%manyContacts), node.Value{Stamp: uint32(i)})
		}
		least.CPU = min(least.CPU, (threadTime()-began)/time.Duration(claims))
		least.Bytes = float64(t.Bytes()) / float64(claims)
	}
	return least
}
