package membership

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hashicorp/memberlist"

	"github.com/trackerpool/trackerpool/ring"
)

// delegate has memberlist's callbacks. Most run under memberlist's lock: they
// copy what they are given into the Gossip's table, ring its bell, and never
// wait nor call back.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.EventDelegate = delegate{}
	_ memberlist.AliveDelegate = delegate{}
	_ memberlist.MergeDelegate = delegate{}
)

var errFull = errors.New("the member table is full")

// decodeNode returns what a member says of itself, or why it cannot be read. It
// keeps nothing of n.
func decodeNode(n *memberlist.Node) (entry, *MismatchError) {
	m, err := decodeMeta(n.Meta)
	if err == nil && m.name() != n.Name {
		err = fmt.Errorf("it gossips as %q, and its metadata is of %q", n.Name, m.name())
	}
	ip, ok := netip.AddrFromSlice(n.Addr)
	if err == nil && !ok {
		err = fmt.Errorf("its address has %d bytes", len(n.Addr))
	}
	if err != nil {
		id, _, _ := strings.Cut(n.Name, "#")
		return entry{}, &MismatchError{Field: "metadata", Ours: fmt.Sprintf("format %d", metaFormat), Theirs: err.Error(), Member: ring.MemberID(id)}
	}
	return entry{meta: m, addr: netip.AddrPortFrom(ip.Unmap(), n.Port)}, nil
}

// admitLocked decides whether a member that is alive may be one of ours. What it
// refuses is noted for the log.
func (g *Gossip) admitLocked(n *memberlist.Node) error {
	e, mismatch := decodeNode(n)
	if mismatch == nil {
		mismatch = g.table.me().mismatch(e.meta)
	}
	if mismatch != nil {
		g.refusals.note(mismatch)
		knock(g.bell)
		return mismatch
	}
	if !g.table.knows(n.Name) && g.table.size() >= maxMembers {
		return errFull
	}
	return nil
}

// NotifyAlive filters every message about a live member, ourselves included.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	if n.Name == d.g.table.self {
		return nil
	}
	return d.g.admitLocked(n)
}

// NotifyMerge refuses a push/pull with a pool in which one member is not
// compatible. It also learns whether a boot of ours is known: before we are known
// anywhere, so that we take a higher one, or later, so that we stop.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	me := d.g.table.me()
	for _, n := range nodes {
		e, mismatch := decodeNode(n)
		if mismatch == nil && e.ID == me.ID {
			// Our own entry, come back to us, is not another process.
			if e.Boot != me.Boot || e.addr != me.addr {
				d.g.knownBoot = max(d.g.knownBoot, e.Boot)
				d.knownLocked(e.Boot)
			}
			continue // an earlier life of ours, with other parameters maybe, is no reason to stay out
		}
		// The dead may have had other parameters.
		if n.State == memberlist.StateAlive || n.State == memberlist.StateSuspect {
			if err := d.g.admitLocked(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d delegate) NotifyJoin(n *memberlist.Node) { d.put(n) }

func (d delegate) NotifyUpdate(n *memberlist.Node) { d.put(n) }

func (d delegate) put(n *memberlist.Node) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	if n.Name == d.g.table.self {
		return // what we say of ourselves we know first
	}
	if e, mismatch := decodeNode(n); mismatch == nil {
		if d.g.strangeLocked(n.Name) {
			d.g.table.strangers[n.Name] = e
			d.g.transport.seek(n.Name, e.addr.String())
			return
		}
		d.g.table.put(e)
		d.g.joined = d.g.joined || !d.g.table.alone()
		knock(d.g.bell)
	}
}

// strangeLocked reports whether the boot of a gossip name has to prove first who it
// is.
func (g *Gossip) strangeLocked(name string) bool {
	s := g.transport.society
	if s == nil {
		return false
	}
	_, member := g.table.entries[name]
	return !member && !s.pairs.met(name)
}

func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.g.table.drop(n.Name)
	knock(d.g.bell)
}

// NodeMeta returns our metadata, which always fits: it was encoded before.
func (d delegate) NodeMeta(int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return bytes.Clone(d.g.encoded)
}

// LocalState is what an exchange of all state says besides the members.
func (d delegate) LocalState(bool) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return d.g.table.vanished()
}

func (d delegate) MergeRemoteState(b []byte, _ bool) {
	vanished := decodeVanished(b)
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.knownLocked(vanished[d.g.table.me().ID])
}

// knownLocked notes a boot of our own ID that another member knows. Whether it lives
// is all one: to trackers that had its word ours would be a late one of a former life.
func (d delegate) knownLocked(boot uint64) {
	if d.g.table.known(boot) {
		knock(d.g.bell)
	}
}

// The pool says nothing else through gossip but its members' metadata.

func (d delegate) NotifyMsg([]byte)                {}
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// knock rings a bell, a channel of size 1: who hears it looks at everything.
func knock(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
