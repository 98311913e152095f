package scale

import (
	_ "embed" // gossip.csv
	"encoding/csv"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Gossip is what membership costs one tracker. Packets and streams are those that
// it sends; it receives as many.
type Gossip struct {
	Packets, PacketBytes float64 // a second, quiet
	Streams, StreamBytes float64 // a second, quiet: exchanges of all state
	JoinBytes            float64 // sent for one join besides what is sent anyway

	JoinSeen, CrashSeen time.Duration // until all members have seen it
}

// gossipRecord was measured by TestGossip with -update.
//
//go:embed gossip.csv
var gossipRecord string

// gossipMeasured is the largest pool in gossipRecord.
const gossipMeasured = 50

// RecordedGossip returns what was measured, in virtual time on the real
// memberlist, by the number of trackers: means of three runs, and of times the
// largest.
func RecordedGossip() (map[int]Gossip, error) {
	rows, err := csv.NewReader(strings.NewReader(gossipRecord)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("gossip.csv: %w", err)
	}
	all := make(map[int]Gossip)
	for i, row := range rows[1:] {
		v := make([]float64, len(row))
		for j, text := range row {
			if v[j], err = strconv.ParseFloat(text, 64); err != nil {
				return nil, fmt.Errorf("gossip.csv: row %d: %w", i+2, err)
			}
		}
		all[int(v[0])] = Gossip{v[1], v[2], v[3], v[4], v[5], seconds(v[6]), seconds(v[7])}
	}
	return all, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// ComputeGossip extends the record to n trackers by what memberlist documents of
// itself: each member probes one other in an interval, however many there are; it
// exchanges all state with one other in an interval that grows with log2(n) beyond
// 32, which is n entries in each direction; what is news is sent on by each member
// 4*ceil(log10(n+1)) times; a suspect is declared dead after 4*log10(n) probes.
func ComputeGossip(record map[int]Gossip, n int) (Gossip, error) {
	if g, ok := record[n]; ok {
		return g, nil
	}
	last, ok := record[gossipMeasured]
	if !ok || n < gossipMeasured {
		return Gossip{}, fmt.Errorf("gossip of %d trackers is not in gossip.csv, and is computed only beyond %d: add it to TestGossip, and run that with -update", n, gossipMeasured)
	}
	g := last
	g.Streams *= pushPullScale(gossipMeasured) / pushPullScale(n)
	g.StreamBytes *= pushPullScale(gossipMeasured) / pushPullScale(n) * float64(n) / gossipMeasured
	// Who joins gets all state; the others' share of that is the same for any n.
	g.JoinBytes *= retransmits(n) / retransmits(gossipMeasured)
	g.JoinSeen = time.Duration(float64(last.JoinSeen) * math.Log10(float64(n)) / math.Log10(gossipMeasured))
	g.CrashSeen = time.Duration(float64(last.CrashSeen) * math.Log10(float64(n)) / math.Log10(gossipMeasured))
	return g, nil
}

// pushPullScale is by how much a pool of n exchanges all state less often.
func pushPullScale(n int) float64 {
	const threshold = 32
	if n <= threshold {
		return 1
	}
	return math.Ceil(math.Log2(float64(n))-math.Log2(threshold)) + 1
}

// retransmits is how often each of n members sends the same news.
func retransmits(n int) float64 { return 4 * math.Ceil(math.Log10(float64(n+1))) }
