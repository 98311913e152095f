package membership

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

// coming is as in package rpc's tests: what a tagged release sent is never written anew.
const coming = "v0.1.0"

var update = flag.Bool("update", false, "write testdata/golden of the release to come anew")

// TestReleasesGossip hears what each release gossiped: metadata, vanished boots, and what
// its packets and streams are sealed in. The rest is memberlist's.
func TestReleasesGossip(t *testing.T) {
	const dir, name, plain = "testdata/golden", "gossip.txt", "what memberlist sends"
	keys := someRing(t, "k")
	tab := newTable(someEntry("self", 5))
	for _, id := range []ring.MemberID{"a", "b"} {
		tab.put(someEntry(id, 1))
		tab.put(someEntry(id, 300))
		tab.drop(someEntry(id, 300).name())
	}
	few := someMeta()
	few.seats = Seats{Sums: few.seats.Sums}
	metas := map[string]meta{"meta": someMeta(), "meta without the seats' names": few}
	if *update {
		lines := map[string][]byte{"vanished": tab.vanished(), "packet": keys.seal("p", []byte(plain))}
		head, chunks := sealStream(t, keys, []byte(plain))
		lines["stream"] = append(head, bytes.Join(chunks, nil)...)
		for what, m := range metas {
			var err error
			if lines[what], err = m.encode(); err != nil {
				t.Fatal(err)
			}
		}
		var text bytes.Buffer
		for _, what := range []string{"meta", "meta without the seats' names", "vanished", "packet", "stream"} {
			fmt.Fprintf(&text, "%s: %x\n", what, lines[what])
		}
		if err := os.MkdirAll(filepath.Join(dir, coming), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, coming, name), text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	releases, err := filepath.Glob(filepath.Join(dir, "*", name))
	if err != nil || len(releases) == 0 {
		t.Fatalf("nothing in %s: %v", dir, err)
	}
	for _, file := range releases {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			what, digits, _ := strings.Cut(s.Text(), ": ")
			wire, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			switch what {
			case "vanished":
				got, want = decodeVanished(wire), map[ring.MemberID]uint64{"a": 300, "b": 300}
			case "packet":
				b, e := keys.open("p", wire)
				got, want, err = string(b), plain, e
			case "stream":
				b, e := openStream(keys, "p", wire)
				got, want, err = string(b), plain, e
			default:
				m, ok := metas[what]
				if !ok {
					t.Fatalf("%s has a strange %q", file, what)
				}
				want = m
				got, err = decodeMeta(wire)
			}
			if diff := cmp.Diff(want, got, exported); diff != "" || err != nil {
				t.Errorf("%s: its %s means something else here: %v (-want +got):\n%s", file, what, err, diff)
			}
		}
	}
}
