package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

// A finding is the reader's side of a Find stream. It keeps the proxies that it was
// told.
type finding struct {
	t       *testing.T
	stream  Stream[*FindReply, *FindRequest]
	frame   uint64
	proxies []Proxy
	resets  int
}

func (c *cluster) find(at ring.MemberID) *finding {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	stream, err := openPipe(ctx, c.wire("reader", string(at)), c.host(at), func(ctx context.Context, t *Tracker, s FindStream) error { return t.Find(ctx, s) })
	if err != nil {
		c.t.Fatal(err)
	}
	return &finding{t: c.t, stream: stream}
}

func idsOf(t *testing.T, ids ...ID) IDs {
	t.Helper()
	var p IDs
	for _, id := range ids {
		p = AppendID(p, mustKey(t, string(id)))
	}
	return p
}

func (f *finding) send(q *FindRequest) {
	f.t.Helper()
	if err := f.stream.Send(q); err != nil {
		f.t.Fatalf("send: %v", err)
	}
}

// next returns the next reply that is more than a sign of life.
func (f *finding) next() (*FindReply, error) {
	for {
		r, err := f.stream.Recv()
		if err != nil {
			return nil, err
		}
		if r.Reset {
			f.proxies = nil
			f.resets++
		}
		f.proxies = append(f.proxies, r.Proxies...)
		if r.Frame != 0 || r.Watched != nil {
			return r, nil
		}
	}
}

// answers reads a reply: "FOUND x y" of each node.
func (f *finding) answers(r *FindReply) (l []string) {
	f.t.Helper()
	c := r.Answers.Cursor()
	for a := (Answered{}); c.Next(&a); {
		text := a.Answer.String()
		for _, ref := range a.Claims {
			text += " " + string(f.proxies[ref.Proxy].ID)
		}
		l = append(l, text)
	}
	if err := c.Err(); err != nil {
		f.t.Error(err)
	}
	return l
}

// ask looks up a batch.
func (f *finding) ask(ids ...ID) []string {
	f.t.Helper()
	f.frame++
	f.send(&FindRequest{Frame: f.frame, IDs: idsOf(f.t, ids...)})
	r, err := f.next()
	if err != nil {
		f.t.Fatalf("find: %v", err)
	}
	if r.Frame != f.frame || len(r.ListSums) != len(ids) {
		f.t.Errorf("frame %d with %d list sums, want %d with %d", r.Frame, len(r.ListSums), f.frame, len(ids))
	}
	return f.answers(r)
}

// A batch is answered in order, several proxies of a node the best first, and a proxy
// is told once.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		p := c.at("t-0").snap.Load().Placement
		x, y, z := c.newClient("x", p, "t-0"), c.newClient("y", p, "t-0"), c.newClient("z", p, "t-0")
		x.add(1, "a", "b")
		y.add(2, "b")
		time.Sleep(time.Second)
		z.add(2, "b")
		for _, k := range []*client{x, y, z} {
			k.settle(time.Second)
		}
		if _, err := c.at("t-0").AddNode(t.Context(), Claim{Node: "b", Proxy: testProxy("u"), Generation: 3}); err != nil {
			t.Fatal(err)
		}
		f := c.find("t-0")
		if diff := cmp.Diff([]string{"FOUND x", "ABSENT", "FOUND u z y x", "FOUND x"}, f.ask("a", "c", "b", "a")); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]Proxy{testProxy("x"), testProxy("u"), testProxy("z"), testProxy("y")}, f.proxies); diff != "" {
			t.Errorf("proxies (-want +got):\n%s", diff)
		}
		f.ask("b")
		if len(f.proxies) != 4 {
			t.Errorf("told again: %v", f.proxies)
		}
		f.frame++
		f.send(&FindRequest{Frame: f.frame, View: p.Fingerprint(), IDs: idsOf(t, "a")})
		if r, err := f.next(); err != nil || r.View != p.Fingerprint() || r.ListSums != nil {
			t.Errorf("to a reader of the same view: %+v, %v", r, err)
		}
	})
}

// A proxy that comes again with another address is told anew.
func TestFindNewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		s.add("a")
		s.renew()
		s.stored()
		f := c.find("t-0")
		f.ask("a")
		moved := testProxy("p")
		moved.Addr = "elsewhere:3080"
		again := c.openSession("t-0", "p")
		again.send(&ProxyFrame{Hello: &Hello{Proxy: moved, Incarnation: incarnationOf(1, 1)}})
		again.await("a welcome", func() bool { return again.welcome != nil })
		f.ask("a")
		if diff := cmp.Diff([]Proxy{testProxy("p"), moved}, f.proxies); diff != "" {
			t.Errorf("proxies (-want +got):\n%s", diff)
		}
	})
}

// Watched nodes are told when their answers change, and not otherwise.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		x := c.newClient("x", c.at("t-0").snap.Load().Placement, "t-0")
		x.add(1, "a")
		x.settle(time.Second)
		f := c.find("t-0")
		f.send(&FindRequest{Watch: idsOf(t, "a", "b")})
		events := make(chan string, 10)
		go func() {
			for {
				r, err := f.next()
				if err != nil {
					close(events)
					return
				}
				ids, answers := r.Watched.Cursor(), f.answers(r)
				var l []string
				for k := (Key{}); ids.Next(&k); {
					l = append(l, fmt.Sprintf("%v %s", k, answers[len(l)]))
				}
				slices.Sort(l)
				events <- strings.Join(l, ", ")
			}
		}()
		expect := func(want string) {
			t.Helper()
			select {
			case got := <-events:
				if got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			case <-time.After(watchInterval + 10*time.Millisecond):
				t.Errorf("nothing came, want %q", want)
			}
		}
		expect("a FOUND x, b ABSENT")
		x.add(1, "b")
		expect("b FOUND x")
		x.remove("a")
		expect("a ABSENT")
		f.send(&FindRequest{Unwatch: idsOf(t, "b")})
		synctest.Wait()
		x.remove("b")
		select {
		case got := <-events:
			t.Errorf("not watched any more, but got %q", got)
		case <-time.After(time.Minute):
		}
	})
}

func TestWatchLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		f := c.find("t-0")
		all := nodesOf(MaxWatches+1, anyShard)
		f.send(&FindRequest{Watch: idsOf(t, all[:MaxWatches]...)})
		if _, err := f.next(); err != nil {
			t.Fatal(err)
		}
		f.send(&FindRequest{Watch: idsOf(t, all[0])}) // is watched already
		if r, err := f.next(); err != nil || r.Watched.Count() != 1 {
			t.Fatalf("watched again: %v", err)
		}
		f.send(&FindRequest{Watch: idsOf(t, all[MaxWatches])})
		var invalid *InvalidError
		if _, err := f.next(); !errors.As(err, &invalid) || invalid.Field != "watch" {
			t.Errorf("got %v", err)
		}
	})
}

// After many proxies the numbers begin anew, and are right all the while.
func TestFindDictionaryReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		const n = 5000 // proxies: cheap, since they are unary
		node := func(i int) ID { return ID(fmt.Sprintf("unary-%04d", i)) }
		for i := range n {
			p := testProxy(fmt.Sprintf("proxy-%04d", i))
			c.at("t-0").unaries.Store(time.Now(), UnaryClaim{Node: node(i), Proxy: p, Version: 1, Left: time.Minute})
		}
		f := c.find("t-0")
		for i := 0; i < 3*n; i += 100 {
			var ids []ID
			for k := range 100 {
				ids = append(ids, node((i+k)%n))
			}
			for k, got := range f.ask(ids...) {
				if want := fmt.Sprintf("FOUND proxy-%04d", (i+k)%n); got != want {
					t.Fatalf("%s is %q, want %q", ids[k], got, want)
				}
			}
			if len(f.proxies) > maxTold+100 {
				t.Fatalf("%d proxies are told", len(f.proxies))
			}
		}
		if f.resets < 3 {
			t.Errorf("%d resets", f.resets)
		}
	})
}

func TestFindBadInput(t *testing.T) {
	many := nodesOf(MaxFind+1, anyShard)
	for _, tt := range []struct {
		name, field string
		q           func(*testing.T) *FindRequest
	}{
		{"too many", "ids", func(t *testing.T) *FindRequest { return &FindRequest{Frame: 1, IDs: idsOf(t, many...)} }},
		{"cut off", "ids[1]", func(t *testing.T) *FindRequest { return &FindRequest{Frame: 1, IDs: append(idsOf(t, "a"), 9, 'x')} }},
		{"no UTF-8", "ids[0]", func(*testing.T) *FindRequest { return &FindRequest{Frame: 1, IDs: IDs{1, 0xff}} }},
		{"bad watch", "ids[0]", func(*testing.T) *FindRequest { return &FindRequest{Watch: IDs{1, 0xff}} }},
		{"bad unwatch", "ids[0]", func(*testing.T) *FindRequest { return &FindRequest{Unwatch: IDs{200}} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1, "t-0")
				c.awaitOpen(time.Second, "t-0")
				f := c.find("t-0")
				f.send(tt.q(t))
				var invalid *InvalidError
				if _, err := f.next(); !errors.As(err, &invalid) || invalid.Field != tt.field {
					t.Errorf("got %v, want an InvalidError for %s", err, tt.field)
				}
			})
		})
	}
}

// A reader that asks and does not read is not read from any more.
func TestFindSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		f := c.find("t-0")
		q := idsOf(t, nodesOf(MaxFind, anyShard)...)
		sent := make(chan int)
		stop, cancel := context.WithCancel(t.Context())
		go func() {
			n := 0
			for stop.Err() == nil && n < 10000 {
				if f.stream.Send(&FindRequest{Frame: uint64(n + 1), IDs: q}) != nil {
					break
				}
				n++
			}
			sent <- n
		}()
		time.Sleep(time.Minute)
		cancel()
		if r, err := f.next(); err != nil || r.Frame != 1 { // it lives on
			t.Errorf("got %+v, %v", r, err)
		}
		for want := uint64(2); ; want++ {
			select {
			case n := <-sent:
				if most := 2*pipeRoom + 2; n > most {
					t.Errorf("%d requests were taken, want at most %d", n, most)
				}
				return
			default:
			}
			if r, err := f.next(); err != nil || r.Frame != want {
				t.Fatalf("got %+v, %v; want frame %d", r, err, want)
			}
		}
	})
}
