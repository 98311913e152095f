package rpc

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trackerpool/trackerpool/node"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
	"github.com/trackerpool/trackerpool/timing"
)

// Calls is what a server has served of one method since its start.
type Calls struct {
	Method string
	Class  string // what it is for: lookup, claim, view, pool (among trackers), operate, other

	Ended map[string]uint64 // by the name of the code, OK and so on; a stream when it ends
	Open  int64             // that run now

	// Took is of calls that are no streams; of Find it is of its batches, from the
	// receipt of one until its reply was handed to the connection.
	Took  timing.Snapshot
	Timed bool // there is such a time of this method
}

// classes are the methods that are counted by themselves. All others are one: what
// strangers call must not make counters.
var classes = map[string]string{
	pb.NodeTracker_Find_FullMethodName:        "lookup",
	pb.NodeTracker_GetProxies_FullMethodName:  "lookup",
	pb.NodeTracker_Session_FullMethodName:     "claim",
	pb.NodeTracker_AddNode_FullMethodName:     "claim",
	pb.NodeTracker_RemoveNode_FullMethodName:  "claim",
	pb.NodeTracker_RemoveProxy_FullMethodName: "claim",
	pb.NodeTracker_GetView_FullMethodName:     "view",
	pb.NodeTracker_WatchView_FullMethodName:   "view",
	pb.Peering_Seat_FullMethodName:            "pool",
	pb.Peering_Copies_FullMethodName:          "pool",
	pb.Peering_Store_FullMethodName:           "pool",
	pb.Peering_Forget_FullMethodName:          "pool",
	pb.Peering_Stay_FullMethodName:            "pool",
	pb.Operator_Status_FullMethodName:         "operate",
	pb.Operator_Proxies_FullMethodName:        "operate",
	pb.Operator_Explain_FullMethodName:        "operate",
	pb.Operator_Drain_FullMethodName:          "operate",
	pb.Operator_Debug_FullMethodName:          "operate",
}

// callCounts counts the calls of a server. It is safe for concurrent use.
type callCounts struct {
	methods map[string]*methodCounts // not modified
	other   methodCounts
}

type methodCounts struct {
	open  atomic.Int64
	ended [codes.Unauthenticated + 2]atomic.Uint64 // by code; the last is of those that gRPC does not have
	took  timing.Histogram
}

func newCallCounts() *callCounts {
	c := &callCounts{methods: make(map[string]*methodCounts, len(classes))}
	for name := range classes {
		c.methods[name] = new(methodCounts)
	}
	return c
}

// untimed are the streams of which nothing is timed.
var untimed = []string{
	pb.NodeTracker_Session_FullMethodName, pb.NodeTracker_WatchView_FullMethodName,
	pb.Peering_Seat_FullMethodName, pb.Peering_Copies_FullMethodName,
	pb.Operator_Drain_FullMethodName, pb.Operator_Debug_FullMethodName,
}

func (c *callCounts) of(method string) *methodCounts {
	if m := c.methods[method]; m != nil {
		return m
	}
	return &c.other
}

// refused counts a call that came to no interceptor.
func (c *callCounts) refused(method string, err error) {
	m := c.of(method)
	m.open.Add(1)
	m.end(err)
}

func (m *methodCounts) end(err error) {
	m.open.Add(-1)
	code := status.Code(err)
	m.ended[min(int(code), len(m.ended)-1)].Add(1)
}

// calls returns what was counted, in no order.
func (c *callCounts) calls() []Calls {
	all := make([]Calls, 0, len(c.methods)+1)
	for name, m := range c.methods {
		calls := m.calls(name[strings.LastIndexByte(name, '/')+1:], classes[name])
		calls.Timed = !slices.Contains(untimed, name)
		all = append(all, calls)
	}
	return append(all, c.other.calls("other", "other"))
}

func (m *methodCounts) calls(method, class string) Calls {
	s := Calls{Method: method, Class: class, Ended: map[string]uint64{}, Open: m.open.Load(), Took: m.took.Snapshot()}
	for code := range m.ended {
		if n := m.ended[code].Load(); n > 0 || code == int(codes.OK) {
			s.Ended[codes.Code(code).String()] = n
		}
	}
	return s
}

// stream goes before all other interceptors, so that what those refuse is counted.
func (c *callCounts) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	m := c.of(info.FullMethod)
	m.open.Add(1)
	err := handler(srv, s)
	m.end(err)
	return err
}

// A timedFind notes how long each batch of a stream of lookups takes. Batches are
// answered in the order in which they came, and a tracker has few in hand.
type timedFind struct {
	node.FindStream
	took *timing.Histogram

	mu    sync.Mutex // guards began: one goroutine receives, another sends
	began []time.Time
}

func (s *timedFind) Recv() (*node.FindRequest, error) {
	q, err := s.FindStream.Recv()
	if err == nil && q.Frame != 0 {
		now := time.Now()
		s.mu.Lock()
		s.began = append(s.began, now)
		s.mu.Unlock()
	}
	return q, err
}

func (s *timedFind) Send(r *node.FindReply) error {
	err := s.FindStream.Send(r)
	if err == nil && r.Frame != 0 {
		s.mu.Lock()
		if len(s.began) > 0 {
			s.took.Observe(time.Since(s.began[0]))
			s.began = append(s.began[:0], s.began[1:]...)
		}
		s.mu.Unlock()
	}
	return err
}
