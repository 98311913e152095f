package k8s_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
)

func TestNetworkPolicy(t *testing.T) {
	for name, all := range every(t) {
		policy := one[networkingv1.NetworkPolicy](t, all, "NetworkPolicy")
		pods := labels.Set(statefulSet(t, all).Spec.Template.Labels)
		if diff := cmp.Diff(map[string]string(pods), policy.Spec.PodSelector.MatchLabels); diff != "" {
			t.Errorf("%s: selector of the policy (-labels +selector):\n%s", name, diff)
		}
		from := make(map[string][]string) // by port, the peers; "trackers" for those of the pool
		peer := func(p networkingv1.NetworkPolicyPeer) string {
			if p.NamespaceSelector == nil && p.PodSelector != nil && cmp.Equal(p.PodSelector.MatchLabels, map[string]string(pods)) {
				return "trackers"
			}
			return "others"
		}
		for _, rule := range policy.Spec.Ingress {
			if len(rule.From) == 0 || len(rule.Ports) == 0 {
				t.Errorf("%s: a rule lets in anybody, or to any port", name)
			}
			for _, p := range rule.Ports {
				for _, f := range rule.From {
					from[p.Port.StrVal] = append(from[p.Port.StrVal], peer(f))
				}
			}
		}
		want := map[string][]string{"grpc": {"trackers", "others"}, "gossip-tcp": {"trackers"}, "gossip-udp": {"trackers"}, "probe": {"others"}}
		if diff := cmp.Diff(want, from); diff != "" {
			t.Errorf("%s: who comes in, by port (-want +got):\n%s", name, diff)
		}
		var to []string
		for _, rule := range policy.Spec.Egress {
			for _, p := range rule.Ports {
				for _, peers := range rule.To {
					protocol := corev1.ProtocolTCP
					if p.Protocol != nil {
						protocol = *p.Protocol
					}
					to = append(to, peer(peers)+" "+port(p.Port.IntVal, protocol))
				}
			}
		}
		wantTo := []string{"trackers " + ports["grpc"], "trackers " + ports["gossip-tcp"], "trackers " + ports["gossip-udp"], "others 53/TCP", "others 53/UDP"}
		for _, arg := range container(t, all).Args {
			if endpoint, ok := strings.CutPrefix(arg, "--trace-endpoint="); ok {
				wantTo = append(wantTo, "others "+endpoint[strings.LastIndexByte(endpoint, ':')+1:]+"/TCP")
			}
		}
		if diff := cmp.Diff(wantTo, to); diff != "" {
			t.Errorf("%s: what trackers reach (-want +got):\n%s", name, diff)
		}
	}
}

func TestServiceMonitor(t *testing.T) {
	for name, all := range every(t) {
		m := one[monitoring.ServiceMonitor](t, all, "ServiceMonitor")
		if m == nil {
			continue
		}
		chosen := 0
		for _, s := range services(t, all) {
			if !labels.SelectorFromSet(m.Spec.Selector.MatchLabels).Matches(labels.Set(s.Labels)) {
				continue
			}
			chosen++
			for _, e := range m.Spec.Endpoints {
				if e.Path != trackercmd.MetricsPath || !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port }) {
					t.Errorf("%s: scrapes %s at port %s of service %s", name, e.Path, e.Port, s.Name)
				}
			}
		}
		if chosen != 1 {
			t.Errorf("%s: %d services are scraped, want one: each would be another series", name, chosen)
		}
	}
}
