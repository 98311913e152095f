package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

const (
	// parallel is how many unary calls one Add or Remove has under way.
	parallel = 16

	// maxFaults is how many errors one Add or Remove joins; more say the same.
	maxFaults = 8

	dialBackoff    = 50 * time.Millisecond
	maxDialBackoff = time.Second
	// dialTimeout is how long one attempt to connect may take. gRPC's own 20 s would
	// keep a tracker that came back away for as long.
	dialTimeout = 3 * time.Second
)

// A Client is a connection to one tracker, safe for concurrent use. It connects
// when it is first used, and again when the connection breaks.
//
// Its errors are those of package node; besides, status.Code of gRPC works on
// them. Where nobody answers they are ErrUnavailable, after Close ErrClosed.
type Client struct {
	addr     string
	shards   int
	conn     *grpc.ClientConn
	tracker  pb.NodeTrackerClient
	peering  pb.PeeringClient
	operator pb.OperatorClient
	finder   *Finder
	observe  func(context.Context) func(error) // of WithFindObserver; nil: nobody
	closed   atomic.Bool
}

var (
	_ node.Directory = (*Client)(nil)
	_ node.Peer      = (*Client)(nil)
)

type options struct {
	dial    func(ctx context.Context, addr string) (net.Conn, error)
	shards  int
	finder  FinderConfig
	tracker ring.MemberID
	stats   stats.Handler
	observe func(context.Context) func(error)
}

// An Option changes how Dial connects.
type Option func(*options)

// WithDialer connects through dial instead of by TCP.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// WithShards says how many shards the pool has, 1 to 65536. Copies needs it; a
// session is told by its Welcome.
func WithShards(n int) Option { return func(o *options) { o.shards = n } }

// WithTracker says which tracker is dialed: with credentials that look at identities
// no other one's certificate will do.
func WithTracker(id ring.MemberID) Option { return func(o *options) { o.tracker = id } }

// WithFinder changes how Find gathers lookups.
func WithFinder(cfg FinderConfig) Option { return func(o *options) { o.finder = cfg } }

// Dial returns a client of the tracker at addr, host:port. It does not wait for a
// connection. creds come from ClientCredentials or Insecure. The caller closes the
// client.
func Dial(addr string, creds Credentials, opts ...Option) (*Client, error) {
	if creds == nil {
		return nil, fmt.Errorf("dial tracker %s: no credentials are given; use ClientCredentials, or Insecure for plain text", addr)
	}
	o := options{dial: dialTCP}
	for _, opt := range opts {
		opt(&o)
	}
	if o.shards < 0 || o.shards > maxShards {
		return nil, fmt.Errorf("dial tracker %s: shards %d: choose 1 to %d", addr, o.shards, maxShards)
	}
	dialOptions := []grpc.DialOption{
		grpc.WithTransportCredentials(forTracker(creds, string(o.tracker))),
		grpc.WithContextDialer(o.dial),
		grpc.WithReadBufferSize(bufferBytes),
		grpc.WithWriteBufferSize(bufferBytes),
		// As the server's. Windows that grow would cost a ping of HTTP/2, and its
		// answer, with each message that comes.
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithIdleTimeout(0), // idle is when a connection is wanted ready
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: dialBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxDialBackoff},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		grpc.WithDisableServiceConfig(),
	}
	if o.stats != nil {
		dialOptions = append(dialOptions, grpc.WithStatsHandler(newUnaryStats(o.stats)))
	}
	// passthrough leaves host names to the dialer, which looks them up at each
	// attempt: a tracker that came back may have another address.
	conn, err := grpc.NewClient("passthrough:///"+addr, dialOptions...)
	if err != nil {
		return nil, fmt.Errorf("dial tracker %s: %w", addr, err)
	}
	c := &Client{
		addr:     addr,
		shards:   o.shards,
		conn:     conn,
		tracker:  pb.NewNodeTrackerClient(conn),
		peering:  pb.NewPeeringClient(conn),
		operator: pb.NewOperatorClient(conn),
		observe:  o.observe,
	}
	c.finder = NewFinder(c.FindStream, o.finder)
	return c, nil
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// Addr returns the address that was dialed.
func (c *Client) Addr() string { return c.addr }

// Close ends the connection and everything on it, and waits for the client's
// goroutines.
func (c *Client) Close() error {
	again := c.closed.Swap(true)
	c.finder.Close()
	if again {
		return nil
	}
	if err := c.conn.Close(); err != nil {
		return fmt.Errorf("close connection to tracker %s: %w", c.addr, err)
	}
	return nil
}

// failed makes an error of gRPC one of node.
func (c *Client) failed(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if c.closed.Load() && (status.Code(err) == codes.Canceled || status.Code(err) == codes.Unavailable) {
		return fmt.Errorf("tracker %s: %w", c.addr, node.ErrClosed)
	}
	return decodeError(c.addr, err)
}

// checkNode finds here what the tracker would refuse, where text that is not UTF-8
// cannot even be sent.
func checkNode(id node.ID, other error) error {
	if _, err := node.ParseID(id); err != nil {
		return err
	}
	return other
}

// AddNode makes a unary claim; see node.Service.
func (c *Client) AddNode(ctx context.Context, claim node.Claim) (node.Written, error) {
	if err := checkNode(claim.Node, node.CheckProxy(claim.Proxy)); err != nil {
		return node.Written{}, err
	}
	m, err := c.tracker.AddNode(ctx, encodeClaim(claim))
	if err != nil {
		return node.Written{}, c.failed(err)
	}
	return node.Written{Copies: int(m.GetCopies()), Replicas: int(m.GetReplicas()), Counted: m.GetCounted()}, nil
}

// RemoveNode removes a node's claim of one proxy, or with an empty proxy ID of
// all; see node.Service.
func (c *Client) RemoveNode(ctx context.Context, id node.ID, proxy node.ProxyID) (node.Removed, error) {
	var fault error
	if proxy != "" {
		fault = node.CheckProxyID(proxy)
	}
	if err := checkNode(id, fault); err != nil {
		return node.Removed{}, err
	}
	m, err := c.tracker.RemoveNode(ctx, &pb.RemoveNodeRequest{NodeId: string(id), ProxyId: string(proxy)})
	if err != nil {
		return node.Removed{}, c.failed(err)
	}
	return node.Removed{
		Claims:   int(m.GetRemoved()),
		Kept:     named[node.ProxyID](m.GetKept()),
		Copies:   int(m.GetCopies()),
		Replicas: int(m.GetReplicas()),
	}, nil
}

// GetProxies looks a node up in the whole pool; with Unknown the claims are hints.
func (c *Client) GetProxies(ctx context.Context, id node.ID) (node.Answer, []node.Claim, error) {
	if err := checkNode(id, nil); err != nil {
		return node.Unknown, nil, err
	}
	m, err := c.tracker.GetProxies(ctx, &pb.GetProxiesRequest{NodeId: string(id)})
	if err != nil {
		return node.Unknown, nil, c.failed(err)
	}
	answer, claims := decodeClaims(id, m)
	return answer, claims, nil
}

// RemoveProxy ends the lives of a proxy up to the one of that number, or up to the
// highest heard of for 0.
func (c *Client) RemoveProxy(ctx context.Context, proxy node.ProxyID, number uint64) error {
	if err := node.CheckProxyID(proxy); err != nil {
		return err
	}
	_, err := c.tracker.RemoveProxy(ctx, &pb.RemoveProxyRequest{ProxyId: string(proxy), Incarnation: number})
	return c.failed(err)
}

// View returns the view of a fingerprint that the tracker keeps, or its present one
// for 0. The error is ErrUnknownView where it has none such.
func (c *Client) View(ctx context.Context, fp ring.Fingerprint) (node.ViewInfo, error) {
	m, err := c.tracker.GetView(ctx, &pb.GetViewRequest{Fingerprint: uint64(fp)})
	if err != nil {
		return node.ViewInfo{}, c.failed(err)
	}
	return decodeView(m)
}

// WatchView calls changed at once and whenever the tracker's view changes, until
// ctx ends, the tracker does, or changed fails.
func (c *Client) WatchView(ctx context.Context, changed func(node.ViewSums) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := c.tracker.WatchView(ctx, &pb.WatchViewRequest{})
	if err != nil {
		return c.failed(err)
	}
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("tracker %s: %w: it ended the watch of its view", c.addr, node.ErrUnavailable)
		}
		if err != nil {
			return c.failed(err)
		}
		if err := changed(decodeViewSums(m)); err != nil {
			return err
		}
	}
}

// Add makes unary claims, or renews them; see node.Directory.
func (c *Client) Add(ctx context.Context, claims ...node.Claim) error {
	return each(len(claims), node.ErrNotCounted, func(i int) error {
		w, err := c.AddNode(ctx, claims[i])
		switch {
		case err != nil:
			return fmt.Errorf("add node %q: %w", claims[i].Node, err)
		case !w.Counted:
			return node.ErrNotCounted
		}
		return nil
	})
}

// Remove takes back a proxy's unary claims; see node.Directory.
func (c *Client) Remove(ctx context.Context, proxy node.ProxyID, ids ...node.ID) error {
	if err := checkProxyID(string(proxy)); err != nil {
		return err // to RemoveNode an empty one means all proxies
	}
	return each(len(ids), node.ErrNotRemoved, func(i int) error {
		r, err := c.RemoveNode(ctx, ids[i], proxy)
		switch {
		case err != nil:
			return fmt.Errorf("remove node %q: %w", ids[i], err)
		case r.Copies < r.Replicas || len(r.Kept) > 0:
			return node.ErrNotRemoved
		}
		return nil
	})
}

// Lookup is GetProxies.
func (c *Client) Lookup(ctx context.Context, id node.ID) (node.Answer, []node.Claim, error) {
	return c.GetProxies(ctx, id)
}

// each calls do for 0 to n-1, several at a time. It returns partial if some calls
// returned that and all others nil, and else the other errors, joined: a caller
// must not take a claim that failed for one that is only partly done.
func each(n int, partial error, do func(i int) error) error {
	var (
		mu     sync.Mutex // guards the rest
		short  bool
		faults []error
		group  errgroup.Group
	)
	group.SetLimit(parallel)
	for i := range n {
		group.Go(func() error {
			err := do(i)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, partial):
				short = true
			case err != nil && len(faults) < maxFaults:
				faults = append(faults, err)
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return nil
	if faults == nil && short {
		return partial
	}
	return errors.Join(faults...)
}

// Session opens a session. It lasts until the tracker or ctx ends it: cancel ctx
// when it is no longer used.
func (c *Client) Session(ctx context.Context) (node.Stream[*node.TrackerFrame, *node.ProxyFrame], error) {
	st, err := c.tracker.Session(ctx)
	if err != nil {
		return nil, c.failed(err)
	}
	var codec sessionCodec
	return &stream[*node.TrackerFrame, *node.ProxyFrame, pb.TrackerFrame, pb.ProxyFrame]{
		wire: st, decode: codec.decodeTrackerFrame, encode: codec.encodeProxyFrame, failed: c.failed,
	}, nil
}

// FindStream opens a stream of lookups, which lasts as Session's. Find is easier
// to use.
func (c *Client) FindStream(ctx context.Context) (node.Stream[*node.FindReply, *node.FindRequest], error) {
	st, err := c.tracker.Find(ctx)
	if err != nil {
		return nil, c.failed(err)
	}
	return &stream[*node.FindReply, *node.FindRequest, pb.FindReply, pb.FindRequest]{
		wire: st, decode: decodeFindReply, encode: encodeFindRequest, failed: c.failed,
	}, nil
}

// Seat opens a stream to a seat, which lasts as Session's.
func (c *Client) Seat(ctx context.Context) (node.Stream[*lease.Word, *lease.Ask], error) {
	st, err := c.peering.Seat(ctx)
	if err != nil {
		return nil, c.failed(err)
	}
	return &stream[*lease.Word, *lease.Ask, pb.Word, pb.Ask]{
		wire: st, decode: decodeWord, encode: encodeAsk, failed: c.failed,
	}, nil
}

// Copies opens a stream of unary claims, which lasts as Session's. It needs
// WithShards.
func (c *Client) Copies(ctx context.Context) (node.Stream[*node.CopyReply, *node.CopyFrame], error) {
	if c.shards == 0 {
		return nil, fmt.Errorf("copies to tracker %s: the number of shards is not known; dial with WithShards", c.addr)
	}
	st, err := c.peering.Copies(ctx)
	if err != nil {
		return nil, c.failed(err)
	}
	decode := func(m *pb.CopyReply) (*node.CopyReply, error) { return decodeCopyReply(m, c.shards) }
	return &stream[*node.CopyReply, *node.CopyFrame, pb.CopyReply, pb.CopyFrame]{
		wire: st, decode: decode, encode: encodeCopyFrame, failed: c.failed,
	}, nil
}

// Store brings the tracker a unary claim.
func (c *Client) Store(ctx context.Context, r node.StoreRequest) (node.StoreReply, error) {
	m, err := c.peering.Store(ctx, encodeStoreRequest(r))
	if err != nil {
		return node.StoreReply{}, c.failed(err)
	}
	return decodeStoreReply(m), nil
}

// Forget brings the tracker a proxy's floor.
func (c *Client) Forget(ctx context.Context, proxy node.ProxyID, floor node.Incarnation) error {
	_, err := c.peering.Forget(ctx, &pb.ForgetRequest{ProxyId: string(proxy), Floor: encodeIncarnation(floor)})
	return c.failed(err)
}

// Stay asks the tracker whether another one that would leave may count on it.
func (c *Client) Stay(ctx context.Context) (node.Staying, error) {
	m, err := c.peering.Stay(ctx, &pb.StayRequest{})
	if err != nil {
		return node.Staying{}, c.failed(err)
	}
	return decodeStaying(m), nil
}

// Find asks this one tracker, in a batch with other callers' lookups; see
// Finder.Find.
func (c *Client) Find(ctx context.Context, k node.Key, view ring.Fingerprint) (node.FindResult, error) {
	if c.observe == nil {
		return c.finder.Find(ctx, k, view)
	}
	end := c.observe(ctx)
	r, err := c.finder.Find(ctx, k, view)
	if end != nil {
		end(err)
	}
	return r, err
}

// Finder returns the client's finder, which Find uses. Close closes it.
func (c *Client) Finder() *Finder { return c.finder }
