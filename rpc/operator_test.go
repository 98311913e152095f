package rpc

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

func (r *random) report() *node.Report {
	v := &node.Report{
		Self: r.process(), Pool: r.text(), Version: r.text(), Up: r.age(), Sums: r.viewSums(), Params: r.params(), Leaving: r.bool(),
		Held: r.shardSet(), InForce: r.shardSet(), Open: r.shardSet(), More: r.IntN(100), Marked: some(r, r.proxyID), Keys: some(r, r.text),
		Holdups: some(r, func() lease.Holdup {
			return lease.Holdup{By: lease.HolderUp(1 + r.IntN(3)), ID: r.text(), Why: r.text(), Shards: r.shardSet()}
		}),
		Seats: some(r, func() lease.SeatWord {
			return lease.SeatWord{Seat: r.process(), Grants: r.bool(), View: r.fingerprint(), Heard: r.age(), Left: r.age()}
		}),
		Began: r.Uint64(), Changes: r.Uint64(), Differs: r.Uint64(), Refused: r.Uint64(),
		Lookups: map[node.Answer]uint64{node.Found: r.Uint64(), node.Absent: r.Uint64(), node.Unknown: r.Uint64()},
		Status: node.Status{Seat: r.bool(), Granting: r.bool(), Silence: r.age(), CutOff: r.bool(), Selfish: r.bool(), Ready: r.bool(), Why: r.text(),
			Claims: r.IntN(1e9), UnaryClaims: r.IntN(1e6), Sessions: r.IntN(1e4), Proxies: r.IntN(1e4), Restored: r.IntN(1e4)},
	}
	v.View, v.Stalled = v.Sums.Fingerprint, len(v.Marked)
	v.Shards.Held, v.Shards.InForce, v.Shards.Open = v.Held.Len(), v.InForce.Len(), v.Open.Len()
	return v
}

func (r *random) proxyReport() node.ProxyReport {
	return node.ProxyReport{Proxy: r.proxy(), Incarnation: r.incarnation(), Session: r.bool(), Claims: r.Uint64(), Lease: r.age(), Heard: r.age(),
		Stalled: r.bool(), WaitedFor: r.bool(), Ended: r.bool(), Restored: r.bool(), Counted: r.IntN(testShards)}
}

func (r *random) explanation() *node.Explanation {
	return &node.Explanation{Self: r.process(), View: r.viewSums(), Hash: r.Uint64(), Shard: ring.Shard(r.IntN(testShards)),
		List:    some(r, func() ring.MemberID { return ring.MemberID(r.text()) }),
		InForce: r.bool(), Open: r.bool(), Answer: node.Answer(r.IntN(3)),
		Holdups: some(r, func() lease.Holdup {
			return lease.Holdup{By: lease.HolderUp(1 + r.IntN(3)), ID: r.text(), Why: r.text()}
		}),
		Claims: some(r, func() node.ExplainedClaim {
			return node.ExplainedClaim{Claim: node.Claim{Node: explained, Proxy: r.proxy(), Generation: r.Uint64(), Age: r.age()}, Incarnation: r.incarnation(),
				Unary: r.bool(), Covered: r.bool(), Left: r.age(), Session: r.bool(), Counted: r.bool(), Why: r.text()}
		})}
}

// explained is the node that all explanations of the tests are of: it does not travel
// back.
const explained node.ID = "n"

func (r *random) drainStep() node.DrainStep {
	return node.DrainStep{Left: r.text(), Shards: r.IntN(testShards), Claims: r.IntN(1e9), Elapsed: r.age(), Deadline: r.age(), Done: r.bool()}
}

// An operator does what a test says.
type operator struct {
	report  func() (node.Report, error)
	proxies func(after node.ProxyID, most int) ([]node.ProxyReport, bool, error)
	explain func(node.ID) (node.Explanation, error)
	drain   func(force bool, tell func(node.DrainStep) error) error
	debug   func(part func(string, []byte) error) error
}

func (o *operator) Report(context.Context) (node.Report, error) { return o.report() }
func (o *operator) Proxies(_ context.Context, after node.ProxyID, most int) ([]node.ProxyReport, bool, error) {
	return o.proxies(after, most)
}
func (o *operator) Explain(_ context.Context, id node.ID) (node.Explanation, error) {
	return o.explain(id)
}
func (o *operator) Drain(_ context.Context, force bool, tell func(node.DrainStep) error) error {
	return o.drain(force, tell)
}
func (o *operator) Debug(_ context.Context, part func(string, []byte) error) error {
	return o.debug(part)
}

func TestOperator(t *testing.T) {
	step := node.DrainStep{Left: "3 shards are still placed here", Shards: 3, Elapsed: time.Second, Deadline: 30 * time.Second}
	long := bytes.Repeat([]byte("stack "), 2*maxPiece/6)
	op := &operator{
		proxies: func(after node.ProxyID, most int) ([]node.ProxyReport, bool, error) {
			return []node.ProxyReport{{Proxy: node.Proxy{ID: after + "+"}, Counted: most}}, true, nil
		},
		explain: func(id node.ID) (node.Explanation, error) {
			return node.Explanation{Self: lease.Process{ID: "t-0", Boot: 1}, Shard: 7, Answer: node.Absent}, nil
		},
		drain: func(force bool, tell func(node.DrainStep) error) error {
			if !force {
				return node.ErrLastMajority
			}
			return errors.Join(tell(step), tell(node.DrainStep{Done: true}))
		},
		debug: func(part func(string, []byte) error) error {
			return errors.Join(part("a.txt", []byte("short")), part("b.txt", long))
		},
	}
	_, addr := serve(t, &service{}, WithOperator(op))
	c := dial(t, addr, Insecure())
	ctx := t.Context()

	page, more, err := c.Proxies(ctx, "p", 20)
	if !more {
		t.Error("no more pages")
	}
	check(t, "Proxies", page, []node.ProxyReport{{Proxy: node.Proxy{ID: "p+"}, Counted: 20}}, err)
	e, err := c.Explain(ctx, "n")
	check(t, "Explain", e, node.Explanation{Self: lease.Process{ID: "t-0", Boot: 1}, Shard: 7, Answer: node.Absent}, err)

	var steps []node.DrainStep
	tell := func(s node.DrainStep) error { steps = append(steps, s); return nil }
	if err := c.Drain(ctx, false, tell); !errors.Is(err, node.ErrLastMajority) {
		t.Errorf("Drain without force: %v", err)
	}
	err = c.Drain(ctx, true, tell)
	check(t, "Drain", steps, []node.DrainStep{step, {Done: true}}, err)

	texts := map[string]string{}
	err = c.Debug(ctx, func(name string, piece []byte) error {
		if len(piece) > maxPiece {
			t.Errorf("a piece of %d bytes", len(piece))
		}
		texts[name] += string(piece)
		return nil
	})
	check(t, "Debug", texts, map[string]string{"a.txt": "short", "b.txt": string(long)}, err)

	_, plain := serve(t, &service{})
	if _, err := dial(t, plain, Insecure()).Report(ctx); err == nil || !strings.Contains(err.Error(), "trackerpool.v1.Operator") {
		t.Errorf("a server without an operator: %v", err)
	}
}

// The longest answers fit into a message, in the largest pool there can be.
func TestOperatorBounds(t *testing.T) {
	full := ring.FullShardSet(maxShards)
	r := node.Report{Self: lease.Process{ID: "t", Boot: 1}, Params: ring.Params{Algorithm: 1, Shards: maxShards, Replicas: 2}, Held: full, InForce: full, Open: full}
	long := strings.Repeat("x", node.MaxIDBytes)
	for range node.MaxHoldups {
		r.Holdups = append(r.Holdups, lease.Holdup{By: lease.HeldUpByProxy, ID: long, Why: strings.Repeat("y", 1000), Shards: full})
		r.Marked = append(r.Marked, node.ProxyID(long))
	}
	if n := proto.Size(encodeReport(&r)); n > MaxMessageBytes/4 {
		t.Errorf("a status has %d bytes, want at most %d", n, MaxMessageBytes/4)
	}
	r.Params.Shards, r.Held, r.InForce, r.Open = node.DefaultShards, ring.FullShardSet(node.DefaultShards), nil, nil
	r.Holdups, r.Marked = nil, nil
	if n := proto.Size(encodeReport(&r)); n > 1<<10 {
		t.Errorf("a quiet status of %d shards has %d bytes, want at most 1,024", node.DefaultShards, n)
	}
	var page []node.ProxyReport
	for range node.MaxProxies {
		page = append(page, node.ProxyReport{Proxy: node.Proxy{ID: node.ProxyID(long), Addr: long, Cluster: long, Zone: long}, Claims: 1 << 40})
	}
	n := 0
	for _, p := range page {
		n += proto.Size(encodeProxyReport(p))
	}
	if n > MaxMessageBytes/4 {
		t.Errorf("a page of proxies has %d bytes, want at most %d", n, MaxMessageBytes/4)
	}
	if diff := cmp.Diff(r.Params, encodeDecode(t, &r).Params); diff != "" {
		t.Errorf("parameters changed on the wire:\n%s", diff)
	}
}

func encodeDecode(t *testing.T, r *node.Report) node.Report {
	t.Helper()
	got, err := decodeReport(encodeReport(r))
	if err != nil {
		t.Fatal(err)
	}
	return got
}
