package peer

import (
	"context"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/bench/load"
	"github.com/trackerpool/trackerpool/internal/freeport"
	"github.com/trackerpool/trackerpool/rpc"
)

// A protoserver is the prototype as a process.
type protoserver struct {
	server
	certs *keyring // nil for plain text
	name  string
	admin int
}

// NewPrototype returns the prototype, in plain text as it was or with mutual TLS as the
// tracker has it.
func NewPrototype(dir string, ids []string, secure bool) (Peer, error) {
	p := &protoserver{name: "prototype", server: server{ids: ids, dir: dir}}
	if !secure {
		return p, nil
	}
	p.name = "prototype, mTLS"
	var err error
	p.certs, err = makeKeys(dir)
	return p, err
}

func (p *protoserver) Name() string { return p.name }

func (p *protoserver) Modes() Modes {
	return Modes{Add: "unary AddNode", Lookup: "unary GetProxies", Keep: "one AddNode for each proxy"}
}

func (p *protoserver) Version(context.Context) string { return "bench/prototype" }

func (p *protoserver) Start(ctx context.Context) error {
	ports, err := freeport.Ports(1)
	if err != nil {
		return err
	}
	p.admin = ports[0]
	return p.run(ctx, "prototype", func(port string) []string {
		args := []string{"--listen-addr", "127.0.0.1:" + port, "--admin-addr", loopback(p.admin)}
		if p.certs != nil {
			args = append(args, "--cert-file", p.certs.server.CertFile, "--key-file", p.certs.server.KeyFile, "--ca-file", p.certs.authority.CAFile())
		}
		return args
	})
}

func (p *protoserver) Dial(ctx context.Context, i int, _ Use) (Conn, error) {
	var creds rpc.Credentials
	if p.certs != nil {
		var err error
		if creds, err = p.certs.client(access.Proxy, proxyName(uint32(i))); err != nil {
			return nil, err
		}
	}
	c, err := dialUnary(ctx, loopback(p.port), creds, p.ids, "")
	if err != nil {
		return nil, err
	}
	return c, nil
}

// unaryInFlight is how many unary calls each of ten connections has under way where
// only the result matters.
const unaryInFlight = 16

// Load adds the nodes by many calls at a time.
func (p *protoserver) Load(ctx context.Context) error {
	conns, err := DialAll(ctx, load.Proxies, ToAdd, p.Dial)
	if err != nil {
		return err
	}
	defer CloseAll(conns)
	workers := unaryInFlight * len(conns)
	_, err = load.Drive(ctx, load.Plan{Workers: workers, Batch: 1}, load.Homed(len(p.ids), workers),
		func(w int, nodes []uint32) error { return conns[w%len(conns)].Add(nodes) })
	return err
}

// Renew adds one node of each proxy again, which is all that the prototype wants.
func (p *protoserver) Renew(ctx context.Context) error {
	c, err := p.Dial(ctx, 0, ToAdd)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range uint32(load.Proxies) {
		if err := c.Add([]uint32{i}); err != nil {
			return err
		}
	}
	return nil
}

func (p *protoserver) figure(ctx context.Context, name string) (int64, error) {
	text, err := get(ctx, "http://"+loopback(p.admin)+"/figures")
	if err != nil {
		return 0, err
	}
	return figure(text, name)
}

func (p *protoserver) Count(ctx context.Context) (int, error) {
	n, err := p.figure(ctx, "nodes")
	return int(n), err
}

func (p *protoserver) Live(ctx context.Context) (int64, error) { return p.figure(ctx, "heap") }
