package k8s_test

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	autoscalingvalidation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	podsecurity "k8s.io/pod-security-admission/api"
	securitypolicy "k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/json"
)

// strict refuses unknown and repeated fields, and fills in defaults, as an API server does for a client that asks for strictness.
var strict = serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDecoder()

// others are the kinds that other projects define.
var others = map[string]func() any{
	"cert-manager.io/v1 Certificate":          func() any { return new(certmanager.Certificate) },
	"cert-manager.io/v1 Issuer":               func() any { return new(certmanager.Issuer) },
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return new(monitoring.ServiceMonitor) },
	"monitoring.coreos.com/v1 PrometheusRule": func() any { return new(monitoring.PrometheusRule) },
}

// admitted returns what keeps an API server from taking an object.
func admitted(t *testing.T, o object) error {
	t.Helper()
	if make, ok := others[o["apiVersion"].(string)+" "+o["kind"].(string)]; ok {
		return unmarshal(o.json(t), make())
	}
	decoded, err := runtime.Decode(strict, o.json(t))
	if err != nil {
		return err
	}
	// What the server does between decoding and validation.
	if meta, ok := decoded.(metav1.Object); ok && meta.GetNamespace() == "" {
		meta.SetNamespace(metav1.NamespaceDefault)
	}
	if s, ok := decoded.(*core.Service); ok && s.Spec.ClusterIP != "" {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	var faults field.ErrorList
	switch decoded := decoded.(type) {
	case *apps.StatefulSet:
		faults = appsvalidation.ValidateStatefulSet(decoded, pod.GetValidationOptionsFromPodTemplate(&decoded.Spec.Template, nil))
	case *core.Service:
		faults = corevalidation.ValidateServiceCreate(decoded)
	case *core.ServiceAccount:
		faults = corevalidation.ValidateServiceAccount(decoded)
	case *core.ConfigMap:
		faults = corevalidation.ValidateConfigMap(decoded)
	case *policy.PodDisruptionBudget:
		faults = policyvalidation.ValidatePodDisruptionBudget(decoded, policyvalidation.PodDisruptionBudgetValidationOptions{})
	case *networking.NetworkPolicy:
		faults = networkingvalidation.ValidateNetworkPolicy(decoded, networkingvalidation.NetworkPolicyValidationOptions{})
	case *autoscaling.HorizontalPodAutoscaler:
		faults = autoscalingvalidation.ValidateHorizontalPodAutoscaler(decoded, autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions{MinReplicasLowerBound: 1})
	default:
		t.Fatalf("%s: no validation is known for a %T: add it", o.name(), decoded)
	}
	return faults.ToAggregate()
}

// unmarshal is strict, and distinguishes capitals.
func unmarshal(text []byte, v any) error {
	strict, err := json.UnmarshalStrict(text, v)
	return errors.Join(append(strict, err)...)
}

// every returns all sets of objects that somebody might apply, made once. They are not to be modified.
func every(t *testing.T) map[string][]object {
	t.Helper()
	made.Do(func() {
		made.sets = map[string][]object{"base": built(t, "base"), "chart": rendered(t, "default", nil)}
		for _, o := range overlays {
			made.sets["overlay "+o.name] = built(t, filepath.Join("overlays", o.name))
			made.sets["chart "+o.name] = rendered(t, o.namespace, readValues(t, o.values))
		}
		for name, values := range variants {
			made.sets["chart "+name] = rendered(t, "default", values)
		}
	})
	return made.sets
}

var made struct {
	sync.Once
	sets map[string][]object
}

func TestAPIServerAdmits(t *testing.T) {
	all := every(t)
	for _, set := range slices.Sorted(maps.Keys(all)) {
		for _, o := range all[set] {
			if err := admitted(t, o); err != nil {
				t.Errorf("%s, %s: %v", set, o.name(), err)
			}
		}
	}
}

// TestAPIServerRefuses shows that admitted sees faults of each kind.
func TestAPIServerRefuses(t *testing.T) {
	production := byName(t, every(t)["overlay production"])
	for name, fault := range map[string]struct {
		object string
		do     func(object)
	}{
		"unknown field": {"StatefulSet tracker/tracker", func(o object) { o.at("spec").(map[string]any)["replica"] = 3 }},
		"wrong type":    {"StatefulSet tracker/tracker", func(o object) { o.at("spec").(map[string]any)["minReadySeconds"] = "5" }},
		"selector":      {"StatefulSet tracker/tracker", func(o object) { o.at("spec", "selector", "matchLabels").(map[string]any)["a"] = "b" }},
		"bad name":      {"Service tracker/tracker", func(o object) { o.at("metadata").(map[string]any)["name"] = "Tracker_1" }},
		"budget":        {"PodDisruptionBudget tracker/tracker", func(o object) { o.at("spec").(map[string]any)["minAvailable"] = 1 }},
		"port":          {"NetworkPolicy tracker/tracker", func(o object) { o.at("spec").(map[string]any)["policyTypes"] = []any{"Both"} }},
		"fewer":         {"HorizontalPodAutoscaler tracker/tracker", func(o object) { o.at("spec").(map[string]any)["maxReplicas"] = 1 }},
		"other's field": {"Certificate tracker/tracker-ca", func(o object) { o.at("spec").(map[string]any)["isCa"] = true }},
	} {
		o := production[fault.object]
		if o == nil {
			t.Fatalf("%s: overlay production has no %s", name, fault.object)
		}
		var changed object
		if err := unmarshal(o.json(t), &changed); err != nil {
			t.Fatal(err)
		}
		fault.do(changed)
		if err := admitted(t, changed); err == nil {
			t.Errorf("%s: %s was admitted", name, fault.object)
		}
	}
}

// TestRestricted asks the admission controller of pod security whether a namespace that enforces "restricted" takes the pods.
func TestRestricted(t *testing.T) {
	evaluator, err := securitypolicy.NewEvaluator(securitypolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for set, all := range every(t) {
		pods := statefulSet(t, all).Spec.Template
		if r := securitypolicy.AggregateCheckResults(evaluator.EvaluatePod(level, &pods.ObjectMeta, &pods.Spec)); !r.Allowed {
			t.Errorf("%s: %s", set, r.ForbiddenDetail())
		}
	}
}

// one returns the only object of a kind, as a T, or nil if there is none.
func one[T any](t *testing.T, all []object, kind string) *T {
	t.Helper()
	var found *T
	for _, o := range all {
		if o["kind"] != kind {
			continue
		}
		if found != nil {
			t.Fatalf("there are several objects of kind %s", kind)
		}
		found = new(T)
		if err := unmarshal(o.json(t), found); err != nil {
			t.Fatalf("%s: %v", o.name(), err)
		}
	}
	return found
}

func statefulSet(t *testing.T, all []object) *appsv1.StatefulSet {
	t.Helper()
	set := one[appsv1.StatefulSet](t, all, "StatefulSet")
	if set == nil {
		t.Fatal("there is no StatefulSet")
	}
	return set
}
