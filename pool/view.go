package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A taken is a view that the client goes by, or may.
type taken struct {
	placement *ring.Placement
	sums      node.ViewSums
	pool      node.Pool
}

func (t *taken) isSeat(id ring.MemberID) bool {
	return slices.ContainsFunc(t.pool.Seats, func(set []ring.MemberID) bool { return slices.Contains(set, id) })
}

// A former is a view that the client went by.
type former struct {
	placement *ring.Placement
	until     time.Time // when nobody relies on it any more
}

// An outlook is what lookups go by. It is immutable, but for what its links guard.
type outlook struct {
	placement *ring.Placement
	links     map[ring.MemberID]*link
	former    []*ring.Placement // the youngest first
	replaced  chan struct{}     // closed when there is another outlook
}

const (
	// seatsLost is how long no seat may be reachable before other trackers' word is
	// taken for the view.
	seatsLost = 5 * time.Second
	// fetchFloor is the least time between two fetches of a view.
	fetchFloor = 50 * time.Millisecond
	// fetchTimeout is how long one tracker may take to tell its view.
	fetchTimeout = 2 * time.Second
)

// An advert is what view a reachable tracker has.
type advert struct {
	seat bool
	sums node.ViewSums
}

// choose returns the view that the largest number of reachable seats have or, where
// seats are lost, of all trackers; on a tie the present one. Between views of one
// fingerprint that differ in addresses, boots or states it decides likewise. It
// returns the present one where nobody has a say.
func choose(present node.ViewSums, adverts []advert, lost bool) node.ViewSums {
	prints, sums := map[ring.Fingerprint]int{}, map[node.ViewSums]int{}
	for _, a := range adverts {
		if a.sums.Fingerprint != 0 && (a.seat || lost) {
			prints[a.sums.Fingerprint]++
			sums[a.sums]++
		}
	}
	fp := most(prints, present.Fingerprint, cmp.Compare)
	for s := range sums {
		if s.Fingerprint != fp {
			delete(sums, s)
		}
	}
	if len(sums) == 0 {
		return present
	}
	return most(sums, present, func(a, b node.ViewSums) int { return cmp.Compare(a.Sum, b.Sum) })
}

// most returns the key with the highest count; on a tie the present one if it is
// among them, and else one that all clients would choose.
func most[K comparable](counts map[K]int, present K, compare func(a, b K) int) K {
	best, n := present, counts[present]
	for k, count := range counts {
		if count > n || count == n && best != present && compare(k, best) < 0 {
			best, n = k, count
		}
	}
	return best
}

// advertisedLocked notes which view a tracker has.
func (c *Client) advertisedLocked(l *link, sums node.ViewSums) {
	l.advert = sums
	l.reached = c.cfg.Now()
	if sums != c.present.sums {
		c.asked.ring()
	}
}

// followViews looks which view to go by whenever trackers say something of it, and
// tidies up once a second.
func (c *Client) followViews() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.asked:
		case <-tick.C:
			c.tidy()
		}
		next, err := c.nextView()
		switch {
		case c.ctx.Err() != nil:
			return
		case err != nil:
			c.cfg.Logger.Warn("view not taken", "err", err)
		case next != nil:
			c.takeView(*next)
			c.cfg.Metrics.Count(MetricViews, 1)
			c.cfg.Logger.Info("view taken", "view", next.sums.Fingerprint, "members", next.placement.View().Len(), "placed", next.placement.View().Placed())
		default:
			continue
		}
		sleep(c.ctx, fetchFloor)
	}
}

// nextView fetches the view to go by if it is another than the present one.
func (c *Client) nextView() (*taken, error) {
	now := c.cfg.Now()
	c.mu.Lock()
	present := c.present
	var adverts []advert
	reachable := false
	for _, l := range c.links {
		a := advert{seat: present.isSeat(l.id), sums: l.advert}
		if a.sums != (node.ViewSums{}) {
			adverts = append(adverts, a)
			reachable = true
			if a.seat {
				c.seatHeard = now
			}
		}
	}
	lost := now.Sub(c.seatHeard) >= seatsLost
	want := choose(present.sums, adverts, lost)
	var from []*link
	for _, l := range c.links {
		if l.advert == want {
			from = append(from, l)
		}
	}
	c.mu.Unlock()

	if !reachable && lost {
		return c.viewOfSeeds(present)
	}
	if want == present.sums || len(from) == 0 {
		return nil, nil
	}
	l := from[rand.IntN(len(from))]
	t, err := c.fetch(c.ctx, l.conn, want.Fingerprint)
	switch {
	case errors.Is(err, node.ErrUnknownView): // it has just changed: it will say so
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("fetch view %v from tracker %s: %w", want.Fingerprint, l.id, err)
	case t.placement.Params().Shards != c.shards:
		return nil, fmt.Errorf("view %v of tracker %s has %d shards, this pool has %d: is it of another pool?", want.Fingerprint, l.id, t.placement.Params().Shards, c.shards)
	}
	return t, nil
}

// viewOfSeeds asks the addresses of Config for their view when no tracker of ours
// answers. It returns nil where nobody has another one.
func (c *Client) viewOfSeeds(present taken) (*taken, error) {
	ctx, cancel := context.WithTimeout(c.ctx, fetchTimeout)
	defer cancel()
	t, err := c.askSeeds(ctx)
	if err != nil || t.sums == present.sums || t.placement.Params().Shards != c.shards {
		return nil, err
	}
	return t, nil
}

// fetch gets a view and places it.
func (c *Client) fetch(ctx context.Context, from conn, fp ring.Fingerprint) (*taken, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	info, err := from.View(ctx, fp)
	if err != nil {
		return nil, err
	}
	if c.cfg.Pool != "" && info.Pool.Name != c.cfg.Pool {
		return nil, &node.InvalidError{Field: "pool", Value: c.cfg.Pool, Problem: fmt.Sprintf("the tracker is of pool %q; give its name, or another address", info.Pool.Name)}
	}
	p, err := ring.Place(info.View, info.Params)
	if err != nil {
		return nil, err
	}
	if fp != 0 && p.Fingerprint() != fp {
		return nil, fmt.Errorf("asked for view %v, got %v", fp, p.Fingerprint())
	}
	return &taken{p, node.ViewSums{Fingerprint: p.Fingerprint(), Sum: info.View.Sum()}, info.Pool}, nil
}

// firstView asks the addresses of Config until one gives a view, or ctx ends.
func (c *Client) firstView(ctx context.Context) (taken, error) {
	b := backoff{most: maxBackoff}
	for {
		t, err := c.askSeeds(ctx)
		if err == nil {
			return *t, nil
		}
		sleep(ctx, b.next(err))
		if ctx.Err() != nil {
			return taken{}, fmt.Errorf("no view from %v: %w: %w", c.cfg.Trackers, ctx.Err(), err)
		}
	}
}

// askSeeds asks all addresses of Config at once, and returns the first view.
func (c *Client) askSeeds(ctx context.Context) (*taken, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		asking sync.WaitGroup
		mu     sync.Mutex // guards the rest
		first  *taken
		errs   []error
	)
	for _, addr := range c.cfg.Trackers {
		asking.Go(func() {
			conn, _, err := c.connect(addr)
			var t *taken
			if err == nil {
				t, err = c.fetch(ctx, conn, 0)
				_ = conn.Close() // it has done its work, or failed
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("%s: %w", addr, err))
			case first == nil:
				first = t
				cancel()
			}
		})
	}
	asking.Wait()
	if first == nil {
		return nil, errors.Join(errs...)
	}
	return first, nil
}

// takeView goes by another view from now on. One goroutine at a time calls it.
func (c *Client) takeView(next taken) {
	opened := c.openLinks(next)
	now := c.cfg.Now()
	c.mu.Lock()
	before := c.present
	c.present = next
	changed := before.placement == nil || before.sums.Fingerprint != next.sums.Fingerprint
	if changed {
		c.former = slices.DeleteFunc(c.former, func(f former) bool { return f.placement.Fingerprint() == next.sums.Fingerprint })
		if before.placement != nil {
			c.former = append(c.former, former{before.placement, now.Add(c.term.Forgotten())})
		}
		clear(c.same)
	}
	for _, l := range c.links {
		if _, ok := next.placement.View().Member(l.id); ok {
			l.retired = time.Time{}
		} else if l.retired.IsZero() {
			l.retired = now
		}
	}
	replaced := c.installLocked(opened)
	if changed {
		c.beyond = before.placement != nil // maybe
		sessions := c.welcomedLocked()
		for _, s := range sessions {
			s.forgoLocked(next.placement)
		}
		for _, s := range sessions {
			s.takeViewLocked(next.placement)
		}
	}
	c.publishLocked()
	c.releaseLocked()
	c.changedLocked()
	c.mu.Unlock()
	for _, l := range replaced {
		l.cancel()
	}
}

// openLinks connects to the members that have no link, or one at another address.
func (c *Client) openLinks(next taken) []*link {
	var opened []*link
	for _, m := range next.placement.View().Members() {
		c.mu.Lock()
		l := c.links[m.ID]
		c.mu.Unlock()
		if m.Addr == "" || l != nil && l.addr == m.Addr {
			continue
		}
		l, err := c.openLink(m)
		if err != nil {
			c.cfg.Logger.Error("connect", "err", err)
			continue
		}
		opened = append(opened, l)
	}
	return opened
}

// installLocked starts links and returns those that they replace.
func (c *Client) installLocked(opened []*link) (replaced []*link) {
	for _, l := range opened {
		if old := c.links[l.id]; old != nil {
			replaced = append(replaced, old)
		}
		c.links[l.id] = l
		l.startLocked()
	}
	return replaced
}

// publishLocked lets lookups go by what the client goes by.
func (c *Client) publishLocked() {
	o := &outlook{placement: c.present.placement, links: make(map[ring.MemberID]*link, len(c.links)), replaced: make(chan struct{})}
	for id, l := range c.links {
		o.links[id] = l
	}
	for _, f := range slices.Backward(c.former) {
		o.former = append(o.former, f.placement)
	}
	if old := c.view.Swap(o); old != nil {
		close(old.replaced)
	}
}

// placementLocked returns the placement of a view that the client goes by or went
// by in the last two terms, or nil.
func (c *Client) placementLocked(fp ring.Fingerprint) *ring.Placement {
	if c.present.sums.Fingerprint == fp {
		return c.present.placement
	}
	for _, f := range c.former {
		if f.placement.Fingerprint() == fp {
			return f.placement
		}
	}
	return nil
}

// tidy drops what nobody relies on any more, settles what waited for that, and
// connects to members that could not be before.
func (c *Client) tidy() {
	now := c.cfg.Now()
	c.mu.Lock()
	present := c.present
	c.mu.Unlock()
	opened := c.openLinks(present)

	c.mu.Lock()
	before := len(c.former)
	c.former = slices.DeleteFunc(c.former, func(f former) bool { return !now.Before(f.until) })
	ended := c.installLocked(opened)
	for id, l := range c.links {
		if l.session != nil || l.advert != (node.ViewSums{}) {
			l.reached = now
		}
		if !l.retired.IsZero() && (now.Sub(l.retired) >= c.term.Forgotten() || now.Sub(l.reached) >= seatsLost) {
			delete(c.links, id)
			ended = append(ended, l)
		}
	}
	if len(ended) > 0 || len(opened) > 0 || before != len(c.former) {
		c.publishLocked()
	}
	c.expireLocked(now)
	c.forgetProcessesLocked(now)
	claims, sessions := c.claims.table.Len(), len(c.welcomedLocked())
	c.mu.Unlock()
	for _, l := range ended {
		l.cancel()
	}
	c.cfg.Metrics.Gauge(MetricClaims, float64(claims))
	c.cfg.Metrics.Gauge(MetricSessions, float64(sessions))
}
