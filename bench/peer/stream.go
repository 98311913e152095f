package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// A trackerConn has a session or a stream of lookups at a tracker, with batches of
// exactly the size that is asked for. It says nothing between two calls, so its stream
// ends after node.PingTimeout without any.
type trackerConn struct {
	tracker *tracker
	client  *rpc.Client
	view    ring.Fingerprint

	session node.Stream[*node.TrackerFrame, *node.ProxyFrame]
	seq     uint64
	sum     node.Sum

	find    node.Stream[*node.FindReply, *node.FindRequest]
	frame   uint64
	proxies []node.Proxy // by their numbers on the stream
}

func (c *trackerConn) Close() { _ = c.client.Close() } // nothing is under way

// Add makes claims, each for the first time, and returns when the tracker has stored
// them.
func (c *trackerConn) Add(nodes []uint32) error {
	var ops node.Ops = make([]byte, 0, 18*len(nodes)) // so many bytes has a UUID
	for _, i := range nodes {
		k := c.tracker.keys[i]
		ops = node.AppendAdd(ops, k, 0, 0)
		c.sum.AddClaim(k.Hash(), 0)
	}
	c.seq++
	seq := c.seq
	if err := c.session.Send(&node.ProxyFrame{Batch: &node.Batch{Seq: seq, Ops: ops}}); err != nil {
		return err
	}
	for {
		f, err := c.hear()
		if err != nil || f.Ack >= seq {
			return err
		}
	}
}

// hello begins the session of a proxy, and returns when it is welcome.
func (c *trackerConn) hello(proxy node.ProxyID) error {
	s, err := c.client.Session(context.Background())
	if err != nil {
		return err
	}
	c.session = s
	now := uint64(time.Now().UnixNano())
	err = s.Send(&node.ProxyFrame{Hello: &node.Hello{
		Proxy:       node.Proxy{ID: proxy, Addr: proxyAddr},
		Incarnation: node.Incarnation{Number: now / 1e6, Random: now},
		HasClaims:   true,
	}})
	if err != nil {
		return err
	}
	for {
		f, err := c.hear()
		if err != nil || f.Welcome != nil {
			return err
		}
	}
}

// hear returns the next frame of the session. A nonce in it is answered.
func (c *trackerConn) hear() (*node.TrackerFrame, error) {
	f, err := c.session.Recv()
	switch {
	case err != nil:
		return nil, err
	case f.End != nil:
		return nil, fmt.Errorf("the tracker ended the session: %v %s", f.End.Reason, f.End.Detail)
	case f.Differ != nil:
		return nil, errors.New("the tracker has other claims than were sent")
	case f.Nonce != 0:
		c.seq++
		err = c.session.Send(&node.ProxyFrame{Renew: &node.Renew{Seq: c.seq, Nonce: f.Nonce, HasClaims: true, Sum: c.sum, View: c.view}})
	}
	return f, err
}

func (c *trackerConn) Lookup(nodes []uint32) error {
	var ids node.IDs = make([]byte, 0, 17*len(nodes))
	for _, i := range nodes {
		ids = node.AppendID(ids, c.tracker.keys[i])
	}
	c.frame++
	if err := c.find.Send(&node.FindRequest{Frame: c.frame, View: c.view, IDs: ids}); err != nil {
		return err
	}
	for {
		r, err := c.find.Recv()
		if err != nil {
			return err
		}
		if r.Reset {
			c.proxies = nil
		}
		c.proxies = append(c.proxies, r.Proxies...)
		if r.Frame == c.frame {
			return c.check(nodes, r.Answers)
		}
	}
}

func (c *trackerConn) check(nodes []uint32, answers node.Answers) error {
	cursor := answers.Cursor()
	var a node.Answered
	for _, i := range nodes {
		if !cursor.Next(&a) {
			return fmt.Errorf("an answer is missing (%v)", cursor.Err())
		}
		if a.Answer != node.Found || len(a.Claims) != 1 || string(c.proxies[a.Claims[0].Proxy].ID) != proxyName(i) {
			return fmt.Errorf("node %s is %v at %v, not at %s", c.tracker.ids[i], a.Answer, a.Claims, proxyName(i))
		}
	}
	return nil
}
