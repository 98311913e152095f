package rpc

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

const (
	// The most bytes that a packed field with as many records as are allowed can
	// have. The cursors count the records; this is for refusing early.
	maxIDs    = node.MaxFind * (1 + node.MaxIDBytes)
	maxOps    = node.MaxChunk * maxOp
	maxChunks = node.MaxChunk*maxOp + maxShards*maxSection

	maxOp      = 1 + 10 + 5 + 1 + node.MaxIDBytes // flags, generation, age, ID
	maxSection = 3 + 1 + 2                        // shard, flags, number of claims
	maxShards  = 1 << 16

	// maxReasons is more than the reasons there are. Each may have a set of shards,
	// which is short on the wire and long in memory.
	maxReasons = 16

	// maxTime is the longest age or time left, so that adding it to a time does not
	// overflow.
	maxTime = 100 * 365 * 24 * time.Hour
)

// A decoder turns messages into what node and lease call them. It keeps the first
// error and goes on with zeros, so that a whole message reads as one expression.
type decoder struct {
	shards int // of the pool; 0 while that is not known
	err    error
}

func (d *decoder) fail(field, value, format string, args ...any) {
	if d.err == nil {
		d.err = &node.InvalidError{Field: field, Value: shorten(value), Problem: fmt.Sprintf(format, args...)}
	}
}

func (d *decoder) keep(err error) {
	if d.err == nil {
		d.err = err
	}
}

// result returns v, or the zero value and the first error.
func result[T any](d *decoder, v T) (T, error) {
	if d.err != nil {
		var zero T
		return zero, d.err
	}
	return v, nil
}

func (d *decoder) nodeID(id string) node.ID {
	_, err := node.ParseID(node.ID(id))
	d.keep(err)
	return node.ID(id)
}

func (d *decoder) nodeIDs(field string, ids []string) []node.ID {
	if len(ids) > node.MaxChunk {
		d.fail(field, strconv.Itoa(len(ids)), "IDs are too many; the most is %d", node.MaxChunk)
		return nil
	}
	return convert(ids, d.nodeID)
}

func (d *decoder) proxyID(id string) node.ProxyID {
	d.keep(checkProxyID(id))
	return node.ProxyID(id)
}

// checkProxyID holds a proxy's ID to the rule of a node's.
func checkProxyID(id string) error {
	_, err := node.ParseID(node.ID(id))
	if invalid, ok := errors.AsType[*node.InvalidError](err); ok {
		return &node.InvalidError{Field: "proxy_id", Value: invalid.Value, Problem: invalid.Problem}
	}
	return err
}

// proxy decodes what a proxy says of itself, or a tracker stores.
func (d *decoder) proxy(m *pb.Proxy) node.Proxy {
	p := decodeProxy(m)
	d.keep(node.CheckProxy(p))
	return p
}

func (d *decoder) age(field string, ns int64) time.Duration {
	if ns < 0 || ns > int64(maxTime) {
		d.fail(field, time.Duration(ns).String(), "is out of range; give 0 to %v", maxTime)
		return 0
	}
	return time.Duration(ns)
}

// left decodes a time left, which may have just passed.
func (d *decoder) left(field string, ns int64) time.Duration {
	if ns < -int64(maxTime) || ns > int64(maxTime) {
		d.fail(field, time.Duration(ns).String(), "is out of range; give %v to %v", -maxTime, maxTime)
		return 0
	}
	return time.Duration(ns)
}

func (d *decoder) packed(field string, b []byte, most int) []byte {
	if len(b) > most {
		d.fail(field, strconv.Itoa(len(b)), "bytes are too many; the most is %d: send several messages", most)
	}
	return b
}

func (d *decoder) shardSet(field string, b []byte) ring.ShardSet {
	if d.shards == 0 {
		d.fail(field, strconv.Itoa(len(b)), "bytes came before the number of shards was known; the Welcome goes first")
		return nil
	}
	s, err := ring.ShardSetFromBytes(b, d.shards)
	if err != nil {
		d.fail(field, strconv.Itoa(len(b)), "bytes: %v", err)
	}
	return s
}

func (d *decoder) shard(field string, n uint32) ring.Shard {
	most := d.shards
	if most == 0 {
		most = maxShards
	}
	if n >= uint32(most) {
		d.fail(field, strconv.FormatUint(uint64(n), 10), "is not a shard; they are 0 to %d", most-1)
		return 0
	}
	return ring.Shard(n)
}

func (d *decoder) sums(field string, m *pb.ShardSums) []node.ShardSum {
	shards, counts, sums := m.GetShards(), m.GetCounts(), m.GetSums()
	if len(shards) != len(counts) || len(shards) != len(sums) {
		d.fail(field, fmt.Sprintf("%d, %d, %d", len(shards), len(counts), len(sums)),
			"shards, counts and sums differ in length; give one of each for a shard")
		return nil
	}
	if len(shards) > maxShards {
		d.fail(field, strconv.Itoa(len(shards)), "sums are too many; the most is %d", maxShards)
		return nil
	}
	if len(shards) == 0 {
		return nil
	}
	out := make([]node.ShardSum, len(shards))
	for i, s := range shards {
		out[i] = node.ShardSum{Shard: d.shard(field, s), Sum: node.Sum{Count: counts[i], Sum: sums[i]}}
	}
	return out
}

func encodeSums(sums []node.ShardSum) *pb.ShardSums {
	if len(sums) == 0 {
		return nil
	}
	m := &pb.ShardSums{
		Shards: make([]uint32, len(sums)),
		Counts: make([]uint64, len(sums)),
		Sums:   make([]uint64, len(sums)),
	}
	for i, s := range sums {
		m.Shards[i], m.Counts[i], m.Sums[i] = uint32(s.Shard), s.Sum.Count, s.Sum.Sum
	}
	return m
}

func (d *decoder) params(m *pb.Params) ring.Params {
	p := ring.Params{Shards: int(m.GetShards()), Replicas: int(m.GetReplicas())}
	if p.Shards < 1 || p.Shards > maxShards {
		d.fail("shards", strconv.Itoa(p.Shards), "is out of range; give 1 to %d", maxShards)
	}
	if p.Replicas < 1 || p.Replicas > 15 {
		d.fail("replicas", strconv.Itoa(p.Replicas), "is out of range; give 1 to 15")
	}
	// An algorithm that this code does not know is no fault: it need not place
	// anything.
	if n := m.GetAlgorithm(); n < 1 || n > math.MaxUint8 {
		d.fail("algorithm", strconv.FormatUint(uint64(n), 10), "is out of range; give 1 to %d", math.MaxUint8)
		return p
	}
	p.Algorithm = uint8(m.GetAlgorithm())
	return p
}

func encodeParams(p ring.Params) *pb.Params {
	return &pb.Params{Algorithm: uint32(p.Algorithm), Shards: uint32(p.Shards), Replicas: uint32(p.Replicas)}
}

func (d *decoder) memberID(id string) ring.MemberID {
	if len(id) == 0 || len(id) > 63 {
		d.fail("member_id", id, "has %d bytes; give 1 to 63", len(id))
	}
	return ring.MemberID(id)
}

func (d *decoder) process(m *pb.Process) lease.Process {
	return lease.Process{ID: d.memberID(m.GetId()), Boot: m.GetBoot()}
}

func encodeProcess(p lease.Process) *pb.Process { return &pb.Process{Id: string(p.ID), Boot: p.Boot} }

func decodeIncarnation(m *pb.Incarnation) lease.Incarnation {
	return lease.Incarnation{Number: m.GetNumber(), Random: m.GetRandom()}
}

// encodeIncarnation leaves nobody's incarnation out.
func encodeIncarnation(i lease.Incarnation) *pb.Incarnation {
	if i.IsZero() {
		return nil
	}
	return &pb.Incarnation{Number: i.Number, Random: i.Random}
}

func decodeProxy(m *pb.Proxy) node.Proxy {
	return node.Proxy{
		ID:      node.ProxyID(m.GetId()),
		Addr:    m.GetAddr(),
		Cluster: m.GetClusterName(),
		Zone:    m.GetZone(),
	}
}

func encodeProxy(p node.Proxy) *pb.Proxy {
	return &pb.Proxy{Id: string(p.ID), Addr: p.Addr, ClusterName: p.Cluster, Zone: p.Zone}
}

func encodeViewSums(v node.ViewSums) *pb.ViewSums {
	return &pb.ViewSums{Fingerprint: uint64(v.Fingerprint), Sum: v.Sum}
}

func decodeViewSums(m *pb.ViewSums) node.ViewSums {
	return node.ViewSums{Fingerprint: ring.Fingerprint(m.GetFingerprint()), Sum: m.GetSum()}
}

// convert maps a slice; none stays nil.
func convert[In, Out any](in []In, f func(In) Out) []Out {
	if len(in) == 0 {
		return nil
	}
	out := make([]Out, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

// texts and named turn slices of named strings into plain ones and back.
func texts[S ~string](in []S) []string { return convert(in, func(s S) string { return string(s) }) }

func named[S ~string](in []string) []S { return convert(in, func(s string) S { return S(s) }) }

// shorten cuts a value to what an error message may carry.
func shorten(value string) string {
	const most = 64
	if len(value) <= most {
		return value
	}
	return value[:most] + "..."
}
