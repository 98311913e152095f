package membership

import "testing"

// A packet of the usual size, from sealing to what memberlist sees.
func BenchmarkPacket(b *testing.B) {
	keys, err := newKeyring([][]byte{make([]byte, 32)})
	if err != nil {
		b.Fatal(err)
	}
	material := make([]byte, pairMaterial)
	sender, err := newPair("b", good, material, true)
	if err != nil {
		b.Fatal(err)
	}
	receiver, err := newPair("a", good, material, false)
	if err != nil {
		b.Fatal(err)
	}
	from, to := newPairs(), newPairs()
	from.add(sender)
	to.add(receiver)
	part := message(kindAck, field{"SeqNo", uint64(1)}, field{"Payload", make([]byte, 150)})
	packet := append([]byte(labelOf("pool")), compound(part, part, part, part, part, part, part)...)
	b.SetBytes(int64(len(packet)))
	b.ReportAllocs()
	for b.Loop() {
		sealed, ok := from.seal(good, "b", keys.seal("pool", packet))
		if !ok {
			b.Fatal("not met")
		}
		opened, err := to.open(good, sealed)
		if err == nil {
			opened, err = keys.open("pool", opened)
		}
		if err == nil {
			err = checkPacket("pool", opened)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
