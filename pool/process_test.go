package pool_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/internal/clock"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// trackerVariable is set where this binary is to be one tracker, of this ID.
const trackerVariable = "POOL_TEST_TRACKER"

func TestMain(m *testing.M) {
	if id := os.Getenv(trackerVariable); id != "" {
		if err := beTracker(ring.MemberID(id)); err != nil {
			fmt.Fprintln(os.Stderr, "tracker", id+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// An order is what a test tells a tracker's process, a line of JSON each.
type order struct {
	TLS     rpc.TLSFiles    // first
	Members []ring.Member   // a view
	Seats   []ring.MemberID // with TLS
}

// A report is the answer to an order.
type report struct {
	Self ring.Member
	CPU  time.Duration
}

// beTracker is one tracker until its input ends.
func beTracker(id ring.MemberID) error {
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	var o order
	if err := in.Decode(&o); err != nil {
		return err
	}
	server, err := rpc.ServerCredentials(o.TLS, nil)
	if err != nil {
		return err
	}
	client, err := rpc.ClientCredentials(o.TLS, nil)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	self := ring.Member{ID: id, Boot: uint64(time.Now().UnixNano()), Addr: l.Addr().String(), State: ring.Serving, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(2)}
	t, err := node.New(self, node.Config{
		Pool: node.Pool{Name: "test", Seats: [][]ring.MemberID{o.Seats}}, NewPool: true,
		Dial: func(m ring.Member) (node.Peer, error) {
			return rpc.Dial(m.Addr, client, rpc.WithShards(node.DefaultShards))
		},
		Now: clock.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	views := make(chan ring.View, 1)
	go func() { _ = rpc.NewServer(t, rpc.WithServerCredentials(server)).Serve(l) }()
	go func() { _ = t.Run(context.Background(), views) }()
	for {
		if err := out.Encode(report{self, cpuTime()}); err != nil {
			return err
		}
		o = order{}
		if err := in.Decode(&o); err != nil {
			return nil // the test is over
		}
		if o.Members != nil {
			v, err := ring.NewView(o.Members...)
			if err != nil {
				return err
			}
			views <- v
		}
	}
}

// processes is a pool of trackers in processes of their own, over mutual TLS.
type processes struct {
	b     testing.TB
	creds rpc.Credentials
	all   []*trackerProcess
}

type trackerProcess struct {
	in   *json.Encoder
	out  *json.Decoder
	self ring.Member
}

func startProcesses(b testing.TB, ids ...ring.MemberID) *processes {
	b.Helper()
	files := selfSigned(b)
	creds, err := rpc.ClientCredentials(files, nil)
	if err != nil {
		b.Fatal(err)
	}
	p := &processes{b: b, creds: creds}
	var members []ring.Member
	for _, id := range ids {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), trackerVariable+"="+string(id))
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = stdin.Close()
			_ = cmd.Wait()
		})
		t := &trackerProcess{in: json.NewEncoder(stdin), out: json.NewDecoder(bufio.NewReader(stdout))}
		t.self = p.tell(t, order{TLS: files, Seats: ids}).Self
		p.all = append(p.all, t)
		members = append(members, t.self)
	}
	for _, t := range p.all {
		p.tell(t, order{Members: members})
	}
	return p
}

func (p *processes) tell(t *trackerProcess, o order) (r report) {
	p.b.Helper()
	if err := t.in.Encode(o); err != nil {
		p.b.Fatal(err)
	}
	if err := t.out.Decode(&r); err != nil {
		p.b.Fatal(err)
	}
	return r
}

// cpu is what the trackers have used.
func (p *processes) cpu() (sum time.Duration) {
	for _, t := range p.all {
		sum += p.tell(t, order{}).CPU
	}
	return sum
}

// open returns a client; dialed is told of its connections.
func (p *processes) open(cfg pool.Config, dialed func(*rpc.Client)) *pool.Client {
	p.b.Helper()
	for _, t := range p.all {
		cfg.Trackers = append(cfg.Trackers, t.self.Addr)
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Dial = func(addr string) (*rpc.Client, error) {
		c, err := rpc.Dial(addr, p.creds)
		if err == nil {
			dialed(c)
		}
		return c, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pool.Open(ctx, cfg)
	if err != nil {
		p.b.Fatal(err)
	}
	p.b.Cleanup(func() { _ = c.Close() })
	return c
}

// selfSigned is one certificate that is its own authority, good for both ends.
func selfSigned(b testing.TB) rpc.TLSFiles {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	signed, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	write := func(name, kind string, der []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			b.Fatal(err)
		}
		return name
	}
	certFile, keyFile := write("crt", "CERTIFICATE", signed), write("key", "PRIVATE KEY", secret)
	return rpc.TLSFiles{KeyPairs: []rpc.KeyPair{{CertFile: certFile, KeyFile: keyFile}}, CAFile: certFile}
}
