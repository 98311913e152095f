package scale

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Everybody acknowledges a change, whatever it costs the seat, and within a few
// messages each.
func TestChangeSettles(t *testing.T) {
	for _, took := range []time.Duration{0, 10 * time.Microsecond, time.Millisecond} {
		for _, n := range []int{3, 10, 20} {
			for seed := range uint64(2) {
				cost := func() time.Duration { return took }
				c, err := MeasureChange(n, 20, seed, cost)
				if err != nil {
					t.Fatal(err)
				}
				again, err := MeasureChange(n, 20, seed, cost)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c, again); diff != "" {
					t.Errorf("seed %d, %d trackers, work of %v: another run differs:\n%s", seed, n, took, diff)
				}
				if c.Settled == 0 || c.Settled > c.Over {
					t.Errorf("seed %d, %d trackers, work of %v: not settled: %+v", seed, n, took, c)
				}
				if most := MostWords(n); c.Asks < n-1 || c.Words < 2*(n-1) || c.Words > most || took == 0 && c.Words != most {
					t.Errorf("seed %d, %d trackers, work of %v: %+v, want an Ask and two Words of each or more, and at most %d, which work of no time takes", seed, n, took, c, most)
				}
			}
		}
	}
}

// Work of the seat lets Words gather: it makes them fewer, not more.
func TestChangeGathersWords(t *testing.T) {
	words := func(took time.Duration) int {
		c, err := MeasureChange(100, 10, 1, func() time.Duration { return took })
		if err != nil {
			t.Fatal(err)
		}
		return c.Words
	}
	if quick, slow := words(0), words(100*time.Microsecond); slow >= quick || slow > 10*100 {
		t.Errorf("a slow seat sends %d Words, a quick one %d: want fewer, and some for each of 100", slow, quick)
	}
}

func TestGrantsNameWhoRenewed(t *testing.T) {
	for _, n := range []int{3, 8} {
		g, err := MeasureGrants(n, 50, 7)
		if err != nil {
			t.Fatal(err)
		}
		if g.WordContacts != 50 {
			t.Errorf("%d trackers: a Word names %v proxies, want all 50: all renewed since", n, g.WordContacts)
		}
		if g.AskContacts <= 0 || g.AskContacts > 50 {
			t.Errorf("%d trackers: an Ask names %v proxies, want some of 50", n, g.AskContacts)
		}
	}
}

func TestRecountCounts(t *testing.T) {
	for _, n := range []int{3, 8} {
		if took, err := MeasureRecount(n, 10, 7); err != nil || took < 0 {
			t.Errorf("%d trackers: %v, %v", n, took, err)
		}
	}
}

func TestJoinsAreEven(t *testing.T) {
	for _, n := range []int{3, 20} {
		j, err := MeasureJoins(n, highShards, 5, 3)
		if err != nil {
			t.Fatal(err)
		}
		if want := 1 / float64(n+1); math.Abs(j.Fraction-want) > 0.2*want || j.Worst > 1.4 || j.Old > 0.05 || j.Fullest > 1.4 {
			t.Errorf("seed 3: a join to %d moved %+v, want about %.3f of all copies", n, j, want)
		}
	}
}

// someCosts are made up, so that what is computed from them can be told apart.
func someCosts() Costs {
	return Costs{
		Wire: Wire{
			Ping: Exchange{10, 20, 2}, Renew: Exchange{100, 70, 4}, Ask: Exchange{120, 110, 6}, Copy: Exchange{115, 75, 8},
			AskContact: Exchange{50, 0, 1}, WordContact: Exchange{0, 50, 1}, Connection: 1000,
		},
		Grants: Grants{AskContacts: 10, WordContacts: 20},
		Gossip: Gossip{Packets: 4, PacketBytes: 300, Streams: 1, StreamBytes: 100},
		Stored: Stored{Bytes: 40, CPU: 100},
	}
}

// How loads grow is what docs/scale.md says of them.
func TestLoadsGrow(t *testing.T) {
	c := someCosts()
	base := Pool{Trackers: 100, Proxies: 1000, Nodes: 1000}
	trackers, proxies := base, base
	trackers.Trackers *= 2
	proxies.Proxies *= 2
	for _, tt := range []struct {
		name string
		of   func(Pool) float64
		// How much more of it there is with twice the trackers, and twice the proxies.
		trackers, proxies float64
	}{
		{"a tracker's sessions", func(p Pool) float64 { return p.Tracker(c).Sessions.Messages }, 1, 2},
		{"a proxy's sessions", func(p Pool) float64 { return p.Proxy(c).Sessions.Messages }, 2, 1},
		{"a tracker's grants", func(p Pool) float64 { return p.Tracker(c).Grants.Bytes }, 1, 1},
		{"a seat's grants", func(p Pool) float64 { return p.Seat(c).Grants.Bytes }, 2, 1},
		{"a tracker's copies", func(p Pool) float64 { return p.Tracker(c).Copies.Messages }, 2, 1},
		{"a tracker's gossip", func(p Pool) float64 { return p.Tracker(c).Gossip.Bytes }, 1, 1},
		{"a tracker's claims", func(p Pool) float64 { return p.AtTracker(c).ClaimBytes }, 0.5, 1},
		{"a proxy's claims", func(p Pool) float64 { return p.AtProxy(c).ClaimBytes }, 1, 0.5},
		{"a proxy's connections", func(p Pool) float64 { return p.AtProxy(c).ConnBytes }, 2, 1},
		{"a burst of renewals", func(p Pool) float64 { return float64(p.Burst(c)) }, 1, 2},
	} {
		was := tt.of(base)
		if got := tt.of(trackers) / was; math.Abs(got-tt.trackers) > 0.03 {
			t.Errorf("%s, with twice the trackers: %.2f times, want %v", tt.name, got, tt.trackers)
		}
		if got := tt.of(proxies) / was; math.Abs(got-tt.proxies) > 0.03 {
			t.Errorf("%s, with twice the proxies: %.2f times, want %v", tt.name, got, tt.proxies)
		}
	}
}

func TestSession(t *testing.T) {
	// In ten seconds three renewals of three messages, and nine pings each way.
	if got := Session(someCosts().Wire).Messages; math.Abs(got-2.7) > 1e-9 {
		t.Errorf("a session has %v messages a second, want 2.7", got)
	}
}

func TestComputeGossip(t *testing.T) {
	record, err := RecordedGossip()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{3, gossipMeasured} {
		if got, err := ComputeGossip(record, n); err != nil || got != record[n] {
			t.Errorf("%d trackers: %+v, %v; want what was measured", n, got, err)
		}
	}
	last := record[gossipMeasured]
	got, err := ComputeGossip(record, 500)
	if err != nil {
		t.Fatal(err)
	}
	// memberlist waits 2 intervals at 50 members, and 5 at 500.
	if want := last.StreamBytes * 10 * 2 / 5; math.Abs(got.StreamBytes-want) > 1e-6 {
		t.Errorf("500 trackers send %v B/s of state, want %v", got.StreamBytes, want)
	}
	if got.PacketBytes != last.PacketBytes || got.CrashSeen <= last.CrashSeen {
		t.Errorf("500 trackers: %+v, want the packets of %+v, and to see a crash later", got, last)
	}
	if _, err := ComputeGossip(record, 7); err == nil {
		t.Error("7 trackers were not measured, and are not beyond what was: want an error")
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", 2.5: "2.5", 12.345: "12.3", 123.4: "123", 1234567: "1,234,567", 0.012345: "0.0123", 99.96: "100"} {
		if got := short(v); got != want {
			t.Errorf("short(%v): got %q, want %q", v, got, want)
		}
	}
}

func TestTables(t *testing.T) {
	r := &Report{}
	f := r.figure("f", "A figure", "s")
	f.series("a").add(3, 1.5, false)
	f.series("b").add(10, 2000, true)
	var b strings.Builder
	if err := r.WriteTables(&b); err != nil {
		t.Fatal(err)
	}
	want := "\n**A figure**, s\n\n| trackers | a | b |\n|---:|---:|---:|\n| 3 | 1.5 | |\n| 10 | | *2,000* |\n"
	if _, got, _ := strings.Cut(b.String(), "end.\n"); got != want {
		t.Errorf("the table (-want +got):\n%s", cmp.Diff(want, got))
	}
	b.Reset()
	if err := r.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	if want := "figure,series,trackers,value,unit,source\nf,a,3,1.5,s,measured\nf,b,10,2000,s,computed\n"; b.String() != want {
		t.Errorf("the CSV (-want +got):\n%s", cmp.Diff(want, b.String()))
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for want, c := range map[string]Config{
		"sizes [2]":     {Sizes: []int{2}},
		"sizes [30 10]": {Sizes: []int{30, 10}},
		"sizes [3 5000": {Sizes: []int{3, 5000}},
		"proxies 1":     {Proxies: 1},
		"nodes -1":      {Nodes: -1},
		"joins -1":      {Joins: -1},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", c, err, want)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestRun runs all of it once, as small as it may be.
func TestRun(t *testing.T) {
	r, err := Run(t.Context(), Config{Sizes: []int{3, 10}, Proxies: 20, Nodes: 100_000, Joins: 2})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "scale.csv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]bool{}
	for _, row := range rows[1:] {
		drawn[row[0]] = true
	}
	for _, f := range r.Figures {
		svg, err := os.ReadFile(filepath.Join(dir, f.Name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(bytes.NewReader(svg))
		for err == nil {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) || !bytes.Contains(svg, []byte(f.Title)) {
			t.Errorf("%s.svg: %v; want XML that has its title", f.Name, err)
		}
		if !drawn[f.Name] {
			t.Errorf("scale.csv has no row of %s", f.Name)
		}
	}
}
