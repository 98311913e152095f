package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/trackerpool/trackerpool/bench/load"
	"github.com/trackerpool/trackerpool/internal/freeport"
)

// An etcd is a cluster of one, its data in memory where the machine has a directory
// for that. There is a lease for each proxy. Batches are transactions.
type etcd struct {
	server

	mu     sync.Mutex // guards leases
	leases map[int]clientv3.LeaseID
}

// NewEtcd returns the peer.
func NewEtcd(dir string, ids []string) Peer { return &etcd{server: server{ids: ids, dir: dir}} }

func (e *etcd) Name() string { return "etcd" }

func (e *etcd) Modes() Modes {
	return Modes{Add: "Txn of Puts, a lease a proxy", Lookup: "Txn of serializable Gets", Keep: "KeepAlive of ten leases"}
}

func (e *etcd) Version(ctx context.Context) string {
	return firstLine(ctx, "etcd", "--version") + "; one member, data in " + filepath.Dir(e.data())
}

// data is where the data is kept.
func (e *etcd) data() string {
	if _, err := os.Stat("/dev/shm"); err == nil {
		return filepath.Join("/dev/shm", filepath.Base(filepath.Dir(e.dir))+"-etcd")
	}
	return filepath.Join(e.dir, "data")
}

func (e *etcd) Start(ctx context.Context) error {
	path, err := exec.LookPath("etcd")
	if err != nil {
		return fmt.Errorf("etcd: %w", ErrMissing)
	}
	ports, err := freeport.Ports(2)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(e.data()); err != nil {
		return err
	}
	e.port, e.leases = ports[0], make(map[int]clientv3.LeaseID)
	client, peers := "http://"+loopback(ports[0]), "http://"+loopback(ports[1])
	e.proc, err = start(e.dir, path, "--data-dir", e.data(), "--enable-pprof", "--logger", "zap", "--log-level", "error",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers,
		"--max-txn-ops", "1024", "--quota-backend-bytes", "8589934592")
	if err != nil {
		return err
	}
	return e.proc.ready(ctx, func() error {
		_, err := get(ctx, client+"/health")
		return err
	})
}

func (e *etcd) Stop() {
	e.server.Stop()
	_ = os.RemoveAll(e.data()) // Start tries again, and says so
}

func (e *etcd) open() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{loopback(e.port)}})
}

// lease returns the lease of a proxy.
func (e *etcd) lease(ctx context.Context, cl *clientv3.Client, proxy int) (clientv3.LeaseID, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if id, ok := e.leases[proxy]; ok {
		return id, nil
	}
	// The lock is held meanwhile: connections are opened one after another anyway.
	l, err := cl.Grant(ctx, 3600)
	if err != nil {
		return 0, err
	}
	e.leases[proxy] = l.ID
	return l.ID, nil
}

type etcdConn struct {
	ids    []string
	client *clientv3.Client
	lease  clientv3.LeaseID
}

func (e *etcd) Dial(ctx context.Context, i int, _ Use) (Conn, error) {
	cl, err := e.open()
	if err != nil {
		return nil, err
	}
	lease, err := e.lease(ctx, cl, i%load.Proxies)
	if err != nil {
		return nil, errors.Join(err, cl.Close())
	}
	return &etcdConn{e.ids, cl, lease}, nil
}

func (c *etcdConn) Close() { _ = c.client.Close() } // nothing is under way

func (c *etcdConn) Add(nodes []uint32) error {
	ops := make([]clientv3.Op, len(nodes))
	for at, i := range nodes {
		ops[at] = clientv3.OpPut(c.ids[i], proxyName(i), clientv3.WithLease(c.lease))
	}
	_, err := c.client.Txn(context.Background()).Then(ops...).Commit()
	return err
}

func (c *etcdConn) Lookup(nodes []uint32) error {
	ops := make([]clientv3.Op, len(nodes))
	for at, i := range nodes {
		ops[at] = clientv3.OpGet(c.ids[i], clientv3.WithSerializable())
	}
	r, err := c.client.Txn(context.Background()).Then(ops...).Commit()
	if err != nil {
		return err
	}
	for at, i := range nodes {
		kvs := r.Responses[at].GetResponseRange().GetKvs()
		if len(kvs) != 1 || string(kvs[0].Value) != proxyName(i) {
			return fmt.Errorf("node %s is %v, not at %s", c.ids[i], kvs, proxyName(i))
		}
	}
	return nil
}

func (e *etcd) Load(ctx context.Context) error { return addAll(ctx, len(e.ids), e.Dial) }

// Renew prolongs the leases.
func (e *etcd) Renew(ctx context.Context) error {
	cl, err := e.open()
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, id := range e.leases {
		if _, err := cl.KeepAliveOnce(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (e *etcd) Count(ctx context.Context) (int, error) {
	cl, err := e.open()
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	r, err := cl.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return int(r.Count), nil
}

func (e *etcd) Live(ctx context.Context) (int64, error) {
	return goHeap(ctx, loopback(e.port))
}

// goHeap returns the bytes of the heap that are in use after a collection, of a
// process of Go that serves pprof and metrics.
func goHeap(ctx context.Context, addr string) (int64, error) {
	if _, err := get(ctx, "http://"+addr+"/debug/pprof/heap?gc=1"); err != nil {
		return 0, err
	}
	text, err := get(ctx, "http://"+addr+"/metrics")
	if err != nil {
		return 0, err
	}
	return figure(text, "go_memstats_heap_alloc_bytes")
}
