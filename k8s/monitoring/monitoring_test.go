// Package monitoring_test holds the rules and the dashboard to Prometheus' own rule
// engine, to what a running tracker exports, and to the pages that they link to. It
// is a module of its own, since Prometheus has some hundred dependencies.
package monitoring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/pool/poolmetrics"
	"github.com/trackerpool/trackerpool/rpc"
)

const patience = 30 * time.Second

// exported are the metrics of a tracker that runs and of a client of its, by name.
func exported(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	logs, result := &log{}, make(chan error, 1)
	go func() {
		result <- trackercmd.Run(ctx, []string{"--listen-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
			"--log-format", "json", "--data-dir", t.TempDir(), "--save-interval", "1s", "--trace-endpoint", "127.0.0.1:1", "--trace-plain"}, io.Discard, logs)
	}()
	t.Cleanup(func() {
		cancel(trackercmd.ErrKilled)
		if err := <-result; !errors.Is(err, trackercmd.ErrKilled) {
			t.Error(err)
		}
	})
	grpcAddr, admin := logs.addrs(t)
	c, err := rpc.Dial(grpcAddr, rpc.Insecure())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	deadline := time.Now().Add(patience)
	claim := node.Claim{Node: "n", Proxy: node.Proxy{ID: "p", Addr: "h:1"}}
	for _, err = c.AddNode(t.Context(), claim); errors.Is(err, node.ErrUnavailable); _, err = c.AddNode(t.Context(), claim) {
		if time.Now().After(deadline) { // it has no view yet
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	for ; ; time.Sleep(50 * time.Millisecond) {
		families := scrape(t, "http://"+admin+trackercmd.MetricsPath)
		if families["tracker_snapshot_bytes"] != nil { // the last to come
			maps.Copy(families, exportedByClient(t, grpcAddr))
			return families
		}
		if time.Now().After(deadline) {
			t.Fatalf("no snapshot was saved within %v:\n%s", patience, logs)
		}
	}
}

func exportedByClient(t *testing.T, addr string) map[string]*dto.MetricFamily {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m := poolmetrics.New()
	c, err := pool.Open(ctx, pool.Config{Trackers: []string{addr}, Metrics: m, Proxy: node.Proxy{ID: "q", Addr: "h:2"}})
	if err != nil {
		t.Fatal(err)
	}
	m.Of(c.Stats)
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	all, err := registry.Gather()
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	families := map[string]*dto.MetricFamily{}
	for _, f := range all {
		families[f.GetName()] = f
	}
	return families
}

func scrape(t *testing.T, url string) map[string]*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// A log is what a tracker logs.
type log struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// addrs waits until the tracker serves, and returns where.
func (l *log) addrs(t *testing.T) (grpc, admin string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for line := range strings.Lines(l.String()) {
			var said struct{ Msg, Listen_addr, Admin_addr string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "tracker serving" {
				return said.Listen_addr, said.Admin_addr
			}
		}
	}
	t.Fatalf("the tracker does not serve after %v:\n%s", patience, l)
	return "", ""
}

func ruleGroups(t *testing.T) []rulefmt.RuleGroup {
	t.Helper()
	groups, errs := rulefmt.ParseFile("rules.yaml", false, model.UTF8Validation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	if len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	return groups.Groups
}

// queries are all of the dashboard and of the rules, by where they are.
func queries(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	grafana := strings.NewReplacer("$__rate_interval", "5m", `"$namespace"`, `".*"`, `"$job"`, `".*"`, `"$clients"`, `".*"`)
	add := func(where, expr string) {
		if all[where] != "" {
			t.Errorf("two queries are called %q", where)
		}
		all[where] = grafana.Replace(expr)
	}
	for _, p := range board.Panels {
		for i, q := range p.Targets {
			add(fmt.Sprintf("panel %s, query %d", p.Title, i+1), q.Expr)
		}
	}
	for _, v := range board.Templating.List {
		if m := regexp.MustCompile(`^label_values\((.+), \w+\)$`).FindStringSubmatch(v.Query); m != nil {
			add("variable "+v.Name, m[1])
		} else if v.Type == "query" {
			t.Errorf("variable %s: the query is not understood: %s", v.Name, v.Query)
		}
	}
	if len(all) < 30 {
		t.Fatalf("only %d queries were read of the dashboard", len(all))
	}
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			add("rule "+r.Record+r.Alert, r.Expr)
		}
	}
	return all
}

// TestQueries: every query of the dashboard and the rules asks for metrics, labels and
// values of labels that a running tracker or a client exports, or that a rule records.
func TestQueries(t *testing.T) {
	have := exported(t)
	recorded := map[string]bool{}
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			recorded[r.Record] = true
		}
	}
	used := map[string]bool{}
	for where, query := range queries(t) {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			switch n := n.(type) {
			case *parser.VectorSelector:
				family := have[n.Name]
				if family == nil {
					family = have[strings.TrimSuffix(n.Name, "_bucket")]
				}
				switch {
				case recorded[n.Name], n.Name == "up": // Prometheus' own
				case family == nil:
					t.Errorf("%s: neither a tracker nor a client exports %s", where, n.Name)
				default:
					used[family.GetName()] = true
					for _, m := range n.LabelMatchers {
						if problem := unmatched(family, m); problem != "" {
							t.Errorf("%s: %s: %s", where, n.Name, problem)
						}
					}
				}
			case *parser.AggregateExpr:
				for _, label := range n.Grouping {
					if !known(have, label) {
						t.Errorf("%s: no metric has a label %s", where, label)
					}
				}
			}
			return nil
		})
	}
	for name := range have { // what nobody looks at need not be exported
		if (strings.HasPrefix(name, "tracker_") || strings.HasPrefix(name, "pool_")) && !used[name] && !slices.Contains(unwatched, name) {
			t.Errorf("%s is in no query", name)
		}
	}
}

// unwatched are metrics for people who look for a cause.
var unwatched = []string{
	"pool_claims_bytes", "pool_lives",
	"tracker_fillings_total", "tracker_gossip_keys", "tracker_gossip_members", "tracker_requests_open", "tracker_restored_proxies",
	"tracker_seat_granting", "tracker_seat_silence_seconds", "tracker_sessions_total", "tracker_snapshot_bytes",
}

// target are the labels that a scrape adds.
var target = []string{"namespace", "job", "instance"}

// unmatched says why a matcher matches nothing that is exported.
func unmatched(f *dto.MetricFamily, m *labels.Matcher) string {
	if m.Name == labels.MetricName || slices.Contains(target, m.Name) {
		return ""
	}
	named := false
	for _, metric := range f.Metric {
		for _, l := range metric.Label {
			if l.GetName() == m.Name {
				named = true
				if m.Type != labels.MatchEqual || m.Matches(l.GetValue()) {
					return ""
				}
			}
		}
	}
	if !named {
		return "it has no label " + m.Name
	}
	return fmt.Sprintf("no series has %s", m)
}

func known(have map[string]*dto.MetricFamily, label string) bool {
	if label == "le" || slices.Contains(target, label) {
		return true
	}
	for _, f := range have {
		for _, m := range f.Metric {
			if slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == label }) {
				return true
			}
		}
	}
	return false
}

// TestRunbooks: each alert says what it is and how bad, and links to a section that is
// there; each section is of an alert.
func TestRunbooks(t *testing.T) {
	const base = "https://github.com/trackerpool/trackerpool/blob/main/docs/alerts.md#"
	page, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(page), -1) {
		sections[strings.ToLower(m[1])] = true
	}
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			anchor, ok := strings.CutPrefix(r.Annotations["runbook_url"], base)
			if !ok || anchor != strings.ToLower(r.Alert) || !sections[anchor] {
				t.Errorf("%s: docs/alerts.md has no section for %q", r.Alert, r.Annotations["runbook_url"])
			}
			delete(sections, anchor)
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("%s: it needs a summary, a description, and a severity of critical, warning or info", r.Alert)
			}
		}
	}
	for s := range sections {
		t.Errorf("docs/alerts.md: section %s is of no alert", s)
	}
}
