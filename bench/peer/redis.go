package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/trackerpool/trackerpool/bench/load"
	"github.com/trackerpool/trackerpool/internal/freeport"
)

// TTLs in seconds: one that outlasts a run, and one that Keep renews as often as the
// tracker renews leases.
const (
	longTTL  = "3600"
	shortTTL = "10"
)

// A resp is a server with Redis' protocol, which keeps a key for each node whose value
// is its proxy.
type resp struct {
	textServer
	name, program string
}

// NewRedis and NewValkey return peers without persistence, and else as they come.
func NewRedis(dir string, ids []string) Peer  { return newResp("redis", "redis-server", dir, ids) }
func NewValkey(dir string, ids []string) Peer { return newResp("valkey", "valkey-server", dir, ids) }

func newResp(name, program, dir string, ids []string) *resp {
	set, get, expire := "SET", "GET", "EXPIRE"
	return &resp{name: name, program: program, textServer: textServer{server{ids: ids, dir: dir}, dialect{
		add: func(out, want []byte, nodes []uint32) ([]byte, []byte) {
			for _, i := range nodes {
				out = appendCommand(out, set, ids[i], proxyName(i), "EX", longTTL)
				want = append(want, "+OK\r\n"...)
			}
			return out, want
		},
		lookup: func(out, want []byte, nodes []uint32) ([]byte, []byte) {
			for _, i := range nodes {
				out = appendCommand(out, get, ids[i])
				want = appendBulk(want, proxyName(i))
			}
			return out, want
		},
		together: func(out, want []byte, nodes []uint32) ([]byte, []byte) {
			out = appendHead(out, '*', 1+len(nodes))
			out = appendBulk(out, "MGET")
			want = appendHead(want, '*', len(nodes))
			for _, i := range nodes {
				out = appendBulk(out, ids[i])
				want = appendBulk(want, proxyName(i))
			}
			return out, want
		},
		keep: func(out, want []byte, nodes []uint32) ([]byte, []byte) {
			for _, i := range nodes {
				out = appendCommand(out, expire, ids[i], shortTTL)
				want = append(want, ":1\r\n"...)
			}
			return out, want
		},
	}}}
}

func appendHead(b []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(b, kind), int64(n), 10), "\r\n"...)
}

func appendBulk(b []byte, text string) []byte {
	return append(append(appendHead(b, '$', len(text)), text...), "\r\n"...)
}

func appendCommand(b []byte, words ...string) []byte {
	b = appendHead(b, '*', len(words))
	for _, w := range words {
		b = appendBulk(b, w)
	}
	return b
}

func (r *resp) Name() string { return r.name }

func (r *resp) Modes() Modes {
	return Modes{"pipelined SET EX", "pipelined GET", "MGET", "pipelined EXPIRE of each key"}
}

func (r *resp) Version(ctx context.Context) string {
	return firstLine(ctx, r.program, "--version") + "; --save '' --appendonly no"
}

func (r *resp) Start(ctx context.Context) error {
	return r.run(ctx, r.program, func(port string) []string {
		return []string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", r.dir}
	})
}

func (r *resp) Count(ctx context.Context) (int, error) {
	said, err := r.ask(ctx, "DBSIZE", "\r\n")
	if err != nil {
		return 0, err
	}
	var n int
	_, err = fmt.Sscanf(said, ":%d\r\n", &n)
	return n, err
}

func (r *resp) Live(ctx context.Context) (int64, error) {
	said, err := r.ask(ctx, "INFO memory", "\r\n\r\n")
	if err != nil {
		return 0, err
	}
	return figure(said, "used_memory")
}

// flushDelay is what the documentation of rueidis names to have it gather more.
const flushDelay = 20 * time.Microsecond

// Callers are rueidis clients, which put into one pipeline what their callers ask at
// the same time: as it comes, and set up to gather the most.
func (r *resp) Callers(context.Context) ([]*Shared, error) {
	plain, err := r.rueidis("rueidis", rueidis.ClientOption{})
	if err != nil {
		return nil, err
	}
	gathering, err := r.rueidis("rueidis, 1 connection, MaxFlushDelay 20 µs", rueidis.ClientOption{PipelineMultiplex: -1, MaxFlushDelay: flushDelay})
	if err != nil {
		plain.Close()
		return nil, err
	}
	return []*Shared{plain, gathering}, nil
}

// rueidis returns a client without a cache.
func (r *resp) rueidis(mode string, o rueidis.ClientOption) (*Shared, error) {
	var writes atomic.Int64
	o.InitAddress, o.DisableCache = []string{loopback(r.port)}, true
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
		conn, err := d.DialContext(ctx, "tcp", addr)
		return countedConn{conn, &writes}, err
	}
	client, err := rueidis.NewClient(o)
	if err != nil {
		return nil, err
	}
	return &Shared{
		Mode: mode,
		Lookup: func(i uint32) error {
			proxy, err := client.Do(context.Background(), client.B().Get().Key(r.ids[i]).Build()).ToString()
			if err == nil && proxy != proxyName(i) {
				err = fmt.Errorf("node %s is at %q, not at %s", r.ids[i], proxy, proxyName(i))
			}
			return err
		},
		Writes: writes.Load,
		Close:  client.Close,
	}, nil
}

// A countedConn counts how often it is written to.
type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// An olric is a cluster of one server, with the same protocol and other commands.
type olric struct{ resp }

// NewOlric returns a peer with one member and one DMap.
func NewOlric(dir string, ids []string) Peer {
	o := &olric{*newResp("olric", "olric-server", dir, ids)}
	const dmap = "n"
	o.add = func(out, want []byte, nodes []uint32) ([]byte, []byte) {
		for _, i := range nodes {
			out = appendCommand(out, "DM.PUT", dmap, ids[i], proxyName(i), "EX", longTTL)
			want = append(want, "+OK\r\n"...)
		}
		return out, want
	}
	o.lookup = func(out, want []byte, nodes []uint32) ([]byte, []byte) {
		for _, i := range nodes {
			out = appendCommand(out, "DM.GET", dmap, ids[i])
			want = appendBulk(want, proxyName(i))
		}
		return out, want
	}
	o.keep = func(out, want []byte, nodes []uint32) ([]byte, []byte) {
		for _, i := range nodes {
			out = appendCommand(out, "DM.EXPIRE", dmap, ids[i], shortTTL)
			want = append(want, "+OK\r\n"...)
		}
		return out, want
	}
	o.together = nil
	return o
}

func (o *olric) Modes() Modes {
	return Modes{Add: "pipelined DM.PUT EX", Lookup: "pipelined DM.GET", Keep: "pipelined DM.EXPIRE of each key"}
}

func (o *olric) Version(ctx context.Context) string {
	return "olric-server " + olricVersion + "; one member, 271 partitions"
}

// olricVersion is that of olric/go.mod.
const olricVersion = "v0.7.0"

const olricConfig = `server:
  bindAddr: 127.0.0.1
  bindPort: %d
  keepAlivePeriod: 300s
  bootstrapTimeout: 10s
  partitionCount: 271
  replicaCount: 1
  writeQuorum: 1
  readQuorum: 1
  memberCountQuorum: 1
  routingTablePushInterval: 1m
client:
  dialTimeout: 5s
  readTimeout: 10s
  writeTimeout: 10s
logging:
  verbosity: 1
  level: ERROR
  output: stderr
memberlist:
  environment: local
  bindAddr: 127.0.0.1
  bindPort: %d
`

func (o *olric) Start(ctx context.Context) error {
	path, err := exec.LookPath(o.program)
	if err != nil {
		return fmt.Errorf("%s: %w", o.program, ErrMissing)
	}
	ports, err := freeport.Ports(2)
	if err != nil {
		return err
	}
	o.port = ports[0]
	config := filepath.Join(o.dir, "olric.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, olricConfig, ports[0], ports[1]), 0o666); err != nil {
		return err
	}
	if o.proc, err = start(o.dir, path, "-c", config); err != nil {
		return err
	}
	return o.proc.ready(ctx, func() error {
		c, err := o.Dial(ctx, 0, ToAdd)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Add([]uint32{0}) // connections are taken before there is a cluster
	})
}

// Count looks every node up: what the server tells of itself is by partition.
func (o *olric) Count(ctx context.Context) (int, error) {
	conns, err := DialAll(ctx, load.Proxies, ToLookup, o.Dial)
	if err != nil {
		return 0, err
	}
	defer CloseAll(conns)
	done, err := load.Drive(ctx, load.Plan{Workers: len(conns), Batch: loadBatch}, load.Homed(len(o.ids), len(conns)),
		func(w int, nodes []uint32) error { return conns[w].Lookup(nodes) })
	return int(done.Nodes), err
}

// Live returns 0: the server does not tell.
func (o *olric) Live(context.Context) (int64, error) { return 0, nil }

// Callers refuses: rueidis asks for commands that the server does not have.
func (o *olric) Callers(context.Context) ([]*Shared, error) { return nil, errors.ErrUnsupported }
