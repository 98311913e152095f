package scale

import (
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// A Pool is what a load is computed for. All of it is quiet: no claim changes, no
// lookup comes, no view changes.
type Pool struct {
	Trackers, Proxies int
	Nodes             int64
}

// Costs is what was measured for a pool.
type Costs struct {
	Wire    Wire
	Grants  Grants
	Gossip  Gossip
	Recount time.Duration // of one session
	Stored  Stored
}

// A Load is what one process sends and receives for one purpose.
type Load struct {
	Messages float64 // a second, sent and received
	Bytes    float64 // a second, sent and received
	Cores    float64 // busy, of this machine's
}

func (l *Load) add(o Load) {
	l.Messages += o.Messages
	l.Bytes += o.Bytes
	l.Cores += o.Cores
}

// Loads is what one process bears, by purpose.
type Loads struct {
	Sessions Load // of proxies at a tracker, of trackers at a proxy
	Finds    Load // streams of lookups, without lookups
	Grants   Load // Asks and Words
	Copies   Load // of unary claims, without any
	Gossip   Load
}

// Sum is all of it.
func (l Loads) Sum() Load {
	var all Load
	for _, part := range []Load{l.Sessions, l.Finds, l.Grants, l.Copies, l.Gossip} {
		all.add(part)
	}
	return all
}

// renewals is how often a second a word is renewed.
func renewals() float64 { return 1 / term.Renewal().Seconds() }

// pings is how often a second a side of a Session that renews says that it is
// alive: in each interval after its last frame, until the next renewal.
func pings() float64 {
	return float64(int(term.Renewal()/node.PingInterval)) * renewals()
}

// rate is what n exchanges a second cost one end. Each end does half of the work
// of both.
func (e Exchange) rate(n float64) Load {
	return Load{Messages: 2 * n, Bytes: (e.Request + e.Answer) * n, Cores: n * e.CPU.Seconds() / 2}
}

// Session is what one session costs each of its two ends: a Nonce, a Renew and an
// Ack in each renewal, and pings of both.
func Session(w Wire) Load {
	l := w.Ping.rate(pings())
	renew := w.Renew.rate(renewals())
	renew.Messages *= 1.5 // the Nonce and the Ack go apart; Renew measured them in one frame
	renew.Bytes += w.Ping.Answer * renewals()
	l.add(renew)
	return l
}

// asking is what one tracker and one seat bear together for grants, but for what
// they work out.
func (c Costs) asking() Load {
	l := c.Wire.Ask.rate(renewals())
	for _, named := range []struct {
		e Exchange
		n float64
	}{{c.Wire.AskContact, c.Grants.AskContacts}, {c.Wire.WordContact, c.Grants.WordContacts}} {
		more := named.e.rate(named.n * renewals())
		more.Messages = 0
		l.add(more)
	}
	return l
}

// copying is what a tracker bears for the unary claims of all, where there are
// none: to each other tracker and from it, a confirm that answers each nonce, and
// once a term the sums. Both are acknowledged.
func (p Pool) copying(c Costs) Load {
	others := float64(p.Trackers - 1)
	frames := 2 * others * (renewals() + 1/term.Held().Seconds())
	l := c.Wire.Copy.rate(frames)
	nonces := 2 * renewals() * others
	l.add(Load{Messages: nonces, Bytes: nonces * c.Wire.Copy.Answer, Cores: nonces * c.Wire.Copy.CPU.Seconds() / 4})
	return l
}

func (l Load) times(n int) Load {
	return Load{l.Messages * float64(n), l.Bytes * float64(n), l.Cores * float64(n)}
}

func (g Gossip) load() Load {
	// Each packet and stream that one sends another receives.
	return Load{Messages: 2 * (g.Packets + g.Streams), Bytes: 2 * (g.PacketBytes + g.StreamBytes)}
}

// Tracker is what a tracker that is no seat bears.
func (p Pool) Tracker(c Costs) Loads {
	seats := min(seatCount, p.Trackers)
	l := Loads{
		Sessions: Session(c.Wire).times(p.Proxies),
		Finds:    c.Wire.Ping.rate(1 / node.PingInterval.Seconds()).times(p.Proxies),
		Grants:   c.asking().times(seats),
		Copies:   p.copying(c),
		Gossip:   c.Gossip.load(),
	}
	l.Sessions.Cores += float64(p.Proxies) * renewals() * c.Recount.Seconds()
	words := float64(seats) * renewals()
	l.Grants.Cores += words * (c.Grants.Take.Seconds() + float64(p.Proxies)*c.Recount.Seconds())
	return l
}

// Seat is what a seat bears: it is a tracker too, and asks the other seats.
func (p Pool) Seat(c Costs) Loads {
	others := min(seatCount, p.Trackers) - 1
	l := p.Tracker(c)
	l.Copies = p.copying(c)
	l.Grants = c.asking().times(others + p.Trackers - 1)
	words := float64(others) * renewals()
	l.Grants.Cores += words * (c.Grants.Take.Seconds() + float64(p.Proxies)*c.Recount.Seconds())
	asks := float64(p.Trackers-1) * renewals()
	l.Grants.Cores += asks * (c.Grants.Asked.Seconds() + c.Grants.Word.Seconds() + c.Grants.AskContacts*c.Recount.Seconds())
	return l
}

// Proxy is what a proxy bears: a session and a stream of lookups to each tracker.
func (p Pool) Proxy(c Costs) Loads {
	return Loads{
		Sessions: Session(c.Wire).times(p.Trackers),
		Finds:    c.Wire.Ping.rate(1 / node.PingInterval.Seconds()).times(p.Trackers),
	}
}

// Holding is what a process keeps in memory.
type Holding struct {
	Claims      float64
	ClaimBytes  float64
	Connections int
	ConnBytes   float64
}

// AtTracker is what a tracker keeps: its even share of the copies, and a
// connection of each proxy and two with each other tracker.
func (p Pool) AtTracker(c Costs) Holding {
	h := Holding{Claims: float64(p.Nodes) * float64(min(replicas, p.Trackers)) / float64(p.Trackers), Connections: p.Proxies + 2*(p.Trackers-1)}
	h.ClaimBytes = h.Claims * c.Stored.Bytes
	h.ConnBytes = float64(h.Connections) * c.Wire.Connection
	return h
}

// AtProxy is what a proxy keeps: its own claims, and a connection to each tracker.
func (p Pool) AtProxy(c Costs) Holding {
	h := Holding{Claims: float64(p.Nodes) / float64(p.Proxies), Connections: p.Trackers}
	h.ClaimBytes = h.Claims * c.Stored.Bytes
	h.ConnBytes = float64(h.Connections) * c.Wire.Connection
	return h
}

// Burst is the CPU of a tracker at each of its renewals, when all proxies renew at
// the same time: it gives all of them their nonces at once.
func (p Pool) Burst(c Costs) time.Duration {
	return time.Duration(p.Proxies) * (c.Wire.Renew.CPU*3/4 + c.Recount) // of three messages, at one end
}

// Filling is the CPU that a joiner needs at least for the claims of so many nodes
// that are sent to it again.
func (c Costs) Filling(claims float64) time.Duration {
	return time.Duration(claims * float64(c.Wire.Claim.CPU/2+c.Stored.CPU))
}
