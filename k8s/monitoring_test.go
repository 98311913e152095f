package k8s_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

var write = flag.Bool("write", false, "write monitoring/prometheusrule.yaml")

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
	if *write {
		if err := os.WriteFile(object, []byte(want.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want.String() {
		t.Errorf("%s is not %s as an object; write it with -write", object, rules)
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
