package lease

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

func TestShardsOpenWhenAllHaveConfirmed(t *testing.T) {
	p, q := place(t, deskShards, 2, "a", "b", "c", "x"), place(t, deskShards, 1, "a", "b")
	held := p.Held("x").Len()
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	early := d.l.Nonce(at(0))
	full := ring.FullShardSet(deskShards)
	d.words(at(1), p, heardOf("p", life(2), 0))
	d.copies(at(2), p)
	d.want(at(2), "a proxy is heard of", held, 0)
	if proxies, trackers := d.l.Blocking(at(2), first(p)); !cmp.Equal(proxies, []ProxyID{"p"}) || trackers != nil {
		t.Errorf("Blocking = %v, %v, want p alone", proxies, trackers)
	}
	late := d.l.Nonce(at(3))
	for name, c := range map[string]Confirm{
		"a nonce from before":          {life(2), early, p.Fingerprint(), full},
		"a nonce never made":           {life(2), late + 1e12, p.Fingerprint(), full},
		"an earlier incarnation":       {life(1), late, p.Fingerprint(), full},
		"a view that places none here": {life(2), late, q.Fingerprint(), full},
		"an unknown view":              {life(2), late, 12345, full},
		"a set of another size":        {life(2), late, p.Fingerprint(), ring.FullShardSet(10 * deskShards)},
		"no complete shards":           {life(2), late, p.Fingerprint(), ring.NewShardSet(deskShards)},
	} {
		d.l.Know(at(3), q)
		d.l.Confirmed(at(3), "p", c)
		d.want(at(3), name, held, 0)
	}
	some := full.Clone()
	some.Remove(first(p))
	d.l.Confirmed(at(4), "p", Confirm{life(2), late, p.Fingerprint(), some})
	d.want(at(4), "all but a shard with a Replace under way", held, held-1)
	d.confirm(at(5), "p", life(2), p)
	d.want(at(5), "all", held, held)
	d.words(at(6), p, heardOf("q", life(1), 0))
	d.want(at(6), "a proxy that comes later closes nothing", held, held)
}

func first(p *ring.Placement) ring.Shard {
	for sh := range p.Held("x").All() {
		return sh
	}
	panic("x holds nothing")
}

// The confirm of a proxy must be under a live lease when the shard opens.
func TestAConfirmRunsOutWithTheLease(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	held := p.Held("x").Len()
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	d.words(at(0), p, heardOf("p", life(1), 0))
	d.confirm(at(1), "p", life(1), p)
	d.words(at(term-time.Second), p, heardOf("p", life(1), 0))
	d.copies(at(term+time.Second), p)
	d.want(at(term+time.Second), "the trackers confirm when the proxy's lease is over", held, 0)
}

func TestWhoIsWaitedFor(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	tests := []struct {
		name     string
		contacts map[ring.MemberID]Contact
		own      func(*Contacts)
		open     bool
	}{
		{"nobody", nil, nil, true},
		{"heard of by one seat", map[ring.MemberID]Contact{"b": heardOf("p", life(1), 0)}, nil, false},
		{"heard of here alone", nil, func(c *Contacts) { c.Heard(at(0), "p", life(1), true) }, false},
		{"without claims", map[ring.MemberID]Contact{"b": {Proxy: "p", Incarnation: life(1)}}, nil, true},
		{"two terms ago", map[ring.MemberID]Contact{"b": heardOf("p", life(1), simTerm.Forgotten()+1)}, nil, true},
		{"just within two terms", map[ring.MemberID]Contact{"b": heardOf("p", life(1), simTerm.Forgotten()-time.Second)}, nil, false},
		{"a negative age", map[ring.MemberID]Contact{"b": heardOf("p", life(1), -time.Hour)}, nil, false},
		{"after its goodbye", map[ring.MemberID]Contact{"b": heardOf("p", life(1), 0), "c": {Proxy: "p", Floor: life(1).Next()}}, nil, true},
		{"after its goodbye here", map[ring.MemberID]Contact{"b": heardOf("p", life(1), 0)}, func(c *Contacts) { c.End(at(0), "p", life(1).Next()) }, true},
		{"back after its goodbye", map[ring.MemberID]Contact{"b": heardOf("p", life(2), 0), "c": {Proxy: "p", Floor: life(1).Next()}}, nil, false},
		{"its next life has no claims", map[ring.MemberID]Contact{"b": heardOf("p", life(1), 0), "c": {Proxy: "p", Incarnation: life(2)}}, nil, true},
		{"marked for two terms", map[ring.MemberID]Contact{"b": stalledOf("p", simTerm.Forgotten())}, nil, true},
		{"marked for less", map[ring.MemberID]Contact{"b": stalledOf("p", simTerm.Forgotten()-time.Second)}, nil, false},
		{"marked by one of two", map[ring.MemberID]Contact{"b": stalledOf("p", time.Hour), "c": heardOf("p", life(1), 0)}, nil, false},
		{"marked by the one that heard of it", map[ring.MemberID]Contact{"b": stalledOf("p", time.Hour), "c": heardOf("p", life(1), simTerm.Forgotten()+1)}, nil, true},
		{"marked, and heard of here", map[ring.MemberID]Contact{"b": stalledOf("p", time.Hour)}, func(c *Contacts) { c.Heard(at(0), "p", life(1), true) }, true},
		{"an earlier life at seats, heard of here", map[ring.MemberID]Contact{"b": heardOf("p", life(1), 0)}, func(c *Contacts) { c.Heard(at(0), "p", life(2), true) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			if tt.own != nil {
				tt.own(d.own)
			}
			d.l.Adopt(at(0), p)
			for _, seat := range deskSets {
				if c, ok := tt.contacts[seat]; ok {
					d.word(at(0), seat, p, c)
				} else {
					d.word(at(0), seat, p)
				}
			}
			d.copies(at(1), p)
			open := 0
			if tt.open {
				open = p.Held("x").Len()
			}
			d.want(at(1), tt.name, p.Held("x").Len(), open)
		})
	}
}

func stalledOf(p ProxyID, d time.Duration) Contact {
	return Contact{Proxy: p, Incarnation: life(1), Claims: true, Stalled: true, StalledAge: d}
}

// A proxy that died is waited for until nobody has heard of it for two terms.
func TestAProxyIsForgottenByTime(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	held := p.Held("x").Len()
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	for i := time.Duration(0); i < simTerm.Forgotten(); i += term / 2 {
		d.words(at(i), p, heardOf("p", life(1), i))
		d.copies(at(i), p)
		d.want(at(i), "before two terms", held, 0)
	}
	now := at(simTerm.Forgotten() + 1)
	d.l.Advance(now)
	d.want(now, "after two terms", held, held)
}

func TestTrackersAreWaitedForAMinute(t *testing.T) {
	v, err := ring.NewView(ring.Member{ID: "a", State: ring.Serving}, ring.Member{ID: "x", State: ring.Serving},
		ring.Member{ID: "l", State: ring.Leaving}, ring.Member{ID: "j", State: ring.Joining})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ring.Place(v, ring.Params{Algorithm: 1, Shards: deskShards, Replicas: 2})
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	d.words(at(0), p)
	d.l.CopiesConfirmed(at(1), "a", d.l.Nonce(at(1)), p.Fingerprint())
	if proxies, trackers := d.l.Blocking(at(1), 0); proxies != nil || !cmp.Equal(trackers, []ring.MemberID{"l"}) {
		t.Errorf("Blocking = %v, %v, want the leaving tracker alone", proxies, trackers)
	}
	for i := time.Duration(0); i < Patience; i += term / 2 {
		d.words(at(i), p)
		d.want(at(i), "a leaving tracker does not confirm", deskShards, 0)
	}
	d.words(at(Patience+time.Second), p)
	d.want(at(Patience+time.Second), "for a minute", deskShards, deskShards)
}

// The mark of a stalled proxy must last while it does not confirm, also when shards
// have opened without it: or it comes and goes, and shards with it.
func TestStalledLastsUntilTheProxyConfirms(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	var since time.Duration
	for i := time.Duration(0); i < Patience+10*term; i += term / 2 {
		c := heardOf("p", life(1+uint64(i/Patience)), 0) // it starts again: the minute runs on
		stalled, selfish := d.l.Stalled(at(i))
		if selfish {
			t.Fatalf("after %v the fault is its own, with one proxy", i)
		}
		if want := i > Patience+term/2; want && len(stalled) != 1 || i < Patience && stalled != nil {
			t.Fatalf("after %v stalled is %v", i, stalled)
		}
		if stalled != nil {
			if since == 0 {
				since = i
			}
			c.Stalled, c.StalledAge = true, i-since
		}
		d.words(at(i), p, c)
		d.copies(at(i), p)
	}
	now := at(Patience + 10*term)
	d.want(now, "after two terms of marks", p.Held("x").Len(), p.Held("x").Len())
	d.words(now, p, heardOf("p", life(2), 0))
	d.confirm(now, "p", life(2), p)
	if stalled, _ := d.l.Stalled(now); stalled != nil {
		t.Errorf("stalled is %v after it confirmed", stalled)
	}
}

func TestStalledWithMostProxiesIsTheTrackersOwnFault(t *testing.T) {
	p := place(t, deskShards, 2, "a", "x")
	for _, tt := range []struct {
		silent, confirm int
		selfish         bool
	}{{2, 0, false}, {3, 0, true}, {3, 3, false}, {3, 2, true}, {2, 1, false}} {
		d := newDesk(t)
		d.l.Adopt(at(0), p)
		now := at(Patience)
		for i := range tt.silent + tt.confirm {
			d.words(at(0), p, heardOf(ProxyID(rune('a'+i)), life(1), 0))
		}
		d.l.Stalled(at(0))
		for i := range tt.silent + tt.confirm {
			d.words(now, p, heardOf(ProxyID(rune('a'+i)), life(1), 0))
			if i >= tt.silent {
				d.confirm(now, ProxyID(rune('a'+i)), life(1), p)
			}
		}
		if stalled, selfish := d.l.Stalled(now); selfish != tt.selfish || !selfish && len(stalled) != tt.silent {
			t.Errorf("%d silent, %d confirm: %v, selfish %v", tt.silent, tt.confirm, stalled, selfish)
		}
	}
}

func TestCounting(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	sh := first(p)
	now := at(time.Second)
	counting := func(contacts ...Contact) *Counting { // of a and b; c grants, and knows nobody
		d := newDesk(t)
		d.l.Adopt(at(0), p)
		n := d.l.Nonce(at(0))
		d.echo(n, at(0), "c", p)
		for i, c := range contacts {
			d.echo(n, now, deskSets[i], p, c)
		}
		return d.l.Counting(now, "p", life(2))
	}
	known := heardOf("p", life(2), 0)
	stalled := stalledOf("p", 0)
	stalled.Incarnation = life(2)
	tests := []struct {
		name                   string
		c                      *Counting
		counts, known, stalled bool
	}{
		{"known to one seat", counting(known), false, false, false},
		{"known to two", counting(known, known), true, true, false},
		{"one knows an earlier life", counting(known, heardOf("p", life(1), 0)), false, false, false},
		{"one knows a later life", counting(known, heardOf("p", life(3), 0)), false, false, false},
		{"one knows no claims", counting(known, Contact{Proxy: "p", Incarnation: life(2)}), false, false, false},
		{"one knows its goodbye", counting(known, Contact{Proxy: "p", Incarnation: life(2), Claims: true, Floor: life(2).Next()}), false, false, false},
		{"one heard of it a term before the nonce", counting(known, heardOf("p", life(2), term+time.Millisecond)), false, false, false},
		{"one within a term of now, from the nonce", counting(known, heardOf("p", life(2), term-time.Second+time.Millisecond)), false, false, false},
		{"one just within", counting(known, heardOf("p", life(2), term-time.Second-time.Millisecond)), true, true, false},
		{"one marks it", counting(known, stalled), false, false, true},
	}
	for _, tt := range tests {
		if got := tt.c.Counts(now, sh); got != tt.counts || tt.c.Known != tt.known || tt.c.Stalled != tt.stalled {
			t.Errorf("%s: counts %v, known %v, stalled %v, want %v, %v, %v", tt.name, got, tt.c.Known, tt.c.Stalled, tt.counts, tt.known, tt.stalled)
		}
		if got := tt.c.Shards(now).Has(sh); got != tt.counts {
			t.Errorf("%s: Shards has it: %v", tt.name, got)
		}
	}
	c := counting(known, heardOf("p", life(2), time.Second))
	end := at(term - time.Second)
	if until, ok := c.Until(now); !ok || until.Sub(end).Abs() > time.Millisecond || !c.Counts(until.Add(-1), sh) || c.Counts(until, sh) {
		t.Errorf("it counts until %v (%v), want %v: a term after it was heard of, at the latest", until, ok, end)
	}
}
