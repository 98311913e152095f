package trackercmd_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

// TestMetricsDocumented: what a tracker exports stands in the table of
// docs/operations.md, and what stands there is exported.
func TestMetricsDocumented(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--new-pool", "--term", "1s", "--gossip-key-file", key, "--data-dir", t.TempDir(), "--save-interval", "1s", "--trace-endpoint", "127.0.0.1:1", "--trace-plain")
	p.ready()
	c, err := rpc.Dial(p.addr("listen_addr"), rpc.Insecure())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.AddNode(t.Context(), node.Claim{Node: "n", Proxy: node.Proxy{ID: "p", Addr: "h:1"}}); err != nil {
		t.Fatal(err)
	}
	p.metric(`tracker_requests_total{class="claim",code="OK",method="AddNode"}`, "1")
	p.metric(`tracker_request_duration_seconds_count{class="claim",method="AddNode"}`, "1")

	var exported []string
	eventually(t, func() error {
		status, body := p.get(trackercmd.MetricsPath)
		if status != http.StatusOK {
			return fmt.Errorf("%d: %s", status, body)
		}
		found := map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (tracker_\w+) `).FindAllStringSubmatch(body, -1) {
			found[m[1]] = true
		}
		if !found["tracker_snapshot_bytes"] {
			return fmt.Errorf("no snapshot was written yet")
		}
		exported = slices.Sorted(maps.Keys(found))
		return nil
	})
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `tracker_") {
			cell, _, _ := strings.Cut(line[2:], "|")
			for _, m := range regexp.MustCompile("`(tracker_\\w+)").FindAllStringSubmatch(cell, -1) {
				documented[m[1]] = true
			}
		}
	}
	if diff := cmp.Diff(exported, slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Errorf("metrics (-exported +documented):\n%s", diff)
	}
}
