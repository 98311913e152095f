package ring

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

func TestGolden(t *testing.T) {
	datadriven.RunTest(t, "testdata/golden.txt", func(t *testing.T, d *datadriven.TestData) string {
		var n, leaving, shards, replicas int
		d.ScanArgs(t, "members", &n)
		d.ScanArgs(t, "leaving", &leaving)
		d.ScanArgs(t, "shards", &shards)
		d.ScanArgs(t, "replicas", &replicas)
		members := serving(ordinals(n), "a", "b", "c")
		members[leaving].State = Leaving
		p := mustPlace(t, members, shards, replicas)
		var b strings.Builder
		fmt.Fprintf(&b, "sum %016x, fingerprint %v\n", p.View().Sum(), p.Fingerprint())
		for i := range 20 {
			key := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
			s := p.ShardOf(key)
			fmt.Fprintf(&b, "%s %4d %016x %v\n", key, s, p.ListSum(s), p.List(s))
		}
		return b.String()
	})
}
