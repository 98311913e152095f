package peer

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// A unaryConn makes one stock unary call for each node. Unlike other connections it
// may be used by several goroutines at a time.
type unaryConn struct {
	ids    []string
	conn   *grpc.ClientConn
	client pb.NodeTrackerClient
	prefix string // of proxies' names
}

// dialUnary connects to a server of NodeTracker as a generated client does; creds nil
// for plain text. Proxies' names begin with prefix.
func dialUnary(ctx context.Context, addr string, creds credentials.TransportCredentials, ids []string, prefix string) (*unaryConn, error) {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return nil, errors.Join(ctx.Err(), conn.Close())
		}
	}
	return &unaryConn{ids: ids, conn: conn, client: pb.NewNodeTrackerClient(conn), prefix: prefix}, nil
}

func (c *unaryConn) Close() { _ = c.conn.Close() } // nothing is under way

func (c *unaryConn) Add(nodes []uint32) error {
	for _, i := range nodes {
		name := c.prefix + proxyName(i)
		if _, err := c.client.AddNode(context.Background(), &pb.AddNodeRequest{NodeId: c.ids[i], ProxyId: name, ProxyAddr: proxyAddr}); err != nil {
			return err
		}
	}
	return nil
}

func (c *unaryConn) Lookup(nodes []uint32) error {
	for _, i := range nodes {
		r, err := c.client.GetProxies(context.Background(), &pb.GetProxiesRequest{NodeId: c.ids[i]})
		if err != nil {
			return err
		}
		if p := r.GetProxies(); len(p) != 1 || p[0].GetId() != c.prefix+proxyName(i) {
			return fmt.Errorf("node %s is %v at %v, not at %s", c.ids[i], r.GetAnswer(), p, c.prefix+proxyName(i))
		}
	}
	return nil
}

// proxyAddr is the address that proxies say they have.
const proxyAddr = "192.0.2.1:3022"
