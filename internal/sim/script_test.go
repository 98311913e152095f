package sim

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

var largeFlag = flag.Bool("large", false, "have TestStories run pools of more than ten trackers too")

// TestStories runs what was found once, and what each promise to operators says,
// as scripts: see step. "run" takes the fields of Config that it changes.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "run" {
				d.Fatalf(t, "%q: give run", d.Cmd)
			}
			cfg := Config{Seed: 1, Disks: d.HasArg("disks")}
			for arg, v := range map[string]*int{"trackers": &cfg.Trackers, "seats": &cfg.Seats, "replicas": &cfg.Replicas, "zones": &cfg.Zones,
				"shards": &cfg.Shards, "proxies": &cfg.Proxies, "readers": &cfg.Readers, "nodes": &cfg.Nodes} {
				d.MaybeScanArgs(t, arg, v)
			}
			if cfg.Trackers > 10 && !*largeFlag {
				t.Skip("takes long: give -large")
			}
			if cfg.Trackers > 4 && race {
				t.Skip("takes long under the race detector")
			}
			began := time.Now()
			r := simulate(t, cfg, d.Input)
			t.Logf("%v of the pool's time in %v", r.took.Round(time.Second), time.Since(began).Round(time.Millisecond))
			t.Logf("what happened:\n%s", strings.Join(r.notes, "\n"))
			if len(r.violations) == 0 {
				return "nothing is wrong\n"
			}
			return strings.Join(r.violations, "\n") + "\n"
		})
	})
}
