package membership

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/trackerpool/trackerpool/internal/memnet"
)

// alone starts a tracker on a network where nobody else is: what it is told of
// others leads nowhere.
func alone(f *testing.F) *Gossip {
	f.Helper()
	cfg := someConfig()
	cfg.BindAddr, cfg.Sockets = netip.AddrPortFrom(simHost(0), DefaultPort).String(), memnet.New(1).Host(simHost(0))
	g, err := Join(context.Background(), someSelf("t-0"), cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := g.Close(); err != nil {
			f.Error(err)
		}
	})
	return g
}

// FuzzPacket gives the real memberlist every packet that passes: it must not
// panic, and a packet that passes is as long as it says.
func FuzzPacket(f *testing.F) {
	m := someMeta()
	at := netip.AddrPortFrom(simHost(1), DefaultPort)
	alive := message(kindAlive, aliveFields(m, at, 1)...)
	suspect := message(kindSuspect, field{"Incarnation", uint64(1)}, field{"Node", []byte(m.name())}, field{"From", []byte("t-2#1")})
	dead := append([]byte{kindDead}, suspect[1:]...)
	ping := message(kindPing, field{"SeqNo", uint64(7)}, field{"Node", []byte{}})
	for _, b := range [][]byte{
		alive, suspect, dead, ping, compound(alive, suspect, alive), withCRC(compound(ping)),
		message(kindIndirectPing, field{"SeqNo", uint64(7)}, field{"Target", []byte{10, 0, 0, 3}}, field{"Port", uint64(1)}, field{"Nack", true}),
		message(kindAck, field{"SeqNo", uint64(7)}, field{"Payload", raw{0xc0}}), message(kindNack, field{"SeqNo", uint64(7)}),
		{}, {kindCompound, 255}, packed(alive), message(kindAlive, field{"Node", hugeText}),
	} {
		f.Add(b)
	}
	g := alone(f)
	label := []byte(labelOf(g.cfg.Pool))
	f.Fuzz(func(t *testing.T, b []byte) {
		packet, err := g.transport.unwrap(append(bytes.Clone(label), b...), nil)
		if err != nil {
			return
		}
		if longer := append(bytes.Clone(packet), 0); checkPacket(g.cfg.Pool, longer) == nil {
			t.Errorf("%x passes, and so it does with a byte more", b)
		}
		g.transport.packetCh <- &memberlist.Packet{Buf: packet, From: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 1}, Timestamp: time.Now()}
	})
}

// FuzzStream gives the real memberlist every message of a stream that passes.
func FuzzStream(f *testing.F) {
	m := someMeta()
	at := netip.AddrPortFrom(simHost(1), DefaultPort)
	state := func(members ...[]field) []byte {
		b := message(kindPushPull, field{"Nodes", uint64(len(members))}, field{"UserStateLen", uint64(0)}, field{"Join", true})
		for _, fields := range members {
			fields[1].name = "Name"
			b = append(b, mapOf(append(fields, field{"State", uint64(0)})...)...)
		}
		return b
	}
	for _, b := range [][]byte{
		state(), state(aliveFields(m, at, 1)), state(aliveFields(m, at, 1), aliveFields(m, at, 2)), state(aliveFields(m, at, 1))[:99],
		append(message(kindPushPull, field{"Nodes", uint64(0)}, field{"UserStateLen", uint64(6)}), "\x03t-0\xff\x01"...),
		message(kindPing, field{"SeqNo", uint64(7)}, field{"Node", []byte{}}), message(kindPushPull, field{"Nodes", uint64(1 << 20)}),
		{}, packed(state()), message(8, field{"UserMsgLen", uint64(1 << 20)}),
	} {
		f.Add(b)
	}
	g := alone(f)
	label := []byte(labelOf(g.cfg.Pool))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		g.transport.streamCh <- g.transport.guarded(ours, func() { close(ended) }, inbound)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
		_, _ = theirs.Write(append(bytes.Clone(label), b...)) // refused half way is well
		_ = theirs.Close()
		wg.Wait()
		<-ended
	})
}

// FuzzCheck holds what passes to what was given: no more, no other bytes.
func FuzzCheck(f *testing.F) {
	label := []byte(labelOf("p"))
	alive := message(kindAlive, aliveFields(someMeta(), netip.AddrPortFrom(simHost(1), DefaultPort), 1)...)
	state := message(kindPushPull, field{"Nodes", uint64(1)}, field{"UserStateLen", uint64(0)}, field{"Join", true})
	f.Add(alive)
	f.Add(compound(alive, alive))
	f.Add(append(state, alive[1:]...))
	f.Add(message(kindPing, field{"SeqNo", raw{0xd3, 1, 2, 3, 4, 5, 6, 7, 8}}, field{"Node", raw{0xc4, 1, 'x'}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(bytes.Clone(label), b...)
		if checkPacket("p", b) == nil && checkPacket("p", append(b, 0)) == nil {
			t.Errorf("%x passes, and so it does with a byte more", b)
		}
		for _, d := range []direction{inbound, outbound} {
			from := b
			if d == outbound {
				from = b[len(label):]
			}
			rest := bytes.NewReader(from)
			got, err := checkStream(rest, "p", d, newGate(nil))
			if err == nil && !bytes.Equal(got, from[:len(from)-rest.Len()]) {
				t.Errorf("of %x this passes: %x", from, got)
			}
			if err != nil && reasonOf(err) == "" && rest.Len() > 0 {
				t.Errorf("%x is taken for a stream that ended, with %d bytes left: %v", from, rest.Len(), err)
			}
		}
	})
}

// FuzzOpen gives what strangers send to all that looks at it before it is known to
// be from one of the pool.
func FuzzOpen(f *testing.F) {
	keys, err := newKeyring([][]byte{bytes.Repeat([]byte{'k'}, 32)})
	if err != nil {
		f.Fatal(err)
	}
	p, err := newPair("b", good, make([]byte, pairMaterial), true)
	if err != nil {
		f.Fatal(err)
	}
	met := newPairs()
	met.add(p)
	sealed, _ := met.seal(good, "b", []byte("x"))
	p.in = p.out // so that its ID is found
	p.inID = p.outID
	met.add(p)
	clear(sealed[len(sealed)-16:]) // the tag: no mutation is to find it again
	var hello, stream bytes.Buffer
	if err := writeHello(&hello, "b#0000000000000001"); err != nil {
		f.Fatal(err)
	}
	stream.WriteByte(sealedStream)
	stream.Write(make([]byte, saltBytes))
	stream.WriteString("\x00\x20")
	stream.Write(make([]byte, 32))
	for _, b := range [][]byte{sealed, hello.Bytes(), stream.Bytes(), keys.seal("p", []byte("x")), {}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if text, err := met.open(good, b); err == nil {
			t.Errorf("a packet from nobody opens as %q", text)
		}
		if text, err := openStream(keys, "p", b); len(text) > 0 {
			t.Errorf("a stream from nobody opens as %q, %v", text, err)
		}
		_, _ = keys.open("p", b) // one that was sealed is among them
		if name, err := readHello(bytes.NewReader(b)); err == nil && (len(name) < 18 || len(name) > maxIDLen+17) {
			t.Errorf("hello of %q", name)
		}
	})
}
