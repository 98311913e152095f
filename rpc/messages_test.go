package rpc

import (
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

var update = flag.Bool("update", false, "write testdata/messages.golden and what testdata/golden has of the release to come; a difference changes the wire")

const testShards = 100

// A carried message goes over the wire and back: make makes a random value, there
// and back encode and decode one.
type carried struct {
	make  func(*random) any
	there func(value any) (wire []byte)
	back  func(wire []byte) (value any, err error)
	is    protoreflect.MessageDescriptor
}

func carry[G any, M any, P interface {
	*M
	proto.Message
}](make func(*random) G, encode func(G) P, decode func(P) (G, error)) carried {
	return carried{
		is:   P(new(M)).ProtoReflect().Descriptor(),
		make: func(r *random) any { return make(r) },
		there: func(v any) []byte {
			wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(encode(v.(G)))
			if err != nil {
				panic(err)
			}
			return wire
		},
		back: func(wire []byte) (any, error) {
			m := P(new(M))
			if err := proto.Unmarshal(wire, m); err != nil {
				return nil, err
			}
			return decode(m)
		},
	}
}

func total[In, Out any](f func(In) Out) func(In) (Out, error) {
	return func(in In) (Out, error) { return f(in), nil }
}

func pointed[In, Out any](f func(In) (Out, error)) func(In) (*Out, error) {
	return func(in In) (*Out, error) { out, err := f(in); return &out, err }
}

// allMessages has each message of node and lease that travels.
func allMessages() map[string]carried {
	welcomed := func() *sessionCodec {
		c := &sessionCodec{}
		c.shards.Store(testShards)
		return c
	}
	all := map[string]carried{
		"FindRequest":  carry((*random).findRequest, encodeFindRequest, decodeFindRequest),
		"FindReply":    carry((*random).findReply, encodeFindReply, decodeFindReply),
		"Ask":          carry((*random).ask, encodeAsk, decodeAsk),
		"Word":         carry((*random).word, encodeWord, decodeWord),
		"CopyFrame":    carry((*random).copyFrame, encodeCopyFrame, decodeCopyFrame),
		"StoreRequest": carry((*random).storeRequest, encodeStoreRequest, decodeStoreRequest),
		"StoreReply":   carry((*random).storeReply, encodeStoreReply, total(decodeStoreReply)),
		"StayReply":    carry((*random).staying, encodeStaying, total(decodeStaying)),
		"ViewSums":     carry((*random).viewSums, encodeViewSums, total(decodeViewSums)),
		"Claim":        carry((*random).claim, encodeClaim, decodeClaim),
		"CopyReply": carry((*random).copyReply, encodeCopyReply,
			func(m *pb.CopyReply) (*node.CopyReply, error) { return decodeCopyReply(m, testShards) }),
		"Report":      carry((*random).report, encodeReport, pointed(decodeReport)),
		"ProxyReport": carry((*random).proxyReport, encodeProxyReport, func(m *pb.ProxyStatus) (node.ProxyReport, error) { d := &decoder{}; return result(d, d.proxyReport(m)) }),
		"Explanation": carry((*random).explanation, encodeExplanation,
			pointed(func(m *pb.ExplainResponse) (node.Explanation, error) { return decodeExplanation(explained, m) })),
		"DrainStep": carry((*random).drainStep, encodeDrainStep, decodeDrainStep),
		"ViewInfo": carry((*random).viewInfo,
			func(v node.ViewInfo) *pb.GetViewResponse { return encodeView(v, 7) }, decodeView),
	}
	for name, f := range map[string]func(*random) *node.ProxyFrame{
		"Hello": func(r *random) *node.ProxyFrame { return &node.ProxyFrame{Hello: r.hello()} },
		"Batch": func(r *random) *node.ProxyFrame {
			return &node.ProxyFrame{Batch: &node.Batch{Seq: r.Uint64(), Ops: r.ops()}}
		},
		"Replace": func(r *random) *node.ProxyFrame { return &node.ProxyFrame{Replace: r.replace()} },
		"Renew":   func(r *random) *node.ProxyFrame { return &node.ProxyFrame{Renew: r.renew()} },
		"Release": func(r *random) *node.ProxyFrame {
			return &node.ProxyFrame{Release: &node.Release{Seq: r.Uint64(), Shards: r.shardSet()}}
		},
		"Dropped": func(r *random) *node.ProxyFrame {
			return &node.ProxyFrame{Dropped: &node.Dropped{Token: r.Uint64(), Kept: some(r, r.nodeID)}}
		},
		"Goodbye":   func(*random) *node.ProxyFrame { return &node.ProxyFrame{Goodbye: true} },
		"ProxyPing": func(*random) *node.ProxyFrame { return &node.ProxyFrame{} },
	} {
		all[name] = carry(f, welcomed().encodeProxyFrame, welcomed().decodeProxyFrame)
	}
	for name, f := range map[string]func(*random) *node.TrackerFrame{
		"Welcome": func(r *random) *node.TrackerFrame { return &node.TrackerFrame{Welcome: r.welcome()} },
		"State":   func(r *random) *node.TrackerFrame { return &node.TrackerFrame{State: r.state()} },
		"Differ": func(r *random) *node.TrackerFrame {
			return &node.TrackerFrame{Differ: &node.Differ{Seq: r.Uint64(), Sums: r.sums()}}
		},
		"Drop": func(r *random) *node.TrackerFrame {
			return &node.TrackerFrame{Drop: &node.Drop{Token: r.Uint64(), IDs: some(r, r.nodeID), Why: r.text()}}
		},
		"End": func(r *random) *node.TrackerFrame {
			return &node.TrackerFrame{End: &node.End{Reason: node.EndReason(1 + r.IntN(4)), Known: r.incarnation(), Detail: r.text()}}
		},
		"TrackerFrame": (*random).trackerFrame,
		"TrackerPing":  func(*random) *node.TrackerFrame { return &node.TrackerFrame{} },
	} {
		all[name] = carry(f, welcomed().encodeTrackerFrame, welcomed().decodeTrackerFrame)
	}
	return all
}

// equally compares what travelled: whether an empty list is nil is lost.
func equally() cmp.Options {
	return cmp.Options{
		cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b ring.View) bool { return slices.Equal(a.Members(), b.Members()) }),
	}
}

func TestRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	for name, m := range allMessages() {
		r := &random{rand.New(rand.NewPCG(seed, 1))}
		for range 200 {
			want := m.make(r)
			got, err := m.back(m.there(want))
			if err != nil {
				t.Fatalf("seed %d: %s: decode %+v: %v", seed, name, want, err)
			}
			if diff := cmp.Diff(want, got, equally()); diff != "" {
				t.Fatalf("seed %d: %s changed on the wire (-want +got):\n%s", seed, name, diff)
			}
		}
	}
}

// TestGolden pins the encoding of one value of each message.
func TestGolden(t *testing.T) {
	file := filepath.Join("testdata", "messages.golden")
	messages := allMessages()
	var got strings.Builder
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		m := messages[name]
		wire := m.there(m.make(&random{rand.New(rand.NewPCG(1, 2))}))
		fmt.Fprintf(&got, "%s %s\n", name, hex.EncodeToString(wire))
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("encodings changed, and with them the wire (-want +got):\n%s", diff)
	}
}

// FuzzDecode decodes any bytes as every message: it must not panic, and what it
// takes must be the same after another round.
func FuzzDecode(f *testing.F) {
	messages := allMessages()
	names := slices.Sorted(maps.Keys(messages))
	r := &random{rand.New(rand.NewPCG(3, 4))}
	for i, name := range names {
		f.Add(uint8(i), messages[name].there(messages[name].make(r)))
	}
	f.Fuzz(func(t *testing.T, which uint8, wire []byte) {
		m := messages[names[int(which)%len(names)]]
		want, err := m.back(wire)
		if err != nil {
			return
		}
		got, err := m.back(m.there(want))
		if err != nil {
			t.Fatalf("encoded again, %+v is refused: %v", want, err)
		}
		if diff := cmp.Diff(want, got, equally()); diff != "" {
			t.Errorf("changed when encoded again (-want +got):\n%s", diff)
		}
	})
}

// random makes valid values.
type random struct{ *rand.Rand }

func some[T any](r *random, f func() T) []T {
	var out []T
	for range r.IntN(4) {
		out = append(out, f())
	}
	return out
}

func (r *random) text() string {
	letters := []rune("abcxyz019-._ äж漢")
	text := make([]rune, 1+r.IntN(20))
	for i := range text {
		text[i] = letters[r.IntN(len(letters))]
	}
	return string(text)
}

func (r *random) nodeID() node.ID {
	if r.IntN(2) == 0 {
		return node.ID(r.text())
	}
	return node.ID(fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", r.Uint32(), r.Uint32()>>16, r.Uint32()>>16, r.Uint32()>>16, r.Uint64()>>16))
}

func (r *random) key() node.Key {
	k, err := node.ParseID(r.nodeID())
	if err != nil {
		panic(err)
	}
	return k
}

func (r *random) bool() bool            { return r.IntN(2) == 0 }
func (r *random) nonce() lease.Nonce    { return lease.Nonce(r.Uint64()) }
func (r *random) age() time.Duration    { return time.Duration(r.Int64N(int64(time.Hour))) }
func (r *random) proxyID() node.ProxyID { return node.ProxyID(r.text()) }
func (r *random) fingerprint() ring.Fingerprint {
	return ring.Fingerprint(r.Uint64())
}

func (r *random) proxy() node.Proxy {
	return node.Proxy{ID: r.proxyID(), Addr: fmt.Sprintf("10.0.0.%d:%d", r.IntN(256), 1+r.IntN(65535)), Cluster: r.text(), Zone: r.text()}
}

func (r *random) process() lease.Process {
	return lease.Process{ID: ring.MemberID(r.text()), Boot: r.Uint64()}
}

func (r *random) incarnation() lease.Incarnation {
	if r.IntN(4) == 0 {
		return lease.Incarnation{}
	}
	return lease.Incarnation{Number: r.Uint64(), Random: r.Uint64()}
}

func (r *random) shardSet() ring.ShardSet {
	s := ring.NewShardSet(testShards)
	for range r.IntN(2 * testShards) {
		s.Add(ring.Shard(r.IntN(testShards)))
	}
	return s
}

func (r *random) sums() []node.ShardSum {
	return some(r, func() node.ShardSum {
		return node.ShardSum{Shard: ring.Shard(r.IntN(testShards)), Sum: node.Sum{Count: r.Uint64(), Sum: r.Uint64()}}
	})
}

func (r *random) params() ring.Params {
	return ring.Params{Algorithm: uint8(1 + r.IntN(255)), Shards: testShards, Replicas: 1 + r.IntN(15)}
}

func (r *random) ids() node.IDs {
	var ids node.IDs
	for range r.IntN(4) {
		ids = node.AppendID(ids, r.key())
	}
	return ids
}

func (r *random) ops() node.Ops {
	var ops node.Ops
	for range r.IntN(4) {
		ops = node.AppendAdd(node.AppendRemove(ops, r.key()), r.key(), r.Uint64(), r.Uint32())
	}
	return ops
}

func (r *random) replace() *node.Replace {
	chunks := node.AppendChunk(nil, node.Chunk{Shard: ring.Shard(r.IntN(testShards)), First: r.bool(), Last: r.bool(), Claims: 1})
	return &node.Replace{Seq: r.Uint64(), Chunks: node.AppendChunkAdd(chunks, r.key(), r.Uint64(), r.Uint32())}
}

func (r *random) hello() *node.Hello {
	return &node.Hello{Pool: r.text(), Proxy: r.proxy(), Incarnation: r.incarnation(), HasClaims: r.bool()}
}

func (r *random) renew() *node.Renew {
	return &node.Renew{Seq: r.Uint64(), Nonce: r.nonce(), HasClaims: r.bool(),
		Sum: node.Sum{Count: r.Uint64(), Sum: r.Uint64()}, View: r.fingerprint()}
}

func (r *random) welcome() *node.Welcome {
	return &node.Welcome{Tracker: r.process(), Pool: r.text(), Term: lease.Term(1 + r.age()), Params: r.params(),
		Incarnation: r.incarnation(), Credits: r.Uint32(), Sums: r.sums()}
}

func (r *random) state() *node.State {
	return &node.State{View: r.fingerprint(), Counted: r.shardSet(), Known: r.bool(), Why: some(r, func() node.Uncounted {
		return node.Uncounted{Why: node.Why(1 + r.IntN(5)), Shards: r.shardSet()}
	})}
}

func (r *random) trackerFrame() *node.TrackerFrame {
	v := r.viewSums()
	return &node.TrackerFrame{Welcome: r.welcome(), View: &v, State: r.state(), Ack: r.Uint64(), Credits: r.Uint32(), Nonce: r.nonce()}
}

func (r *random) viewSums() node.ViewSums {
	return node.ViewSums{Fingerprint: r.fingerprint(), Sum: r.Uint64()}
}

func (r *random) findRequest() *node.FindRequest {
	return &node.FindRequest{Frame: r.Uint64(), View: r.fingerprint(), IDs: r.ids(), Watch: r.ids(), Unwatch: r.ids()}
}

func (r *random) findReply() *node.FindReply {
	var answers node.Answers
	for range r.IntN(4) {
		answers = node.AppendAnswer(answers, node.Found, []node.Ref{{Proxy: r.Uint32(), Generation: r.Uint64(), Age: r.Uint32()}})
	}
	return &node.FindReply{Frame: r.Uint64(), View: r.fingerprint(), Reset: r.bool(), Proxies: some(r, r.proxy),
		Answers: answers, ListSums: some(r, r.Uint64), Watched: r.ids()}
}

func (r *random) contact() lease.Contact {
	return lease.Contact{Proxy: r.proxyID(), Incarnation: r.incarnation(), Age: r.age(), Claims: r.bool(),
		Floor: r.incarnation(), FloorAge: r.age(), Stalled: r.bool(), StalledAge: r.age()}
}

func (r *random) ask() *lease.Ask {
	return &lease.Ask{From: r.process(), SeatSets: some(r, r.Uint64), Nonce: r.nonce(), SeatBoot: r.Uint64(), Ack: r.Uint64(),
		Contacts: some(r, r.contact), Stalled: some(r, r.proxyID)}
}

func (r *random) word() *lease.Word {
	return &lease.Word{Seat: r.process(), Seq: r.Uint64(), Nonce: r.nonce(), Grants: r.bool(), View: r.fingerprint(),
		Older: some(r, func() lease.Older { return lease.Older{View: r.fingerprint(), Stragglers: some(r, r.process)} }),
		Full:  r.bool(), Contacts: some(r, r.contact)}
}

func (r *random) claim() node.Claim {
	return node.Claim{Node: r.nodeID(), Proxy: r.proxy(), Generation: r.Uint64(), Age: r.age()}
}

func (r *random) unaryClaim() node.UnaryClaim {
	c := node.UnaryClaim{Node: r.nodeID(), Proxy: r.proxy(), Generation: r.Uint64(), Age: r.age(), Version: r.Uint64(),
		Left: r.age() - time.Minute, Gone: r.bool()}
	if c.Gone && r.bool() {
		c.Proxy = node.Proxy{ID: c.Proxy.ID}
	}
	return c
}

func (r *random) copyFrame() *node.CopyFrame {
	return &node.CopyFrame{From: r.process(), Claims: some(r, r.unaryClaim), Confirm: r.bool(), Nonce: r.nonce(),
		View: r.fingerprint(), Sums: r.sums(), Seq: r.Uint64()}
}

func (r *random) copyReply() *node.CopyReply {
	return &node.CopyReply{Nonce: r.nonce(), Claims: some(r, r.unaryClaim), Want: r.shardSet(), Ack: r.Uint64()}
}

func (r *random) storeRequest() node.StoreRequest {
	return node.StoreRequest{ListSum: r.Uint64(), Claim: r.unaryClaim()}
}

func (r *random) storeReply() node.StoreReply {
	return node.StoreReply{Stored: r.bool(), Counted: r.bool(), Version: r.Uint64(), ListSum: r.Uint64()}
}

func (r *random) staying() node.Staying { return node.Staying{Leaving: r.bool(), Grants: r.bool()} }

func (r *random) viewInfo() node.ViewInfo {
	var members []ring.Member
	for i := range r.IntN(5) {
		members = append(members, ring.Member{ID: ring.MemberID(fmt.Sprint("t-", i)), Boot: r.Uint64(), Addr: r.text(), Zone: r.text(),
			State: ring.State(r.IntN(3)), Algorithm: uint8(r.IntN(256)), Replicas: ring.Replicas(r.IntN(1 << 16))})
	}
	view, err := ring.NewView(members...)
	if err != nil {
		panic(err)
	}
	seats := some(r, func() []ring.MemberID { return some(r, func() ring.MemberID { return ring.MemberID(r.text()) }) })
	return node.ViewInfo{Pool: node.Pool{Name: r.text(), Term: lease.Term(1 + r.age()), Seats: seats}, View: view, Params: r.params()}
}
