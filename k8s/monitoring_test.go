package k8s_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

var write = flag.Bool("write", false, "write monitoring/prometheusrule.yaml and chart/files")

// kustomize cannot put a file into an object but as a text, so the rules are there twice.
func TestPrometheusRule(t *testing.T) {
	const rules, object = "monitoring/rules.yaml", "monitoring/prometheusrule.yaml"
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("# Written from rules.yaml by: go -C k8s test . -run TestPrometheusRule -write\n" +
		"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: tracker\nspec:\n")
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#") {
			want.WriteString("  " + line)
		}
	}
	same(t, object, want.String())
}

// A chart has no files from outside of it, and links do not survive archives and checkouts
// everywhere: the chart has copies.
func TestChartFiles(t *testing.T) {
	for _, name := range []string{"rules.yaml", "dashboard.json"} {
		text, err := os.ReadFile("monitoring/" + name)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "chart/files/"+name, string(text))
	}
}

// same checks what is in a file that is written from others, or writes it.
func same(t *testing.T, file, want string) {
	t.Helper()
	if *write {
		if err := os.WriteFile(file, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what it is made from; write it by: go -C k8s test . -run 'TestPrometheusRule|TestChartFiles' -write", file)
	}
}

// Alerts go by the job, which must be another for each pool of a namespace.
func TestJob(t *testing.T) {
	for name, all := range every(t) {
		m := one[monitoring.ServiceMonitor](t, all, "ServiceMonitor")
		if m == nil {
			continue
		}
		r := m.Spec.Endpoints[0].RelabelConfigs
		if len(r) != 1 || r[0].TargetLabel != "job" || r[0].Replacement == nil || *r[0].Replacement != "tracker-"+statefulSet(t, all).Name {
			t.Errorf("%s: relabelings %v, want the job tracker- and the name of the StatefulSet", name, r)
		}
	}
}
