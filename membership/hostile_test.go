package membership

import (
	"bytes"
	"compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// field is one of a message, in its order.
type field struct {
	name  string
	value any // uint64, []byte, bool, or raw
}

// raw is encoded already.
type raw []byte

// message encodes a message of memberlist by hand.
func message(kind byte, fields ...field) []byte {
	return append([]byte{kind}, mapOf(fields...)...)
}

func mapOf(fields ...field) []byte {
	b := []byte{0x80 | byte(len(fields))}
	for _, f := range fields {
		b = append(append(b, 0xa0|byte(len(f.name))), f.name...)
		switch v := f.value.(type) {
		case uint64:
			b = binary.BigEndian.AppendUint64(append(b, 0xcf), v)
		case []byte:
			b = append(binary.BigEndian.AppendUint16(append(b, 0xda), uint16(len(v))), v...)
		case bool:
			b = append(b, 0xc2)
		case raw:
			b = append(b, v...)
		default:
			panic(fmt.Sprintf("field of type %T", v))
		}
	}
	return b
}

// aliveFields say that a member is there.
func aliveFields(m meta, at netip.AddrPort, incarnation uint64) []field {
	encoded, err := m.encode()
	if err != nil {
		panic(err)
	}
	ip := at.Addr().As4()
	return []field{
		{"Incarnation", incarnation}, {"Node", []byte(m.name())}, {"Addr", ip[:]}, {"Port", uint64(at.Port())},
		{"Meta", encoded}, {"Vsn", []byte{1, 5, 2, 0, 0, 0}},
	}
}

func compound(parts ...[]byte) []byte {
	b := []byte{kindCompound, byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return append(b, bytes.Join(parts, nil)...)
}

// packed is memberlist's message for what is compressed.
func packed(b []byte) []byte {
	var small bytes.Buffer
	w := lzw.NewWriter(&small, lzw.LSB, 8)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	text := append(binary.BigEndian.AppendUint32([]byte{0xdb}, uint32(small.Len())), small.Bytes()...)
	return message(9, field{"Algo", uint64(0)}, field{"Buf", raw(text)})
}

// zeros unpacks to 30 MiB, and bomb to a compound of packets that unpack to 1 MiB
// each. Both fit into a packet.
var (
	zeros = sync.OnceValue(func() []byte { return packed(make([]byte, 30<<20)) })
	bomb  = sync.OnceValue(func() []byte { return packed(compound(slices.Repeat([][]byte{packed(make([]byte, 1<<20))}, 60)...)) })
)

// encrypted is memberlist's own encryption, of either version. The padding of
// version 0 is given with the text.
func encrypted(key []byte, version byte, text, data []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	return gcm.Seal(append([]byte{version}, nonce...), nonce, text, data)
}

func withCRC(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kindCRC}, crc32.ChecksumIEEE(b)), b...)
}

// hugeText promises 4 GiB.
var hugeText = raw{0xdb, 0xff, 0xff, 0xff, 0xff}

// hostilePackets are none that a tracker of the pool sends, without the label.
func hostilePackets(key []byte, pool string) map[string][]byte {
	stranger := someMeta()
	stranger.ID, stranger.shards = "stranger", 7
	alive := message(kindAlive, aliveFields(stranger, netip.MustParseAddrPort("127.0.0.1:9"), 1)...)
	packets := map[string][]byte{
		"nothing":                       {},
		"a kind alone":                  {kindPing},
		"an unknown kind":               {99},
		"a message for the program":     append([]byte{8}, make([]byte, 1000)...),
		"a push/pull":                   message(kindPushPull, field{"Nodes", uint64(1)}),
		"a bomb":                        bomb(),
		"a bomb in a compound":          compound(zeros()),
		"a bomb with a sum":             withCRC(zeros()),
		"a compound in a compound":      compound(compound(compound())),
		"a compound that promises more": {kindCompound, 200, 0, 1},
		"a part that promises more":     {kindCompound, 1, 0xff, 0xff, 1},
		"a text that promises more":     message(kindAlive, field{"Node", hugeText}),
		"bytes that promise more":       message(kindSuspect, field{"Node", raw{0xc6, 0xff, 0xff, 0xff, 0xff}}),
		"a name that promises more":     append([]byte{kindDead, 0x81}, hugeText...),
		"a map that promises more":      {kindAlive, 0xdf, 0xff, 0xff, 0xff, 0xff},
		"an array that promises more":   message(kindAlive, field{"Vsn", raw{0xdd, 0xff, 0xff, 0xff, 0xff}}),
		"an extension":                  message(kindAlive, field{"Meta", raw{0xc9, 0xff, 0xff, 0xff, 0xff, 1}}),
		"arrays in arrays":              message(kindAlive, field{"Vsn", raw(bytes.Repeat([]byte{0x91}, 60_000))}),
		"long metadata":                 message(kindAlive, field{"Meta", make([]byte, 60_000)}),
		"a message and more":            append(alive, 0),
		"sealed by memberlist":          encrypted(key, 1, alive, []byte(pool)),
		"padding beyond the text":       encrypted(key, 0, bytes.Repeat([]byte{0xff}, 16), []byte(pool)),
	}
	for n := 1; n < len(alive); n += 7 {
		packets[fmt.Sprintf("the first %d bytes", n)] = alive[:n]
	}
	return packets
}

// hostileStreams are none that a tracker of the pool sends, without the label.
func hostileStreams(key []byte, pool string) map[string][]byte {
	state := func(nodes, user uint64, more ...byte) []byte {
		return append(message(kindPushPull, field{"Nodes", nodes}, field{"UserStateLen", user}, field{"Join", false}), more...)
	}
	// native is memberlist's own encryption of a stream.
	native := func(version byte, text []byte) []byte {
		head := binary.BigEndian.AppendUint32([]byte{10}, uint32(1+12+len(text)+16))
		return append(head, encrypted(key, version, text, append(bytes.Clone(head), pool...))...)
	}
	return map[string][]byte{
		"a million members":        state(1<<20, 0),
		"fewer members than none":  state(1<<64-1, 0),
		"20 MiB of other state":    state(0, 20<<20, make([]byte, 1<<20)...),
		"a member of 60 kB":        state(1, 0, mapOf(field{"Meta", make([]byte, 60_000)})...),
		"members without end":      state(maxNodes, 0, bytes.Repeat(mapOf(field{"Meta", make([]byte, 1000)}), maxNodes)...),
		"a bomb":                   zeros(),
		"a bomb of bombs":          bomb(),
		"a message for the rest":   append(message(8, field{"UserMsgLen", uint64(20 << 20)}), make([]byte, 1<<20)...),
		"a compound":               compound(message(kindPing)),
		"a ping that promises":     message(kindPing, field{"Node", hugeText}),
		"sealed nothing":           native(1, nil),
		"padding beyond the text":  native(0, bytes.Repeat([]byte{0xff}, 16)),
		"20 MiB that are not here": binary.BigEndian.AppendUint32([]byte{10}, 20<<20),
		"an error":                 message(kindError, field{"Error", make([]byte, 1000)}),
		"noise":                    bytes.Repeat([]byte{0xa5, 0x5a, 0x00}, 30_000),
	}
}

// A tapped network keeps the packets that were sent.
type tapped struct {
	machine
	mu   sync.Mutex
	sent [][]byte
}

func (n *tapped) ListenPacket(port uint16) (net.PacketConn, error) {
	c, err := n.machine.ListenPacket(port)
	return &tappedConn{c, n}, err
}

type tappedConn struct {
	net.PacketConn
	net *tapped
}

func (c *tappedConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.net.mu.Lock()
	if len(c.net.sent) < 1000 {
		c.net.sent = append(c.net.sent, bytes.Clone(b))
	}
	c.net.mu.Unlock()
	return c.PacketConn.WriteTo(b, to)
}

// Whatever comes to the gossip port of a tracker, also from one who has the key:
// it stays up, takes little memory, and the honest ones go on.
func TestHostile(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("key %v", keyed), func(t *testing.T) {
			key := bytes.Repeat([]byte{'k'}, 32)
			cfg := someConfig()
			if keyed {
				cfg.KeyFile = newKeyFile(t, base64.StdEncoding.EncodeToString(key)).name
			}
			tap := &tapped{machine: machine{netip.MustParseAddr("127.0.0.1")}}
			tapping := cfg
			tapping.Sockets = tap
			a := mustJoin(t, someSelf("a"), cfg)
			b := mustJoin(t, someSelf("b"), tapping, a)
			awaitAll(t, "two members", a, b)
			boots := []uint64{a.Self().Boot, b.Self().Boot}
			h := hostile{t: t, victim: a, keys: a.transport.keys(), tap: tap}

			packets, streams := hostilePackets(key, cfg.Pool), hostileStreams(key, cfg.Pool)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			h.attack(packets, streams)
			awaitTrue(t, "the streams to end", func() bool {
				a.transport.gate.mu.Lock()
				defer a.transport.gate.mu.Unlock()
				return a.transport.gate.total == 0 && len(a.transport.gate.streams) == 0
			})
			for _, state := range []ring.State{ring.Serving, ring.Joining} {
				for _, g := range []*Gossip{a, b} {
					if err := g.SetState(state); err != nil {
						t.Fatal(err)
					}
				}
				awaitAll(t, "each other", a, b)
			}
			runtime.ReadMemStats(&after)
			took := (after.TotalAlloc - before.TotalAlloc) >> 20
			t.Logf("%d MiB were allocated in all, %v refused", took, a.Refused())
			if took > 400 {
				t.Errorf("%d MiB were allocated in all, want at most 400", took)
			}
			if got := []uint64{a.Self().Boot, b.Self().Boot}; !slices.Equal(got, boots) || a.Err() != nil || b.Err() != nil {
				t.Errorf("boots %v, want %v; errors %v, %v", got, boots, a.Err(), b.Err())
			}
			for reason, n := range a.Refused() {
				if reason != reasonTracker && reason != reasonRepeated && n == 0 && (keyed || reason != reasonKey) {
					t.Errorf("nothing was refused for reason %q", reason)
				}
			}
		})
	}
}

// hostile is who attacks a tracker.
type hostile struct {
	t      *testing.T
	victim *Gossip
	keys   keyring
	tap    *tapped
}

func (h *hostile) attack(packets, streams map[string][]byte) {
	label := []byte(labelOf("test"))
	h.sendAll(packets)
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make(map[string][]byte)
	for i := range 200 {
		b := make([]byte, rng.IntN(2000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		noise[fmt.Sprint("noise ", i)] = b
	}
	h.sendAll(noise)
	h.replay()
	for what, b := range streams {
		labelled := append(bytes.Clone(label), b...)
		h.stream(what, b)
		h.stream(what, labelled)
		h.stream(what, append([]byte(labelOf("another")), b...))
		if len(h.keys) > 0 {
			var rec recorder
			sealed := &sealedConn{Conn: &rec, keys: h.keys, pool: "test"}
			sealed.Write(labelled)
			all := bytes.Join(rec.written, nil)
			h.stream(what, all)
			h.stream(what+", cut short", all[:len(all)/2])
		}
	}
	// More than are admitted, which never say anything.
	var idle []net.Conn
	for range maxStreamsOf + 10 {
		c, err := net.Dial("tcp", h.victim.Addr())
		if err != nil {
			h.t.Fatal(err)
		}
		idle = append(idle, c)
	}
	awaitTrue(h.t, "too many streams", func() bool { return h.victim.Refused()[reasonBusy] > 0 })
	for _, c := range idle {
		c.Close()
	}
}

// packets returns what sends packets to the victim.
func (h *hostile) packets() (send func(what string, b []byte), end func() error) {
	udp, err := net.Dial("udp", h.victim.Addr())
	if err != nil {
		h.t.Fatal(err)
	}
	return func(what string, b []byte) {
		// Loopback tells the sender of a port that is closed: the tracker would be gone.
		if _, err := udp.Write(b[:min(len(b), 65_000)]); err != nil {
			h.t.Fatalf("%s: %v", what, err)
		}
	}, udp.Close
}

// sendAll sends packets with and without the label and the key, and with others.
func (h *hostile) sendAll(packets map[string][]byte) {
	send, end := h.packets()
	defer end()
	other := someRing(h.t, "o")
	for what, b := range packets {
		labelled := append([]byte(labelOf("test")), b...)
		foreign := append([]byte(labelOf("another")), b...)
		for _, p := range [][]byte{
			b, labelled, h.keys.seal("test", labelled), other.seal("test", labelled), foreign, h.keys.seal("test", foreign),
		} {
			send(what, p)
		}
	}
}

// replay sends again what was sent already.
func (h *hostile) replay() {
	send, end := h.packets()
	defer end()
	h.tap.mu.Lock()
	sent := slices.Clone(h.tap.sent)
	h.tap.mu.Unlock()
	for _, b := range sent {
		for range 3 {
			send("again", b)
		}
		send("again, cut short", b[:len(b)/2])
	}
}

// stream sends, and waits until the other side has no more to say. It may have
// closed before: then all of it was not wanted.
func (h *hostile) stream(what string, b []byte) {
	c, err := net.Dial("tcp", h.victim.Addr())
	if err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		h.t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		return
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c)
}
