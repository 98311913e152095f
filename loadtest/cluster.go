package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/internal/freeport"
	"github.com/trackerpool/trackerpool/ring"
)

const (
	poolName   = "loadtest"
	readyTime  = time.Minute      // within which a tracker of a new pool is ready
	leaveTime  = 45 * time.Second // within which a tracker that was asked to leave is gone: its drain deadline and a little
	tailOfLog  = 2000             // bytes of a tracker's log that an error carries
	megabyte   = 1 << 20
	residentIn = "process_resident_memory_bytes"
)

// A cluster is the trackers that a run started. Its methods may be called by one
// goroutine at a time.
type cluster struct {
	cfg      Config
	dir      string  // has the logs
	docker   *docker // nil: the trackers are processes
	trackers []*tracker
	resident map[ring.MemberID]float64 // the most that was seen, in megabytes

	mu     sync.Mutex // guards deaths
	deaths []error    // of trackers that nobody had asked to end
	watch  sync.WaitGroup
}

// A tracker is one under its ID, over all its lives.
type tracker struct {
	id                    ring.MemberID
	listen, gossip, admin string
	near, far             *relay // in front of listen, for the fleet and for other trackers; nil where nothing is cut
	log                   *os.File
	proc                  Process
	asked                 chan struct{} // closed when it has been asked to end
}

// alive reports whether it has not been asked to end.
func (t *tracker) alive() bool {
	select {
	case <-t.asked:
		return false
	default:
		return true
	}
}

// advertised returns where the tracker says that it is reached.
func (t *tracker) advertised() string {
	if t.far != nil {
		return t.far.addr()
	}
	return t.listen
}

// startCluster starts the seats of a new pool, and where faults are to come a
// tracker that is no seat, and returns when all are ready. A cluster is returned even
// with an error, and is to be stopped.
func startCluster(ctx context.Context, cfg Config) (*cluster, error) {
	dir, err := os.MkdirTemp("", "loadtest-")
	c := &cluster{cfg: cfg, dir: dir, resident: make(map[ring.MemberID]float64)}
	if err != nil {
		return c, err
	}
	first := seats
	if len(cfg.Faults) > 0 {
		first++
	}
	if cfg.Docker {
		if c.docker, err = newDocker(ctx); err != nil {
			return c, err
		}
		c.cfg.Start = c.docker.start
	}
	for range first {
		if err := c.reserve(); err != nil {
			return c, err
		}
	}
	for _, t := range c.trackers {
		if err := c.start(t, "--new-pool"); err != nil {
			return c, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for _, t := range c.trackers {
		if err := c.awaitReady(ctx, t); err != nil {
			return c, err
		}
	}
	return c, nil
}

// reserve makes the next tracker, with addresses of its own.
func (c *cluster) reserve() error {
	var addrs []string
	var err error
	if c.docker != nil {
		addrs = c.docker.addrs(len(c.trackers))
	} else if addrs, err = freeport.Loopback(3); err != nil {
		return fmt.Errorf("find free ports on loopback: %w", err)
	}
	id := "t-" + strconv.Itoa(len(c.trackers))
	log, err := os.Create(filepath.Join(c.dir, id+".log"))
	if err != nil {
		return err
	}
	t := &tracker{id: ring.MemberID(id), listen: addrs[0], gossip: addrs[1], admin: addrs[2], log: log}
	c.trackers = append(c.trackers, t)
	if !c.cfg.relayed() {
		return nil
	}
	if t.near, err = newRelay(t.listen); err != nil {
		return err
	}
	t.far, err = newRelay(t.listen)
	return err
}

// route returns where the fleet dials a tracker that advertises an address. It may be
// called by many goroutines once all trackers were reserved, where there are relays.
func (c *cluster) route(addr string) string {
	for _, t := range c.trackers {
		if t.near != nil && t.far.addr() == addr {
			return t.near.addr()
		}
	}
	return addr
}

// start starts a tracker under its ID.
func (c *cluster) start(t *tracker, more ...string) error {
	args := []string{
		"--id", string(t.id), "--pool", poolName,
		"--listen-addr", t.listen, "--advertise-addr", t.advertised(), "--gossip-addr", t.gossip, "--admin-addr", t.admin,
		"--seats", seatIDs(), "--replicas", strconv.Itoa(c.cfg.Replicas), "--shards", strconv.Itoa(shards),
		"--term", c.cfg.Term.String(), "--log-format", "json",
	}
	if c.docker != nil {
		args = append(args, "--insecure") // in an internal network of its own
	}
	for _, o := range c.trackers {
		if o != t {
			args = append(args, "--join", o.gossip)
		}
	}
	proc, err := c.cfg.Start(append(args, more...), t.log)
	if err != nil {
		return fmt.Errorf("start tracker %s: %w", t.id, err)
	}
	asked := make(chan struct{})
	t.proc, t.asked = proc, asked
	c.watch.Go(func() {
		<-proc.Done()
		select {
		case <-asked:
		default:
			c.mu.Lock()
			c.deaths = append(c.deaths, fmt.Errorf("tracker %s ended by itself: %v; its log ends:\n%s", t.id, proc.Err(), tail(t.log.Name())))
			c.mu.Unlock()
		}
	})
	return nil
}

func seatIDs() string {
	ids := make([]string, seats)
	for i := range ids {
		ids[i] = "t-" + strconv.Itoa(i)
	}
	return strings.Join(ids, ",")
}

// awaitReady returns when a tracker is ready.
func (c *cluster) awaitReady(ctx context.Context, t *tracker) error {
	for !ready(ctx, t.admin) {
		select {
		case <-t.proc.Done():
			return fmt.Errorf("tracker %s ended before it was ready: %v; its log ends:\n%s", t.id, t.proc.Err(), tail(t.log.Name()))
		case <-ctx.Done():
			return fmt.Errorf("wait until tracker %s is ready: %w; its log ends:\n%s", t.id, context.Cause(ctx), tail(t.log.Name()))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// kill ends a tracker at once, and returns when it has ended.
func (c *cluster) kill(t *tracker) error {
	close(t.asked)
	if err := t.proc.Kill(); err != nil {
		return fmt.Errorf("kill tracker %s: %w", t.id, err)
	}
	<-t.proc.Done()
	return nil
}

// leave asks a tracker to leave.
func (c *cluster) leave(t *tracker) error {
	close(t.asked)
	if err := t.proc.Terminate(); err != nil {
		return fmt.Errorf("ask tracker %s to leave: %w", t.id, err)
	}
	return nil
}

// awaitEnd returns when a tracker that was asked to leave has ended well.
func (c *cluster) awaitEnd(ctx context.Context, t *tracker) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	select {
	case <-t.proc.Done():
		if err := t.proc.Err(); err != nil {
			return fmt.Errorf("tracker %s left with an error: %w; its log ends:\n%s", t.id, err, tail(t.log.Name()))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait until tracker %s has left: %w; its log ends:\n%s", t.id, context.Cause(ctx), tail(t.log.Name()))
	}
}

// addrs returns where clients find the trackers that are alive.
func (c *cluster) addrs() []string {
	var addrs []string
	for _, t := range c.trackers {
		if t.alive() {
			addrs = append(addrs, t.advertised())
		}
	}
	return addrs
}

// measure returns how much memory the trackers that are alive have resident, in
// bytes together.
func (c *cluster) measure(ctx context.Context) (float64, error) {
	var sum float64
	for _, t := range c.trackers {
		if !t.alive() {
			continue
		}
		m, err := metrics(ctx, t.admin, residentIn)
		if err != nil {
			return 0, fmt.Errorf("measure tracker %s: %w", t.id, err)
		}
		sum += m[residentIn]
		c.resident[t.id] = max(c.resident[t.id], m[residentIn]/megabyte)
	}
	return sum, nil
}

// ended returns the trackers that ended by themselves.
func (c *cluster) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.deaths...)
}

// stop ends all trackers, and removes their logs unless they are worth reading.
func (c *cluster) stop(keepLogs bool) error {
	var errs []error
	for _, t := range c.trackers {
		if t.proc != nil && t.alive() {
			close(t.asked)
			errs = append(errs, t.proc.Kill())
		}
	}
	c.watch.Wait()
	for _, t := range c.trackers {
		errs = append(errs, t.log.Close())
		for _, r := range []*relay{t.near, t.far} {
			if r != nil {
				errs = append(errs, r.close())
			}
		}
	}
	if c.docker != nil {
		errs = append(errs, c.docker.remove())
	}
	if !keepLogs && c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}

// find returns the tracker of an ID.
func (c *cluster) find(id ring.MemberID) *tracker {
	i := slices.IndexFunc(c.trackers, func(t *tracker) bool { return t.id == id })
	return c.trackers[i]
}

// tail returns the end of a file, for an error.
func tail(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tailOfLog {
		if _, err := f.Seek(-tailOfLog, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
