package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A script is the proxy's side of one session, in the hands of a test: it says only
// what it is told to say, and that it is alive. It keeps the sum of what it sent, as
// a right proxy does.
type script struct {
	t      *testing.T
	stream Stream[*TrackerFrame, *ProxyFrame]
	cancel context.CancelFunc
	ended  chan struct{} // closed when the stream has

	seq uint64
	sum Sum // to be sent in Renew

	mu      sync.Mutex // guards all below: what the tracker said
	welcome *Welcome
	view    ViewSums
	state   *State
	acked   uint64
	credits uint32 // since the Welcome
	nonces  []lease.Nonce
	differs []*Differ
	drops   []*Drop
	end     *End
	err     error
}

func testProxy(id string) Proxy {
	return Proxy{ID: ProxyID(id), Addr: id + ".example:3080", Cluster: "main", Zone: "z1"}
}

func incarnationOf(number, random uint64) Incarnation {
	return Incarnation{Number: number, Random: random}
}

// openSession opens a session of a proxy without a word.
func (c *cluster) openSession(at ring.MemberID, proxy string) *script {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := openPipe(ctx, c.wire(proxy, string(at)), c.host(at), func(ctx context.Context, t *Tracker, s SessionStream) error { return t.Session(ctx, s) })
	if err != nil {
		cancel()
		c.t.Fatalf("session of %s at %s: %v", proxy, at, err)
	}
	s := &script{t: c.t, stream: stream, cancel: cancel, ended: make(chan struct{})}
	go s.receive()
	go s.ping(ctx)
	c.t.Cleanup(s.close)
	return s
}

// hello opens a session and waits for the answer to its Hello.
func (c *cluster) hello(at ring.MemberID, proxy string, number, random uint64) *script {
	c.t.Helper()
	s := c.openSession(at, proxy)
	s.send(&ProxyFrame{Hello: &Hello{Pool: "test", Proxy: testProxy(proxy), Incarnation: incarnationOf(number, random), HasClaims: true}})
	s.await("a welcome", func() bool { return s.welcome != nil })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sum := range s.welcome.Sums {
		s.sum.Add(sum.Sum)
	}
	return s
}

func (s *script) receive() {
	defer close(s.ended)
	for {
		f, err := s.stream.Recv()
		s.mu.Lock()
		if err != nil {
			s.err = err
			s.mu.Unlock()
			return
		}
		if f.Welcome != nil {
			s.welcome = f.Welcome
		}
		if f.View != nil {
			s.view = *f.View
		}
		if f.State != nil {
			s.state = f.State
		}
		s.acked = max(s.acked, f.Ack)
		if f.Credits != 0 {
			s.credits = f.Credits
		}
		if f.Nonce != 0 {
			s.nonces = append(s.nonces, f.Nonce)
		}
		if f.Differ != nil {
			s.differs = append(s.differs, f.Differ)
		}
		if f.Drop != nil {
			s.drops = append(s.drops, f.Drop)
		}
		if f.End != nil {
			s.end = f.End
		}
		s.mu.Unlock()
	}
}

func (s *script) ping(ctx context.Context) {
	t := time.NewTicker(PingInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		case <-t.C:
			if s.stream.Send(&ProxyFrame{}) != nil {
				return
			}
		}
	}
}

// close ends the session without a word.
func (s *script) close() {
	s.cancel()
	<-s.ended
}

func (s *script) send(f *ProxyFrame) {
	s.t.Helper()
	if err := s.stream.Send(f); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

// await waits until the tracker has said something.
func (s *script) await(what string, said func() bool) {
	s.t.Helper()
	eventually(s.t, 5*time.Second, func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if said() {
			return ""
		}
		return fmt.Sprintf("%s did not come; state %v, acked %d of %d, end %v, error %v", what, s.state, s.acked, s.seq, s.end, s.err)
	})
}

func (s *script) next() uint64 {
	s.seq++
	return s.seq
}

// stored waits until all that was sent is acknowledged.
func (s *script) stored() {
	s.t.Helper()
	s.await("the Ack", func() bool { return s.acked == s.seq })
}

// counts reports whether claims of shards count.
func (s *script) counts(shards ...ring.Shard) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != nil && !slices.ContainsFunc(shards, func(sh ring.Shard) bool { return !s.state.Counted.Has(sh) })
}

// why says why claims of a shard do not count; 0: they do.
func (s *script) why(sh ring.Shard) Why {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.state.Why {
		if u.Shards.Has(sh) {
			return u.Why
		}
	}
	return 0
}

// opsOf adds nodes of generation 1.
func opsOf(t testing.TB, ids ...ID) Ops {
	var p Ops
	for _, id := range ids {
		p = AppendAdd(p, mustKey(t, string(id)), 1, 0)
	}
	return p
}

func sumOf(t testing.TB, ids ...ID) (sum Sum) {
	for _, id := range ids {
		sum.AddClaim(mustKey(t, string(id)).Hash(), 1)
	}
	return sum
}

// add sends a Batch of nodes that were not there. None of them may be in a shard that
// is being replaced.
func (s *script) add(ids ...ID) {
	s.t.Helper()
	s.sum.Add(sumOf(s.t, ids...))
	s.send(&ProxyFrame{Batch: &Batch{Seq: s.next(), Ops: opsOf(s.t, ids...)}})
}

// remove sends a Batch that removes nodes that were there.
func (s *script) remove(ids ...ID) {
	s.t.Helper()
	s.sum.Sub(sumOf(s.t, ids...))
	var p Ops
	for _, id := range ids {
		p = AppendRemove(p, mustKey(s.t, string(id)))
	}
	s.send(&ProxyFrame{Batch: &Batch{Seq: s.next(), Ops: p}})
}

// section sends one section of a shard given anew. The sum is the test's.
func (s *script) section(shard ring.Shard, first, last bool, ids ...ID) {
	s.t.Helper()
	p := AppendChunk(nil, Chunk{Shard: shard, First: first, Last: last, Claims: len(ids)})
	for _, id := range ids {
		p = AppendChunkAdd(p, mustKey(s.t, string(id)), 1, 0)
	}
	s.send(&ProxyFrame{Replace: &Replace{Seq: s.next(), Chunks: p}})
}

// renew sends a Renew with the newest nonce and the right sum.
func (s *script) renew() {
	s.t.Helper()
	s.mu.Lock()
	nonce, view := s.nonces[len(s.nonces)-1], s.view.Fingerprint
	s.mu.Unlock()
	s.send(&ProxyFrame{Renew: &Renew{Seq: s.next(), Nonce: nonce, HasClaims: true, Sum: s.sum, View: view}})
}

// keepRenewing answers each nonce with a Renew, until stop is called. What the test
// sends meanwhile races with it: it may only wait.
func (s *script) keepRenewing() (stop func()) {
	done, over := make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	seen := len(s.nonces)
	s.mu.Unlock()
	go func() {
		defer close(over)
		for {
			s.mu.Lock()
			came := len(s.nonces) > seen
			seen = len(s.nonces)
			s.mu.Unlock()
			if came {
				s.renew()
			}
			select {
			case <-done:
				return
			case <-s.ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(done)
		<-over
	}
}

// over waits for the End, and for the stream to close.
func (s *script) over(reason EndReason) *End {
	s.t.Helper()
	s.await(fmt.Sprintf("End %v", reason), func() bool { return s.end != nil && s.end.Reason == reason && s.err != nil })
	return s.end
}
