package rpc

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A findServer is a small tracker: it serves Find streams out of a map, and does
// to them what a test says.
type findServer struct {
	mu      sync.Mutex // guards the rest
	claims  map[node.Key][]node.Claim
	view    ring.Fingerprint // 0: the reader's
	resets  bool             // with each reply: a dictionary of its own
	hold    bool             // answers nothing; pings go on
	batches []int            // sizes
	watched map[node.Key]bool

	opened atomic.Int32
	notify chan node.Key // a watched node to tell of; made in the bubble of its test
}

func newFindServer() *findServer {
	return &findServer{claims: make(map[node.Key][]node.Claim), watched: make(map[node.Key]bool)}
}

func (f *findServer) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *findServer) serve(ctx context.Context, st node.FindStream) error {
	f.opened.Add(1)
	f.locked(func() { f.watched = make(map[node.Key]bool) })
	ctx, cancel := context.WithCancelCause(ctx)
	requests := make(chan *node.FindRequest)
	var receiver sync.WaitGroup
	defer receiver.Wait()
	defer cancel(nil)
	receiver.Go(func() {
		for {
			r, err := st.Recv()
			if err != nil {
				cancel(err)
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	})
	ping := time.NewTicker(node.PingInterval)
	defer ping.Stop()
	numbers := make(map[node.Proxy]uint32)
	for {
		reply := &node.FindReply{}
		select {
		case r := <-requests:
			if reply = f.reply(r, numbers); reply == nil {
				continue
			}
		case k := <-f.notify:
			f.locked(func() {
				reply.Watched = node.AppendID(nil, k)
				f.answer(k, numbers, reply)
			})
		case <-ping.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := st.Send(reply); err != nil {
			return err
		}
	}
}

func (f *findServer) reply(r *node.FindRequest, numbers map[node.Proxy]uint32) *node.FindReply {
	f.mu.Lock()
	defer f.mu.Unlock()
	var k node.Key
	for c := r.Watch.Cursor(); c.Next(&k); {
		f.watched[k] = true
	}
	for c := r.Unwatch.Cursor(); c.Next(&k); {
		delete(f.watched, k)
	}
	if r.Frame == 0 || f.hold {
		return nil
	}
	reply := &node.FindReply{Frame: r.Frame, View: r.View}
	if f.resets {
		clear(numbers)
		reply.Reset = true
	}
	f.batches = append(f.batches, r.IDs.Count())
	for c := r.IDs.Cursor(); c.Next(&k); {
		f.answer(k, numbers, reply)
		if f.view != 0 && f.view != r.View {
			reply.View = f.view
			reply.ListSums = append(reply.ListSums, k.Hash())
		}
	}
	return reply
}

func (f *findServer) answer(k node.Key, numbers map[node.Proxy]uint32, reply *node.FindReply) {
	claims := f.claims[k]
	if claims == nil {
		reply.Answers = node.AppendAnswer(reply.Answers, node.Absent, nil)
		return
	}
	refs := make([]node.Ref, len(claims))
	for i, c := range claims {
		n, ok := numbers[c.Proxy]
		if !ok {
			n = uint32(len(numbers))
			numbers[c.Proxy] = n
			reply.Proxies = append(reply.Proxies, c.Proxy)
		}
		refs[i] = node.Ref{Proxy: n, Generation: c.Generation, Age: uint32(c.Age / (time.Second / 10))}
	}
	reply.Answers = node.AppendAnswer(reply.Answers, node.Found, refs)
}

// A pipe is one end of a stream within the process, without a network.
type pipe[In, Out any] struct {
	ctx context.Context
	in  <-chan In
	out chan<- Out
}

func (p pipe[In, Out]) Recv() (in In, err error) {
	select {
	case in = <-p.in:
		return in, nil
	case <-p.ctx.Done():
		return in, context.Cause(p.ctx)
	}
}

func (p pipe[In, Out]) Send(out Out) error {
	select {
	case p.out <- out:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// piped opens streams that serve serves; what it returns ends the stream.
func piped(serve func(context.Context, node.FindStream) error) func(context.Context) (node.Stream[*node.FindReply, *node.FindRequest], error) {
	return func(ctx context.Context) (node.Stream[*node.FindReply, *node.FindRequest], error) {
		requests, replies := make(chan *node.FindRequest), make(chan *node.FindReply)
		ctx, end := context.WithCancelCause(ctx)
		go func() { end(serve(ctx, pipe[*node.FindRequest, *node.FindReply]{ctx, requests, replies})) }()
		return pipe[*node.FindReply, *node.FindRequest]{ctx, replies, requests}, nil
	}
}

// killed serves until there is an error in kill.
func killed(serve func(context.Context, node.FindStream) error, kill <-chan error) func(context.Context, node.FindStream) error {
	return func(ctx context.Context, st node.FindStream) error {
		ended := make(chan error, 1) // its context ends when we have returned
		go func() { ended <- serve(ctx, st) }()
		select {
		case err := <-kill:
			return err
		case err := <-ended:
			return err
		}
	}
}

func key(t testing.TB, id string) node.Key {
	t.Helper()
	k, err := node.ParseID(node.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// virtual runs a test of a finder in virtual time. The bubble's end checks that no
// goroutine is left.
func virtual(t *testing.T, cfg FinderConfig, serve func(context.Context, node.FindStream) error, test func(t *testing.T, f *Finder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := NewFinder(piped(serve), cfg)
		defer f.Close()
		test(t, f)
	})
}
