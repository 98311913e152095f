package trackercmd_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/trackercmd"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/rpc"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

var (
	hostileFor = flag.Duration("hostile", 0, "have TestHostileClients do each attack for this long, on four connections at a time, and log how long honest lookups take")

	// Those of the process of attackers.
	attacker   = flag.Bool("attacker", false, "have TestAttack attack")
	attackName = flag.String("attack", "", "the attack's name; none turns in circles")
	attackAddr = flag.String("attack-addr", "", "the tracker's address")
	attackCert = flag.String("attack-cert", "", "the attackers' certificate")
	attackKey  = flag.String("attack-key", "", "its key")
)

const (
	// A tracker under attack may have so much more memory resident than before it, and
	// so many more goroutines than before when the attackers have gone.
	hostileBytes      = 400 << 20
	hostileGoroutines = 50

	// briefly is how many frames, calls or lists of headers a short attack has.
	briefly = 3000

	noRoom = "status 8" // RESOURCE_EXHAUSTED, of a wire's ends
)

// Whatever a client with a good certificate says, the tracker goes on, closes the
// connection or ends the call as it should, and stays within its memory.
func TestHostileClients(t *testing.T) {
	if testing.Short() {
		t.Skip("a process, and megabytes of noise")
	}
	v := newVictim(t)
	if *hostileFor > 0 {
		for _, a := range attacks() {
			t.Run(strings.ReplaceAll(a.name, " ", "_"), func(t *testing.T) { v.besiege(t, a) })
		}
		return
	}
	var attackers errgroup.Group // all at once: who floods has to wait to be dropped
	attackers.SetLimit(16)
	for _, a := range attacks() {
		attackers.Go(func() error {
			if err := v.attacked(t.Context(), a); err != nil {
				t.Errorf("%s: %v", a.name, err)
			}
			v.answers(t)
			return nil
		})
	}
	_ = attackers.Wait() // they return none
	v.unharmed(t)
}

// attacked does an attack briefly, and returns an error unless the tracker took it as it
// should.
func (v *victim) attacked(ctx context.Context, a attack) error {
	w, err := v.wire(ctx, a.raw)
	if err != nil {
		return err
	}
	defer w.Close()
	var said int
	more := func() bool { said++; return said <= briefly }
	err = a.run(w, more)
	if a.dropped {
		return w.dropped()
	}
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); a.ends != ""; {
		w.mu.Lock()
		last := w.stream - 1
		w.mu.Unlock()
		how, err := w.ended(last)
		if err == nil && how == noRoom && how != a.ends && time.Now().Before(deadline) {
			said = briefly - 1 // once more: there was no room beside the others
			if err := a.run(w, more); err != nil {
				return err
			}
			continue
		}
		if err != nil || how != a.ends {
			return fmt.Errorf("the last stream ended with %q, %v; want %q", how, err, a.ends)
		}
		break
	}
	return w.alive()
}

// A victim is a tracker that is attacked, and its honest clients.
type victim struct {
	*process
	addr              string
	certs             certs
	pair              rpc.KeyPair // of who attacks
	evil              tls.Certificate
	reader            *pool.Client
	bytes, goroutines float64 // before all attacks
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	ca := newCerts(t)
	v := &victim{certs: ca, process: start(t, flags("t-0", append(ca.tracker("t-0"), "--seats", "t-0", "--new-pool")...)...)}
	v.ready()
	v.addr = v.process.addr("listen_addr")
	owner := ca.open(v.addr, "p-1", ca.files(access.Proxy, "p-1"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := owner.Add(ctx, node.Claim{Node: "n"}); err != nil {
		t.Fatal(err)
	}
	v.reader = ca.open(v.addr, "", ca.files(access.Reader, "r-1"))
	v.pair = ca.files(access.Proxy, "evil").KeyPairs[0]
	var err error
	if v.evil, err = tls.LoadX509KeyPair(v.pair.CertFile, v.pair.KeyFile); err != nil {
		t.Fatal(err)
	}
	if _, err := v.honest(ctx); err != nil {
		t.Fatal(err)
	}
	v.bytes, v.goroutines = v.figures(t)
	return v
}

// honest looks up a node that is there.
func (v *victim) honest(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	answer, _, err := v.reader.Lookup(ctx, "n")
	if err == nil && answer != node.Found {
		err = fmt.Errorf("a node that is there is %v", answer)
	}
	return time.Since(began), err
}

func (v *victim) wire(ctx context.Context, raw bool, settings ...http2.Setting) (*wire, error) {
	conn, err := dialTLS(ctx, v.addr, v.evil)
	if err != nil {
		return nil, err
	}
	return newWire(conn, raw, settings...)
}

// figures are what the process says of itself.
func (v *victim) figures(t *testing.T) (bytes, goroutines float64) {
	t.Helper()
	return v.value(t, "process_resident_memory_bytes"), v.value(t, "go_goroutines")
}

// value is that of a metric now.
func (v *victim) value(t *testing.T, name string) float64 {
	t.Helper()
	status, body := v.get(trackercmd.MetricsPath)
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return value
		}
	}
	t.Errorf("no metric %s: %d", name, status)
	return 0
}

// answers checks that the tracker answers honest clients and stays within its memory.
func (v *victim) answers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := v.honest(ctx); err != nil {
		t.Errorf("an honest lookup: %v", err)
	}
	if bytes, _ := v.figures(t); bytes > v.bytes+hostileBytes {
		t.Errorf("%.0f MiB are resident, and were %.0f", bytes/(1<<20), v.bytes/(1<<20))
	}
}

// unharmed checks the tracker when the attackers have gone.
func (v *victim) unharmed(t *testing.T) {
	t.Helper()
	v.answers(t)
	eventually(t, func() error {
		if _, goroutines := v.figures(t); goroutines > v.goroutines+hostileGoroutines {
			return fmt.Errorf("%.0f goroutines, and there were %.0f", goroutines, v.goroutines)
		}
		return nil
	})
}

// besiege attacks for long, from another process, and logs what honest clients notice:
// on a quiet machine, on one where that process merely takes as much of the processors,
// and under attack.
func (v *victim) besiege(t *testing.T, a attack) {
	quiet := v.lookups(t, *hostileFor)
	spin, _ := v.other(t, "")
	busy := v.lookups(t, *hostileFor)
	spin()
	stop, attackers := v.other(t, a.name)
	used, began := v.value(t, "process_cpu_seconds_total"), time.Now()
	under := v.lookups(t, *hostileFor)
	used, took := v.value(t, "process_cpu_seconds_total")-used, time.Since(began)
	most, crowd := v.figures(t)
	stop()
	us := func(d time.Duration) int64 { return d.Round(10 * time.Microsecond).Microseconds() }
	t.Logf("| %s | %d | %d | %d | %.2f | %d | %d | %d | %.1f | %.0f | %.0f |", a.name, attackers.Conns, attackers.Frames, attackers.Dropped,
		used/took.Seconds(), us(quiet), us(busy), us(under), float64(under)/float64(busy), most/(1<<20), crowd)
	if most > v.bytes+hostileBytes {
		t.Errorf("%.0f MiB were resident, and were %.0f before all", most/(1<<20), v.bytes/(1<<20))
	}
	v.unharmed(t)
}

// attackers are what a process of attackers did.
type attackers struct{ Conns, Frames, Dropped int64 }

// other starts a process that does an attack, or for no name turns in circles, with one
// processor at most, until stop is called. Then what it did is known.
func (v *victim) other(t *testing.T, name string) (stop func(), did *attackers) {
	t.Helper()
	// They would be on another machine. Here they take what the others leave.
	cmd := exec.Command("nice", "-n", "19", os.Args[0], "-test.run=^TestAttack$", "-attack="+name, "-attack-addr="+v.addr, "-attack-cert="+v.pair.CertFile, "-attack-key="+v.pair.KeyFile, "-attacker")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	until, err := cmd.StdinPipe() // its end is the attack's
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	did = new(attackers)
	return func() {
		until.Close()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("attackers: %v\n%s", err, &out)
		}
		line, _, _ := strings.Cut(out.String(), "\n")
		if err := json.Unmarshal([]byte(line), did); err != nil {
			t.Fatalf("attackers: %v\n%s", err, &out)
		}
	}, did
}

// TestAttack is the process of attackers. By itself it has nothing to do.
func TestAttack(t *testing.T) {
	if !*attacker {
		t.Skip("only for -hostile")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	i := slices.IndexFunc(attacks(), func(a attack) bool { return a.name == *attackName })
	if i < 0 {
		for ctx.Err() == nil { // as the attackers of no attack
		}
		fmt.Println("{}")
		return
	}
	a := attacks()[i]
	cert, err := tls.LoadX509KeyPair(*attackCert, *attackKey)
	if err != nil {
		t.Fatal(err)
	}
	var did attackers
	var mu sync.Mutex // guards did
	var working sync.WaitGroup
	for range 4 {
		working.Go(func() {
			for ctx.Err() == nil {
				frames, dropped := a.again(ctx, cert)
				mu.Lock()
				did.Conns++
				did.Frames += frames
				did.Dropped += dropped
				mu.Unlock()
			}
		})
	}
	working.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(did); err != nil {
		t.Fatal(err)
	}
}

// again does the attack on one connection, until that is closed or ctx ends.
func (a *attack) again(ctx context.Context, cert tls.Certificate) (frames, dropped int64) {
	conn, err := dialTLS(ctx, *attackAddr, cert)
	if err != nil {
		return 0, 0
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	w, err := newWire(conn, a.raw)
	if err != nil {
		return 0, 0
	}
	_ = a.run(w, func() bool { return ctx.Err() == nil }) // that it is closed is what ends it
	if a.dropped && w.dropped() == nil && ctx.Err() == nil {
		dropped = 1
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return int64(w.frames), dropped
}

// lookups looks up for a while, and returns the 99th percentile.
func (v *victim) lookups(t *testing.T, long time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long+patience)
	defer cancel()
	var took []time.Duration
	for end := time.Now().Add(long); time.Now().Before(end) || len(took) < 100; {
		d, err := v.honest(ctx)
		if err != nil {
			t.Errorf("an honest lookup: %v", err)
			return 0
		}
		took = append(took, d)
		time.Sleep(time.Millisecond) // the pace of a client, which waits for nothing
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// Who says too little, or does not listen, is closed when its time is over: all at once,
// and a thousand connections that say nothing besides.
func TestPatientAttackers(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the 15 s until a client that does not answer is dropped")
	}
	t.Parallel()
	v := newVictim(t)
	ask := encoded(&pb.GetProxiesRequest{NodeId: "n"})
	shut := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	tcp := func() net.Conn {
		conn, err := net.Dial("tcp", v.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	secure := func() net.Conn {
		conn, err := dialTLS(t.Context(), v.addr, v.evil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	// byByte says a byte each tenth of a second, until the connection is closed.
	byByte := func(conn net.Conn, text []byte) {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for i := 0; ; i++ {
			if _, err := conn.Write(text[i%len(text) : i%len(text)+1]); err != nil {
				return
			}
			<-ticker.C
		}
	}
	open := func(settings ...http2.Setting) *wire {
		w, err := newWire(secure(), false, settings...)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	var waits sync.WaitGroup
	// closed is who the tracker has to hang up on.
	closed := func(name string, conn net.Conn) {
		waits.Go(func() {
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil {
				if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
					t.Errorf("%s: the connection is still open after %v", name, patience)
				}
			}
			conn.Close()
		})
	}
	for _, c := range []struct {
		name string
		run  func(w *wire) error
	}{
		{"calls whose answers are not taken", func(w *wire) error {
			for range 500 {
				if _, err := w.call(getProxies, ask, true); err != nil {
					return err
				}
			}
			return w.flush()
		}},
		{"lookups whose answers are not taken", func(w *wire) error {
			for range 50 {
				stream, err := w.call(find, encoded(&pb.FindRequest{View: 1}), false)
				if err != nil {
					return err
				}
				for frame := range uint64(20) {
					if err := w.data(stream, encoded(&pb.FindRequest{Frame: frame + 1, Ids: lookups}), false); err != nil {
						return err
					}
				}
			}
			return w.flush()
		}},
	} {
		w := open(shut...)
		if err := c.run(w); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		waits.Go(func() {
			if err := w.dropped(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			w.Close()
		})
	}

	hello := tcp()
	closed("a handshake by the byte", hello)
	waits.Go(func() { byByte(hello, append([]byte{22, 3, 1, 16, 0, 1, 0, 15, 252, 3, 3}, make([]byte, 4000)...)) })
	closed("no preface", secure())
	preface := secure()
	closed("a preface by the byte", preface)
	waits.Go(func() { byByte(preface, []byte(http2.ClientPreface)[:len(http2.ClientPreface)-1]) })
	half := secure()
	if _, err := half.Write([]byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x10\x00\x01\x04\x00\x00\x00\x01half")); err != nil {
		t.Fatal(err)
	}
	closed("a frame cut off, and pings not answered", half)
	deaf := secure()
	// The answers are not to find room in this machine's buffers.
	if err := deaf.(*tls.Conn).NetConn().(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	waits.Go(func() {
		if err := floodUnread(deaf); err != nil {
			t.Error(err)
		}
	})
	for range rpc.DefaultHandshakes + 100 {
		closed("a connection that says nothing", tcp())
	}
	v.answers(t)
	waits.Wait()
	v.unharmed(t)
	for why, least := range map[string]float64{"full": 1, "slow": 2} {
		if n := v.value(t, `tracker_connections_closed_total{why="`+why+`"}`); n < least {
			t.Errorf("%v connections were counted as %s, want %v or more", n, why, least)
		}
	}
}

// lookups is as many IDs as a request may have.
var lookups = bytes.Repeat([]byte{1, 'n'}, 1024)

// floodUnread asks for much and reads none of it, until the tracker closes the
// connection.
func floodUnread(conn net.Conn) error {
	unread := make(chan struct{})
	defer close(unread)
	w, err := newWire(deafConn{conn, unread}, false)
	if err != nil {
		return err
	}
	for range 1500 { // each is told that there is no such service, by its name
		if _, err := w.call("/"+strings.Repeat("x", 10_000)+"/y", nil, true); err != nil {
			return nil
		}
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		err := w.data(1, []byte{0}, false)
		if errors.Join(err, w.flush()) != nil {
			return nil
		}
	}
	return fmt.Errorf("a client that does not read is still connected after %v", patience)
}

// A deafConn hears nothing until unread is closed.
type deafConn struct {
	net.Conn
	unread chan struct{}
}

func (c deafConn) Read([]byte) (int, error) { <-c.unread; return 0, io.EOF }
