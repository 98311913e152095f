package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// callWait is how long a unary call waits for the trackers that it concerns.
const callWait = time.Second

// mostBackoff is the longest pause before a unary claim that others write too is tried
// again: there are to be some more tries within callWait.
const mostBackoff = 4 * minBackoff

var (
	_ Service   = (*Tracker)(nil)
	_ Directory = (*Tracker)(nil)
)

// AddNode is Service's.
func (t *Tracker) AddNode(ctx context.Context, c Claim) (Written, error) {
	if _, err := ParseID(c.Node); err != nil {
		return Written{}, err
	}
	if err := CheckProxy(c.Proxy); err != nil {
		return Written{}, err
	}
	if c.Age < 0 {
		return Written{}, &InvalidError{"age", c.Age.String(), "is below 0; give the time since the node connected"}
	}
	if err := t.checkNoSession(c.Proxy.ID); err != nil {
		return Written{}, err
	}
	done, err := t.hop()
	if err != nil {
		return Written{}, err
	}
	defer done()
	w, err := t.writeAll(ctx, UnaryClaim{Node: c.Node, Proxy: c.Proxy, Generation: c.Generation, Age: c.Age, Left: t.cfg.KeepAlive})
	return w, err
}

// hop takes room for a unary call that concerns other trackers, until done is called.
func (t *Tracker) hop() (done func(), err error) {
	if t.hops.Add(1) > int64(t.cfg.MaxHops) {
		t.hops.Add(-1)
		return nil, t.overload(refusedHop, "calls that concern other trackers are under way", t.cfg.MaxHops, time.Second)
	}
	return func() { t.hops.Add(-1) }, nil
}

// checkNoSession refuses unary writes for a proxy that speaks for itself.
func (t *Tracker) checkNoSession(p ProxyID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.proxies[p]; l != nil && (l.session != nil || l.live(t.cfg.Now())) {
		return fmt.Errorf("proxy %q: %w", p, ErrHasSession)
	}
	return nil
}

// writeAll writes a unary claim to all holders of its shard. It is an error only if
// none took it.
func (t *Tracker) writeAll(ctx context.Context, c UnaryClaim) (Written, error) {
	if err := ctx.Err(); err != nil {
		return Written{}, err
	}
	p := t.snap.Load().Placement
	// A tracker that holds the shard alone waits for nobody, and is done sooner than a
	// timer is set.
	if p != nil && slices.Equal(p.List(p.ShardOf(string(c.Node))), []ring.MemberID{t.self.ID}) {
		if w, again, err := t.writeOnce(ctx, p, &c); !again {
			return w, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	for backoff := minBackoff; ; backoff = min(2*backoff, mostBackoff) {
		w, again, err := t.writeOnce(ctx, t.snap.Load().Placement, &c)
		if !again {
			return w, err
		}
		select { // a list that differs, or a version that was too low: look again
		case <-ctx.Done():
			return w, err
		case <-time.After(rand.N(backoff)):
		}
	}
}

// writeOnce writes to the list that a placement, or none, gives. again says that
// another try may do better, with the version that c then has.
func (t *Tracker) writeOnce(ctx context.Context, p *ring.Placement, c *UnaryClaim) (w Written, again bool, err error) {
	if p == nil {
		return w, false, fmt.Errorf("this tracker has no view yet: %w", ErrUnavailable)
	}
	sh := p.ShardOf(string(c.Node))
	// Anew at each try: others write this claim too, and go on meanwhile.
	c.Version = max(c.Version, uint64(time.Now().UnixMicro()), t.unaries.Versions(c.Node, c.Proxy.ID)+1)
	w, c.Version, again, err = t.writeList(ctx, p.List(sh), StoreRequest{ListSum: p.ListSum(sh), Claim: *c})
	return w, again, err
}

// writeList writes to a list once. again says that another try may do better, with
// the version to take then.
func (t *Tracker) writeList(ctx context.Context, list []ring.MemberID, req StoreRequest) (w Written, version uint64, again bool, err error) {
	type answer struct {
		StoreReply
		err error
	}
	answers := make([]answer, len(list))
	var wg sync.WaitGroup
	for i, id := range list {
		if id == t.self.ID {
			continue
		}
		wg.Go(func() {
			a := &answers[i]
			if p := t.peer(id); p != nil {
				a.StoreReply, a.err = p.Store(ctx, req)
			} else {
				a.err = fmt.Errorf("holder %s: %w", id, ErrUnavailable)
			}
		})
	}
	if i := slices.Index(list, t.self.ID); i >= 0 { // while the others are asked
		answers[i].StoreReply, answers[i].err = t.Store(ctx, req)
	}
	wg.Wait()
	w.Replicas, version = len(list), req.Claim.Version
	var errs []error
	for _, a := range answers {
		switch {
		case a.err != nil:
			errs = append(errs, a.err)
		case a.Stored:
			w.Copies++
			w.Counted = w.Counted || a.Counted
		default:
			again = true
			if a.Version >= version {
				version = a.Version + 1
			}
		}
	}
	if w.Copies > 0 {
		return w, version, again && ctx.Err() == nil, nil
	}
	return w, version, again, cmp.Or(errors.Join(errs...), fmt.Errorf("the shard's list or the claim is changing: %w", ErrUnavailable))
}

// Store is Service's.
func (t *Tracker) Store(_ context.Context, r StoreRequest) (StoreReply, error) {
	c := r.Claim
	if _, err := ParseID(c.Node); err != nil {
		return StoreReply{}, err
	}
	if err := t.checkNoSession(c.Proxy.ID); err != nil && !c.Gone {
		return StoreReply{}, err
	}
	p := t.snap.Load().Placement
	if p == nil {
		return StoreReply{}, fmt.Errorf("this tracker has no view yet: %w", ErrUnavailable)
	}
	sh := p.ShardOf(string(c.Node))
	if sum := p.ListSum(sh); sum != r.ListSum {
		return StoreReply{ListSum: sum}, nil
	}
	if t.unaries.Versions(c.Node, c.Proxy.ID) == 0 { // it would take room
		switch {
		case t.unaries.Len() >= t.cfg.MaxUnaries:
			return StoreReply{}, t.overload(refusedUnary, "unary claims are held", t.cfg.MaxUnaries, time.Second)
		case t.unaries.LenOf(c.Node) >= t.cfg.MaxClaimsPerNode:
			return StoreReply{}, t.overload(refusedUnary, "proxies claim that node by unary calls", t.cfg.MaxClaimsPerNode, t.cfg.KeepAlive)
		}
		if err := t.checkCeiling(); err != nil {
			return StoreReply{}, err
		}
	}
	stored, version := t.unaries.Store(t.cfg.Now(), c)
	if !stored {
		return StoreReply{Version: version}, nil
	}
	// Only now: it must have been there when the list is found to be in force.
	snap := t.snap.Load()
	counted := snap.Placement.SameList(p, sh) && snap.InForce(t.cfg.Now(), sh)
	return StoreReply{Stored: true, Counted: counted}, nil
}

// RemoveNode is Service's.
func (t *Tracker) RemoveNode(ctx context.Context, id ID, proxy ProxyID) (Removed, error) {
	if _, err := ParseID(id); err != nil {
		return Removed{}, err
	}
	done, err := t.hop()
	if err != nil {
		return Removed{}, err
	}
	defer done()
	if proxy != "" {
		if err := CheckProxyID(proxy); err != nil {
			return Removed{}, err
		}
		if err := t.checkNoSession(proxy); err != nil {
			return Removed{}, err
		}
		_, claims, err := t.lookAll(ctx, id)
		if err != nil {
			return Removed{}, err
		}
		var r Removed
		for _, c := range claims {
			if c.Proxy.ID == proxy {
				r.Claims++
			}
		}
		w, err := t.void(ctx, id, Proxy{ID: proxy})
		r.Copies, r.Replicas = w.Copies, w.Replicas
		return r, err
	}
	_, claims, err := t.lookAll(ctx, id)
	if err != nil {
		return Removed{}, err
	}
	var r Removed
	for _, c := range claims {
		if err := t.takeBack(ctx, id, c.Proxy, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// void writes the removal of a unary claim.
func (t *Tracker) void(ctx context.Context, id ID, p Proxy) (Written, error) {
	return t.writeAll(ctx, UnaryClaim{Node: id, Proxy: p, Left: t.cfg.KeepAlive, Gone: true})
}

// takeBack asks the session of a proxy to drop its claim, and voids a unary one, which
// the proxy may have made before its session began.
func (t *Tracker) takeBack(ctx context.Context, id ID, p Proxy, r *Removed) error {
	t.mu.Lock()
	l := t.proxies[p.ID]
	var s *session
	if l != nil {
		s = l.session
	}
	t.mu.Unlock()
	w, err := t.void(ctx, id, p)
	r.Copies, r.Replicas = r.Copies+w.Copies, r.Replicas+w.Replicas
	if l == nil {
		r.Claims++
		return err
	}
	r.Replicas++
	if s == nil {
		r.Kept = append(r.Kept, p.ID) // its lease here runs out by itself
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	kept, err := s.drop(ctx, []ID{id}, "RemoveNode")
	if err != nil || len(kept) > 0 {
		r.Kept = append(r.Kept, p.ID)
		return nil
	}
	r.Claims++
	r.Copies++
	return nil
}

// GetProxies is Service's.
func (t *Tracker) GetProxies(ctx context.Context, id ID) (Answer, []Claim, error) {
	k, err := ParseID(id)
	if err != nil {
		return Unknown, nil, err
	}
	if err := ctx.Err(); err != nil {
		return Unknown, nil, err
	}
	own, snap := t.lookHere(k)
	if p := snap.Placement; p != nil && own.Answer == Found {
		return Found, own.Claims, nil
	}
	done, err := t.hop()
	if err != nil {
		return Unknown, nil, err
	}
	defer done()
	return t.lookAll(ctx, id)
}

func (t *Tracker) lookHere(k Key) (FindResult, *lease.Snapshot) {
	l, ok := t.lookups.Get().(*lookup)
	if !ok {
		l = &lookup{t: t}
	}
	defer t.lookups.Put(l)
	l.clear()
	l.add(k)
	snap := l.run()
	return l.result(snap), snap
}

// lookAll asks all holders of a node at the same time.
func (t *Tracker) lookAll(ctx context.Context, id ID) (Answer, []Claim, error) {
	k, err := ParseID(id)
	if err != nil {
		return Unknown, nil, err
	}
	own, snap := t.lookHere(k)
	p := snap.Placement
	if p == nil {
		return Unknown, nil, fmt.Errorf("this tracker has no view yet: %w", ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	sh := p.ShardOf(string(id))
	q := QuestionOf(p, sh)
	replies := t.askAll(ctx, k, q.View, q.List, []Reply{{From: t.self.ID, Result: own}})
	a, claims, _ := q.Merge(replies)
	if a == Unknown {
		replies = t.askAll(ctx, k, q.View, t.formerHolders(t.cfg.Now(), sh, q.List), replies)
		a, claims, _ = q.Merge(replies)
	}
	return a, claims, nil
}

// askAll asks other trackers at the same time, and appends their replies.
func (t *Tracker) askAll(ctx context.Context, k Key, view ring.Fingerprint, ids []ring.MemberID, replies []Reply) []Reply {
	got := make([]Reply, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		got[i] = Reply{From: id, Err: ErrUnavailable}
		if p := t.peer(id); p != nil {
			wg.Go(func() { got[i].Result, got[i].Err = p.Find(ctx, k, view) })
		}
	}
	wg.Wait()
	return append(replies, slices.DeleteFunc(got, func(r Reply) bool { return r.From == t.self.ID })...)
}

// RemoveProxy is Service's.
func (t *Tracker) RemoveProxy(ctx context.Context, proxy ProxyID, number uint64) error {
	if err := CheckProxyID(proxy); err != nil {
		return err
	}
	if number == math.MaxUint64 {
		return &InvalidError{"number", fmt.Sprint(number), "leaves no number for later lives; give a lower one"}
	}
	if number == 0 { // a tracker that has just started has heard of nobody yet: the seats have
		if err := t.awaitWords(ctx); err != nil {
			return fmt.Errorf("remove proxy %q: %w", proxy, err)
		}
	}
	t.mu.Lock()
	if number == 0 {
		known, _ := t.ledger.KnownLife(proxy)
		number = known.Number
	}
	peers := make([]*peer, 0, len(t.peers))
	for _, p := range t.peers {
		peers = append(peers, p)
	}
	t.mu.Unlock()
	floor := Incarnation{Number: number + 1}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	errs := make([]error, len(peers)+1)
	errs[len(peers)] = t.Forget(ctx, proxy, floor)
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			if err := p.conn.Forget(ctx, proxy, floor); err != nil {
				errs[i] = fmt.Errorf("tracker %s learns of it later: %w", p.member.ID, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Forget is Service's.
func (t *Tracker) Forget(_ context.Context, proxy ProxyID, floor Incarnation) error {
	now := t.cfg.Now()
	t.mu.Lock()
	t.endLocked(now, proxy, floor)
	t.publishLocked(now)
	t.mu.Unlock()
	t.log.Info("proxy removed", "proxy", proxy, "below", floor.Number)
	for _, c := range t.unaries.OfProxy(now, proxy) {
		c.Version, c.Gone, c.Left = c.Version+1, true, t.cfg.KeepAlive
		t.unaries.Store(now, c)
	}
	return nil
}

// Add is Directory's, by AddNode.
func (t *Tracker) Add(ctx context.Context, claims ...Claim) error {
	counted := true
	for _, c := range claims {
		w, err := t.AddNode(ctx, c)
		if err != nil {
			return fmt.Errorf("add %q: %w", c.Node, err)
		}
		counted = counted && w.Counted
	}
	if !counted {
		return ErrNotCounted
	}
	return nil
}

// Remove is Directory's, by RemoveNode.
func (t *Tracker) Remove(ctx context.Context, proxy ProxyID, ids ...ID) error {
	if err := CheckProxyID(proxy); err != nil {
		return err // to RemoveNode an empty one means all proxies
	}
	removed := true
	for _, id := range ids {
		r, err := t.RemoveNode(ctx, id, proxy)
		if err != nil {
			return fmt.Errorf("remove %q: %w", id, err)
		}
		removed = removed && r.Copies == r.Replicas
	}
	if !removed {
		return ErrNotRemoved
	}
	return nil
}

// Lookup is Directory's, by GetProxies.
func (t *Tracker) Lookup(ctx context.Context, id ID) (Answer, []Claim, error) {
	return t.GetProxies(ctx, id)
}
