package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/trackerpool/trackerpool/ring"
)

// leaveTimeout bounds a leave where the context does not.
const leaveTimeout = 2 * time.Second

// sayAgain is when a change of our metadata is gossiped once more. Gossip sends it
// at random so often that of 50 members 1 in 3,000 misses it, more where packets are
// lost; memberlist exchanges all state every 15 s, and every 30 s from 33 members on.
const sayAgain = 2 * time.Second

// Errors of a Gossip, for callers that branch.
var (
	// ErrSuperseded: a younger boot of our own ID is there. Stop this process.
	ErrSuperseded = errors.New("superseded by a younger boot of this tracker ID")

	// ErrClosed: the Gossip was closed, or has left.
	ErrClosed = errors.New("the gossip has ended")
)

// A Gossip is one tracker's part in the gossip of a pool. Make it with [Join].
type Gossip struct {
	cfg       Config
	log       *slog.Logger
	transport *transport
	list      *memberlist.Memberlist

	views    chan ring.View
	bell     chan struct{} // the table or the refusals have changed
	announce chan struct{} // our metadata has changed
	done     chan struct{} // closed when err is set

	// ctx ends when Close begins; the goroutines in wg end then.
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	leaves  sync.WaitGroup // calls of memberlist's Leave: it must not be shut down meanwhile
	closing sync.Once

	// mu guards the fields below. memberlist's callbacks take it, so nothing is
	// called with it held.
	mu        sync.Mutex
	table     table
	encoded   []byte // our metadata in the table
	refusals  refusals
	knownBoot uint64 // the highest of our ID that others knew when we joined
	joined    bool
	latest    ring.View
	left      bool
	closed    bool
	err       error
}

// run publishes views, announces our metadata, and logs who was refused.
func (g *Gossip) run() {
	again := time.NewTimer(sayAgain) // what was said at the start, too
	defer again.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-g.announce:
			g.say()
			again.Reset(sayAgain)
		case <-again.C:
			g.say()
		case <-g.bell:
			g.publish()
			g.logRefusals()
		}
	}
}

// say gossips our metadata.
func (g *Gossip) say() {
	if !g.hasLeft() {
		// Waiting for the broadcast to have gone out would only hold up the views.
		_ = g.list.UpdateNode(time.Nanosecond)
	}
}

// publish offers the present view, if it is another than the latest. Only one
// goroutine at a time calls it.
func (g *Gossip) publish() {
	g.mu.Lock()
	v, err := g.table.view()
	boot, superseded := g.table.supersededBy()
	changed := err == nil && v.Sum() != g.latest.Sum()
	if changed {
		g.latest = v
	}
	if superseded && g.err == nil {
		g.err = fmt.Errorf("boot %016x of %q: %w (%016x)", g.table.me().Boot, g.table.me().ID, ErrSuperseded, boot)
		close(g.done)
	}
	g.mu.Unlock()
	if err != nil {
		g.log.Error("the members make no view", "err", err)
	}
	if changed {
		// A slow reader has not taken the former view: this one takes its place.
		select {
		case <-g.views:
		default:
		}
		g.views <- v
	}
}

func (g *Gossip) logRefusals() {
	g.mu.Lock()
	unsaid := g.refusals.unsaid
	g.refusals.unsaid = nil
	g.mu.Unlock()
	for _, e := range unsaid {
		g.log.Warn("a member is refused", "member", e.Member, "field", e.Field, "ours", e.Ours, "theirs", e.Theirs)
	}
}

// Self returns this member as the others see it.
func (g *Gossip) Self() ring.Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.table.me().Member
}

// Views delivers each view that differs from the one before, this tracker
// included; the first is there when Join returns. The channel holds one: a slow
// reader skips views, and never ends on an old one. It is not closed; see
// [Gossip.Done].
func (g *Gossip) Views() <-chan ring.View { return g.views }

// View returns the latest view.
func (g *Gossip) View() ring.View {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.latest
}

// Addr returns the host:port that gossip is bound to; where that is all
// addresses, the host is the one that others gossip to.
func (g *Gossip) Addr() string {
	host := g.transport.bound.Addr()
	if !host.IsValid() {
		host = g.transport.advertise.Addr()
	}
	return netip.AddrPortFrom(host, g.transport.bound.Port()).String()
}

// Joined reports whether another member has been seen since Join was called.
func (g *Gossip) Joined() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.joined
}

// Health is how well gossip works, as one member sees it.
type Health struct {
	Score      int    // 0 is well; it grows as this member's own probes go unanswered or come late
	Alive      int    // members that gossip shows, this one included, compatible or not
	Lost       int    // members that were last seen not to be leaving, and are being looked for
	Mismatches uint64 // times that a member was refused because it differs in what must be the same
}

// Health returns how well gossip works now.
func (g *Gossip) Health() Health {
	score := g.list.GetHealthScore()
	g.mu.Lock()
	defer g.mu.Unlock()
	return Health{Score: score, Alive: len(g.table.entries), Lost: len(g.table.lost), Mismatches: g.refusals.count}
}

// SeatsOf returns what the youngest live boot of a tracker was given as seats,
// and whether there is one.
func (g *Gossip) SeatsOf(id ring.MemberID) (Seats, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e, ok := g.table.entries[gossipName(id, g.table.youngest[id])]
	return e.seats, ok
}

// SetState changes our state, and gossips it soon. It does not wait.
func (g *Gossip) SetState(s ring.State) error {
	if s > ring.Leaving {
		return fmt.Errorf("set state: %v is none: give joining, serving or leaving", s)
	}
	return g.change(func(m *meta) *MismatchError {
		m.State = s
		return nil
	})
}

// SetSeats says which seat sets we have learnt, the newest last, and gossips it
// soon. If a member has none of them the error is a *MismatchError, and nothing
// changes.
func (g *Gossip) SetSeats(sets [][]ring.MemberID) error {
	if err := validateSeats(sets); err != nil {
		return fmt.Errorf("set seats: %w", err)
	}
	return g.change(func(m *meta) *MismatchError {
		m.seats = newSeats(sets)
		for _, e := range g.table.shown() {
			if mismatch := m.mismatch(e.meta); e.ID != m.ID && mismatch != nil {
				return mismatch
			}
		}
		return nil
	})
}

// change edits our metadata, with mu held.
func (g *Gossip) change(edit func(*meta) *MismatchError) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left || g.closed {
		return ErrClosed
	}
	me := g.table.me()
	if mismatch := edit(&me.meta); mismatch != nil {
		return mismatch
	}
	encoded, err := me.encode()
	if err != nil {
		return err
	}
	g.encoded = encoded
	g.table.put(me)
	knock(g.announce)
	knock(g.bell)
	return nil
}

// Done is closed when another process with our ID and a younger boot appears, or
// at Close. [Gossip.Err] tells which.
func (g *Gossip) Done() <-chan struct{} { return g.done }

// Err returns nil until Done is closed, then an error that is ErrSuperseded or
// ErrClosed.
func (g *Gossip) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g *Gossip) hasLeft() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left
}

// Leave tells the others that we are gone. The caller must have announced
// Leaving by SetState, well before: otherwise the others take it for a crash. It
// takes until ctx ends, and 2 s at most. Call Close after it.
func (g *Gossip) Leave(ctx context.Context) error {
	g.mu.Lock()
	state, closed := g.table.me().State, g.closed
	if state == ring.Leaving {
		g.left = true
	}
	g.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case state != ring.Leaving:
		return fmt.Errorf("leave: the state is %v: announce %v by SetState first", state, ring.Leaving)
	}
	timeout := leaveTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if timeout <= 0 {
		return ctx.Err()
	}
	result, err := g.leaveList(timeout)
	if err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leaveList starts to leave, unless the Gossip is closed, and returns where the
// result will be.
func (g *Gossip) leaveList(timeout time.Duration) (<-chan error, error) {
	result := make(chan error, 1)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ErrClosed
	}
	g.leaves.Go(func() {
		err := g.list.Leave(timeout)
		if err != nil {
			err = fmt.Errorf("leave: %w", err)
		}
		result <- err
	})
	return result, nil
}

// Close stops the gossip without a word, and waits for its goroutines. (Probes
// of memberlist's own may take a second more to end.) The others see a crash,
// unless Leave was called before.
func (g *Gossip) Close() error {
	var err error
	g.closing.Do(func() {
		g.mu.Lock()
		g.closed = true
		if g.err == nil {
			g.err = ErrClosed
			close(g.done)
		}
		g.mu.Unlock()
		g.cancel()
		g.leaves.Wait()
		g.transport.last.Store(true)
		err = g.list.Shutdown()
		g.wg.Wait()
	})
	return err
}
