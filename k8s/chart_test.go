package k8s_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
)

// variants are values of the chart that no overlay has.
var variants = map[string]map[string]any{
	"another trust domain": {"tls": map[string]any{"trustDomain": "example.org"}},
	"five seats":           {"replicaCount": 7, "seats": 5, "copies": 3},
	"seats being changed":  {"replicaCount": 5, "seats": 5, "formerSeats": 3, "copies": 3, "formerCopies": 2},
	"persistent":           {"snapshot": map[string]any{"persistent": true, "storageClassName": "fast"}},
	"a gossip key":         {"gossip": map[string]any{"keySecret": "trackerpool-gossip"}},
	"traces":               {"tracing": map[string]any{"endpoint": "collector.monitoring:4317", "sample": 0.01, "caSecret": "collector-ca"}},
	"traces in the clear":  {"tracing": map[string]any{"endpoint": "[2001:db8::1]:44317", "plain": true}},
	"no snapshot":          {"snapshot": map[string]any{"enabled": false}},
	"an issuer of others": {"tls": map[string]any{
		"enabled": true, "issuer": map[string]any{"create": false, "kind": "ClusterIssuer", "name": "devices"},
	}},
	"all that is optional": {
		"imagePullSecrets": []any{map[string]any{"name": "registry"}}, "priorityClassName": "high", "nodeSelector": map[string]any{"disk": "ssd"},
		"tolerations": []any{map[string]any{"key": "trackers", "operator": "Exists"}}, "podAnnotations": map[string]any{"a": "b"},
		"extraArgs": []any{"--log-level=debug"}, "serviceMonitor": map[string]any{"enabled": true, "labels": map[string]any{"release": "prometheus"}},
		"prometheusRule": map[string]any{"enabled": true, "labels": map[string]any{"release": "prometheus"}},
		"dashboard":      map[string]any{"enabled": true, "labels": map[string]any{"grafana_dashboard": nil, "dashboards": "yes"}},
		"service":        map[string]any{"type": "LoadBalancer", "annotations": map[string]any{"c": "d"}, "loadBalancerSourceRanges": []any{"192.0.2.0/24"}},
	},
}

func TestChartRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		values map[string]any
		want   string // in the error
	}{
		"two seats":            {map[string]any{"seats": 2}, "seats"},
		"unknown value":        {map[string]any{"replicas": 3}, "replicas"},
		"fewer than the seats": {map[string]any{"replicaCount": 2}, "2 trackers are fewer than the 3 seats"},
		"fewer than the former seats": {
			map[string]any{"replicaCount": 3, "seats": 3, "formerSeats": 5}, "3 trackers are fewer than the 5 seats"},
		"autoscaled below the seats": {
			map[string]any{"seats": 5, "replicaCount": 5, "autoscaling": map[string]any{"enabled": true, "minReplicas": 3}},
			"autoscaling.minReplicas: 3 trackers are fewer than the 5 seats"},
		"autoscaled to nothing": {map[string]any{"autoscaling": map[string]any{"maxReplicas": 2}}, "maxReplicas 2 is less than minReplicas, 3"},
		"no limit of memory":    {map[string]any{"resources": map[string]any{"limits": map[string]any{"memory": nil}}}, "memory"},
		"memory in bytes":       {map[string]any{"resources": map[string]any{"limits": map[string]any{"memory": "1000000"}}}, "memory"},
		"no TLS":                {map[string]any{"tls": map[string]any{"enabled": false}}, "tls.enabled"},
		"no issuer":             {map[string]any{"tls": map[string]any{"enabled": true, "issuer": map[string]any{"create": false}}}, "tls.issuer.name"},
		"issuer of the cluster": {map[string]any{"tls": map[string]any{"issuer": map[string]any{"kind": "ClusterIssuer"}}}, "tls.issuer.create"},
		"positional argument":   {map[string]any{"extraArgs": []any{"config"}}, "extraArgs"},
		"traces to nobody known": {
			map[string]any{"tracing": map[string]any{"endpoint": "c:4317"}}, "tracing: name in caSecret who vouches for the collector, or set plain"},
		"traces to no port":       {map[string]any{"tracing": map[string]any{"endpoint": "c", "plain": true}}, "/tracing/endpoint"},
		"traces of more than all": {map[string]any{"tracing": map[string]any{"endpoint": "c:1", "plain": true, "sample": 2}}, "/tracing/sample"},
		"drain for ever":          {map[string]any{"drainDeadlineSeconds": 86400}, "drainDeadlineSeconds"},
	} {
		_, _, err := render(t, "default", c.values)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

// Where traces are wanted the trackers are told so; TestNetworkPolicy has who lets them through.
func TestChartTraces(t *testing.T) {
	for name, want := range map[string]effective{
		"":                    {TraceSample: trackercmd.DefaultTraceSample},
		"traces":              {TraceEndpoint: "collector.monitoring:4317", TraceSample: 0.01, TraceCAFile: "/etc/trackerpool/tracing/ca.crt"},
		"traces in the clear": {TraceEndpoint: "[2001:db8::1]:44317", TraceSample: trackercmd.DefaultTraceSample, TracePlain: true},
	} {
		all := rendered(t, "default", variants[name])
		got := arguments(t, all)
		if got.TraceEndpoint != want.TraceEndpoint || got.TraceSample != want.TraceSample || got.TraceCAFile != want.TraceCAFile || got.TracePlain != want.TracePlain {
			t.Errorf("%q: traces go to %q, %v of them, by %q, plain %t", name, got.TraceEndpoint, got.TraceSample, got.TraceCAFile, got.TracePlain)
		}
		var mounted []string
		for _, m := range container(t, all).VolumeMounts {
			mounted = append(mounted, m.MountPath)
		}
		if got, want := slices.Contains(mounted, "/etc/trackerpool/tracing"), want.TraceCAFile != ""; got != want {
			t.Errorf("%q: the authorities of the collector are mounted: %t, want %t", name, got, want)
		}
	}
}

func TestChartBudget(t *testing.T) {
	for _, c := range []struct{ seats, formerSeats, copies, formerCopies, want int }{
		{1, 0, 2, 0, 0},
		{3, 0, 1, 0, 0},
		{3, 0, 2, 0, 1},
		{3, 0, 3, 0, 1},
		{5, 0, 2, 0, 1},
		{5, 0, 3, 0, 2},
		{5, 3, 3, 0, 1},
		{5, 0, 3, 2, 1},
	} {
		values := map[string]any{"replicaCount": 9, "seats": c.seats, "copies": c.copies}
		if c.formerSeats > 0 {
			values["formerSeats"] = c.formerSeats
		}
		if c.formerCopies > 0 {
			values["formerCopies"] = c.formerCopies
		}
		pdb := one[policyv1.PodDisruptionBudget](t, rendered(t, "default", values), "PodDisruptionBudget")
		if got, want := *pdb.Spec.MaxUnavailable, intstr.FromInt32(int32(c.want)); got != want {
			t.Errorf("%+v: maxUnavailable %v", c, got.String())
		}
	}
}

// The notes tell of what an operator has to do or to know, and of that alone.
func TestNotes(t *testing.T) {
	notes := func(values map[string]any) string {
		_, text, err := render(t, "default", values)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	warnings := map[string]struct {
		text   string
		values map[string]any
	}{
		"one seat":      {"A pool of one seat", map[string]any{"seats": 1, "copies": 1}},
		"plain text":    {"Without TLS", readValues(t, "values-dev.yaml")},
		"gossip":        {"Gossip is in the clear", readValues(t, "values-dev.yaml")},
		"no budget":     {"The disruption budget is none", map[string]any{"seats": 1}},
		"former seats":  {"without formerSeats", variants["seats being changed"]},
		"former copies": {"without formerCopies", variants["seats being changed"]},
	}
	production := notes(readValues(t, "values-production.yaml"))
	for _, name := range slices.Sorted(maps.Keys(warnings)) {
		w := warnings[name]
		if text := notes(w.values); !strings.Contains(text, w.text) {
			t.Errorf("%s: notes have no %q:\n%s", name, w.text, text)
		}
		if strings.Contains(production, w.text) {
			t.Errorf("%s: notes of production have %q", name, w.text)
		}
	}
	for _, want := range []string{"seats: tracker-0,tracker-1,tracker-2.", "tracker.default.svc.cluster.local:7940"} {
		if !strings.Contains(production, want) {
			t.Errorf("notes have no %q:\n%s", want, production)
		}
	}
}
