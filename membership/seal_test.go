package membership

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
)

func someRing(t *testing.T, keys ...string) keyring {
	t.Helper()
	var r keyring
	for _, k := range keys {
		one, err := newKeyring([][]byte{bytes.Repeat([]byte(k), 32)})
		if err != nil {
			t.Fatal(err)
		}
		r = append(r, one...)
	}
	return r
}

func TestSealPacket(t *testing.T) {
	none, a, b, ba := keyring(nil), someRing(t, "a"), someRing(t, "b"), someRing(t, "b", "a")
	packet := []byte("a packet")
	for _, c := range []struct {
		name     string
		from, to keyring
		pool     string
		want     error
	}{
		{"no keys", none, none, "p", nil},
		{"one key", a, a, "p", nil},
		{"the second key opens", a, ba, "p", nil},
		{"a new key", ba, a, "p", errNoKey},
		{"another key", b, a, "p", errNoKey},
		{"another pool", a, a, "q", errNoKey},
		{"plain", none, a, "p", errPlain},
		{"not for us", a, none, "p", errNotOurs},
	} {
		sealed := c.from.seal("p", packet)
		if len(sealed) > len(packet)+sealOverhead {
			t.Errorf("%s: %d bytes are %d sealed, want at most %d more", c.name, len(packet), len(sealed), sealOverhead)
		}
		got, err := c.to.open(c.pool, sealed)
		if !errors.Is(err, c.want) || err == nil && !bytes.Equal(got, packet) {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, err, packet, c.want)
		}
	}
	sealed := a.seal("p", packet)
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if got, err := a.open("p", bad); err == nil {
			t.Errorf("with byte %d changed it opens as %q", i, got)
		}
		if got, err := a.open("p", sealed[:i]); err == nil {
			t.Errorf("the first %d bytes open as %q", i, got)
		}
	}
}

// A recorder keeps what is written, and gives what it has to read.
type recorder struct {
	net.Conn
	written [][]byte
	bytes.Reader
}

func (r *recorder) Read(b []byte) (int, error) { return r.Reader.Read(b) }
func (r *recorder) Write(b []byte) (int, error) {
	r.written = append(r.written, bytes.Clone(b))
	return len(b), nil
}

// sealStream returns the salt, and each chunk with its length, of a stream.
func sealStream(t *testing.T, keys keyring, text []byte) (head []byte, chunks [][]byte) {
	t.Helper()
	var rec recorder
	c := &sealedConn{Conn: &rec, keys: keys, pool: "p"}
	if n, err := c.Write(text); n != len(text) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	all := bytes.Join(rec.written, nil)
	head, all = all[:1+saltBytes], all[1+saltBytes:]
	for len(all) > 0 {
		n := 2 + int(all[0])<<8 + int(all[1])
		chunks, all = append(chunks, all[:n]), all[n:]
	}
	return head, chunks
}

func openStream(keys keyring, pool string, b []byte) ([]byte, error) {
	rec := &recorder{Reader: *bytes.NewReader(b)}
	return io.ReadAll(&sealedConn{Conn: rec, keys: keys, pool: pool})
}

func TestSealStream(t *testing.T) {
	a := someRing(t, "a")
	text := bytes.Repeat([]byte("0123456789"), 3*maxChunk/10)
	head, chunks := sealStream(t, a, text)
	other, otherChunks := sealStream(t, a, text)
	if bytes.Equal(head, other) {
		t.Fatal("two streams have the same salt")
	}
	join := func(chunks ...[]byte) []byte { return slices.Concat(head, slices.Concat(chunks...)) }
	for _, c := range []struct {
		name  string
		keys  keyring
		bytes []byte
		want  int // bytes that open; -1: no error either
	}{
		{"whole", a, join(chunks...), -1},
		{"two keys", someRing(t, "b", "a"), join(chunks...), -1},
		{"another key", someRing(t, "b"), join(chunks...), 0},
		{"plain", a, append([]byte{kindLabel}, text...), 0},
		{"a chunk missing", a, join(chunks[1:]...), 0},
		{"two chunks swapped", a, join(chunks[1], chunks[0], chunks[2]), 0},
		{"a chunk again", a, join(chunks[0], chunks[0]), maxChunk},
		{"a chunk of another stream", a, join(chunks[0], otherChunks[1]), maxChunk},
		{"cut in a chunk", a, join(chunks[0], chunks[1][:9]), maxChunk},
		{"a length of nothing", a, join([]byte{0, 28}), 0},
		{"a length of too much", a, join([]byte{0xff, 0xff}, make([]byte, 1<<16)), 0},
	} {
		got, err := openStream(c.keys, "p", c.bytes)
		if c.want < 0 {
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s: %d bytes, %v; want all %d", c.name, len(got), err, len(text))
			}
		} else if err == nil || !bytes.Equal(got, text[:c.want]) {
			t.Errorf("%s: %d bytes, %v; want %d and an error", c.name, len(got), err, c.want)
		}
	}
	if got, err := openStream(a, "another pool", join(chunks...)); err == nil {
		t.Errorf("for another pool: %d bytes opened", len(got))
	}
}
