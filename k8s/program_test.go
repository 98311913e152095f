package k8s_test

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/trackercmd"
)

// container returns the tracker's.
func container(t *testing.T, all []object) corev1.Container {
	t.Helper()
	return statefulSet(t, all).Spec.Template.Spec.Containers[0]
}

func services(t *testing.T, all []object) map[string]corev1.Service {
	t.Helper()
	found := make(map[string]corev1.Service)
	for _, o := range all {
		if o["kind"] == "Service" {
			s := one[corev1.Service](t, []object{o}, "Service")
			found[s.Name] = *s
		}
	}
	return found
}

func port(number int32, p corev1.Protocol) string {
	if p == "" {
		p = corev1.ProtocolTCP
	}
	return fmt.Sprint(number, "/", p)
}

// ports are those of the program, by the names that manifests give them.
var ports = map[string]string{
	"grpc":       port(trackercmd.GRPCPort, "TCP"),
	"gossip-tcp": port(trackercmd.GossipPort, "TCP"),
	"gossip-udp": port(trackercmd.GossipPort, "UDP"),
	"admin":      port(trackercmd.AdminPort, "TCP"),
	"probe":      port(trackercmd.ProbePort, "TCP"),
}

func TestPorts(t *testing.T) {
	for name, all := range every(t) {
		got := make(map[string]string)
		for _, p := range container(t, all).Ports {
			got[p.Name] = port(p.ContainerPort, p.Protocol)
		}
		if diff := cmp.Diff(ports, got); diff != "" {
			t.Errorf("%s: ports of the container (-want +got):\n%s", name, diff)
		}
		for _, s := range services(t, all) {
			for _, p := range s.Spec.Ports {
				if got := port(p.Port, p.Protocol); got != ports[p.Name] || p.TargetPort.StrVal != p.Name {
					t.Errorf("%s: service %s has port %s for %s, to %v", name, s.Name, got, p.Name, p.TargetPort)
				}
			}
		}
	}
}

func TestServices(t *testing.T) {
	for name, all := range every(t) {
		set := statefulSet(t, all)
		found := services(t, all)
		gossip, clients := found[set.Spec.ServiceName], found[set.Name]
		if gossip.Spec.ClusterIP != corev1.ClusterIPNone {
			t.Errorf("%s: the service of the StatefulSet, %q, has cluster IP %q, want None", name, set.Spec.ServiceName, gossip.Spec.ClusterIP)
		}
		for _, s := range []corev1.Service{gossip, clients} {
			// A cold start would wait for itself.
			if !s.Spec.PublishNotReadyAddresses {
				t.Errorf("%s: service %q does not publish addresses that are not ready", name, s.Name)
			}
			if diff := cmp.Diff(set.Spec.Template.Labels, s.Spec.Selector); diff != "" {
				t.Errorf("%s: selector of service %q (-labels +selector):\n%s", name, s.Name, diff)
			}
		}
		if len(clients.Spec.Ports) != 1 || clients.Spec.Ports[0].Name != "grpc" {
			t.Errorf("%s: service %q has ports %v: want gRPC alone, which clients are let in to", name, clients.Name, clients.Spec.Ports)
		}
	}
}

func TestProbes(t *testing.T) {
	for name, all := range every(t) {
		c := container(t, all)
		for _, p := range []struct {
			name, path string
			probe      *corev1.Probe
		}{
			{"startup", trackercmd.HealthPath, c.StartupProbe},
			{"liveness", trackercmd.HealthPath, c.LivenessProbe}, // not of readiness, which depends on peers
			{"readiness", trackercmd.ReadyPath, c.ReadinessProbe},
		} {
			if p.probe == nil || p.probe.HTTPGet == nil || p.probe.HTTPGet.Path != p.path || p.probe.HTTPGet.Port.StrVal != "probe" {
				t.Errorf("%s: %s probe %v, want GET %s at port probe", name, p.name, p.probe, p.path)
			}
		}
	}
}

func TestGracePeriodIsLongerThanAnyStop(t *testing.T) {
	for name, all := range complete(t) {
		set := statefulSet(t, all)
		grace := time.Duration(*set.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
		preStop := time.Duration(container(t, all).Lifecycle.PreStop.Sleep.Seconds) * time.Second
		drain, err := time.ParseDuration(arguments(t, all).DrainDeadline)
		if err != nil {
			t.Fatal(err)
		}
		if least := preStop + drain + trackercmd.StopTime; grace <= least {
			t.Errorf("%s: grace period %v, want more than preStop, drain deadline and stop, %v", name, grace, least)
		}
	}
}

// complete is every but the base, which is not to be applied alone.
func complete(t *testing.T) map[string][]object {
	t.Helper()
	all := maps.Clone(every(t))
	delete(all, "base")
	return all
}

// Whoever applies the base alone must not get a pool that is open to strangers, nor one that does not say why it is not there.
func TestBaseAloneDoesNotStart(t *testing.T) {
	_, err := read(t, every(t)["base"])
	for _, want := range []string{"give https_keypairs", "give gossip_key_file", "insecure: true"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestInsecureOnlyForDevelopment(t *testing.T) {
	for name, all := range complete(t) {
		if got := arguments(t, all).Insecure; got != strings.HasSuffix(name, "dev") {
			t.Errorf("%s: insecure is %t", name, got)
		}
	}
}

// Each pod's certificate must name its tracker, by the rules that the trackers are given.
func TestCertificatesNameTrackers(t *testing.T) {
	for name, all := range complete(t) {
		got := arguments(t, all)
		var attributes map[string]string
		for _, v := range statefulSet(t, all).Spec.Template.Spec.Volumes {
			if v.CSI != nil {
				attributes = v.CSI.VolumeAttributes
			}
		}
		if got.Insecure {
			if attributes != nil || len(got.Service.Keypairs) > 0 {
				t.Errorf("%s: it has certificates and is insecure", name)
			}
			continue
		}
		ids, err := access.ParseIdentities(got.Identities...)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(attributes["csi.cert-manager.io/uri-sans"], "${POD_NAME}", got.ID)
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		dns := strings.Split(attributes["csi.cert-manager.io/dns-names"], ",")
		who, err := ids.Of(&x509.Certificate{URIs: []*url.URL{uri}, DNSNames: dns})
		if err != nil || who.Role != access.Tracker || who.Name != got.ID {
			t.Errorf("%s: a certificate with %s is of %v (%v), want tracker %q", name, text, who, err, got.ID)
		}
		if issuer := attributes["csi.cert-manager.io/issuer-name"]; issuer != "devices" && !slices.ContainsFunc(all, func(o object) bool {
			return o["kind"] == "Issuer" && o.at("metadata", "name") == issuer && o.at("spec", "ca") != nil
		}) {
			t.Errorf("%s: nobody makes the issuer %q", name, issuer)
		}
	}
}

func TestArguments(t *testing.T) {
	for name, all := range complete(t) {
		set := statefulSet(t, all)
		got := arguments(t, all)
		if got.ID != set.Name+"-0" || got.AdvertiseAddr != "10.1.2.3" || got.Zone != "zone-b" {
			t.Errorf("%s: arguments do not name the pod, but give ID %q at %q in %q", name, got.ID, got.AdvertiseAddr, got.Zone)
		}
		if got.NewPool {
			t.Errorf("%s: --new-pool is never for a manifest", name)
		}
		for addr, want := range map[string]int{
			got.Service.ListenAddr: trackercmd.GRPCPort, got.GossipAddr: trackercmd.GossipPort, got.AdminAddr: trackercmd.AdminPort, got.ProbeAddr: trackercmd.ProbePort,
		} {
			if addr != ":"+strconv.Itoa(want) {
				t.Errorf("%s: it listens at %q, want port %d of all addresses", name, addr, want)
			}
		}
		if diff := cmp.Diff([]string{set.Spec.ServiceName}, got.Join); diff != "" {
			t.Errorf("%s: join (-want +got):\n%s", name, diff)
		}
		files := []string{got.DataDir, got.CAFile, got.ClientCAFile, got.GossipKeyFile, got.TraceCAFile}
		for _, p := range got.Service.Keypairs {
			files = append(files, p.Cert, p.Key)
		}
		for _, file := range files {
			mounted := func(m corev1.VolumeMount) bool {
				return file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/")
			}
			if file != "" && !slices.ContainsFunc(container(t, all).VolumeMounts, mounted) {
				t.Errorf("%s: nothing is mounted where %s is looked for", name, file)
			}
		}
	}
}

// fewest returns the smallest number of pods.
func fewest(t *testing.T, all []object) int {
	t.Helper()
	if hpa := one[autoscalingv2.HorizontalPodAutoscaler](t, all, "HorizontalPodAutoscaler"); hpa != nil {
		return int(*hpa.Spec.MinReplicas)
	}
	return int(*statefulSet(t, all).Spec.Replicas)
}

func TestSeats(t *testing.T) {
	want := map[string][]int{
		"overlay dev": {1}, "chart dev": {1}, "chart five seats": {5}, "chart seats being changed": {3, 5},
	}
	for name, all := range complete(t) {
		set := statefulSet(t, all)
		var counts []int
		for _, seats := range arguments(t, all).Seats {
			counts = append(counts, len(seats))
			for i, seat := range seats {
				if lowest := set.Name + "-" + strconv.Itoa(i); seat != lowest || i >= fewest(t, all) {
					t.Errorf("%s: seat %d is %q, want %q, one of %d pods", name, i, seat, lowest, fewest(t, all))
				}
			}
		}
		if want := want[name]; want == nil && !slices.Equal(counts, []int{3}) || want != nil && !slices.Equal(counts, want) {
			t.Errorf("%s: sets of %v seats", name, counts)
		}
	}
}

// The number of pods changes by hand and by load; the seats must not.
func TestSeatsDoNotFollowThePods(t *testing.T) {
	three := arguments(t, rendered(t, "default", nil)).Seats
	nine := arguments(t, rendered(t, "default", map[string]any{"replicaCount": 9})).Seats
	if diff := cmp.Diff(three, nine); diff != "" {
		t.Errorf("seats of three trackers and of nine:\n%s", diff)
	}
}

func TestBudget(t *testing.T) {
	for name, all := range complete(t) {
		pdb := one[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget")
		if pdb == nil {
			if fewest(t, all) > 1 {
				t.Errorf("%s: several trackers and no disruption budget", name)
			}
			continue
		}
		got := arguments(t, all)
		most := slices.Min(got.Replicas) - 1
		for _, set := range got.Seats {
			most = min(most, (len(set)-1)/2)
		}
		if pdb.Spec.MaxUnavailable.IntValue() != most {
			t.Errorf("%s: maxUnavailable %v, want %d: copies %v, seats %v", name, pdb.Spec.MaxUnavailable, most, got.Replicas, got.Seats)
		}
		if diff := cmp.Diff(statefulSet(t, all).Spec.Template.Labels, pdb.Spec.Selector.MatchLabels); diff != "" {
			t.Errorf("%s: selector of the budget (-labels +selector):\n%s", name, diff)
		}
	}
}

// GOMEMLIMIT must leave room for what is not the heap's, but little.
func TestMemoryLimit(t *testing.T) {
	for name, all := range every(t) {
		c := container(t, all)
		limit := c.Resources.Limits.Memory().Value()
		i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
		if i < 0 {
			t.Errorf("%s: no GOMEMLIMIT", name)
			continue
		}
		mib, err := strconv.ParseInt(strings.TrimSuffix(c.Env[i].Value, "MiB"), 10, 64)
		if share := float64(mib<<20) / float64(limit); err != nil || share < 0.85 || share > 0.95 {
			t.Errorf("%s: GOMEMLIMIT %s of a limit of %d bytes, want nine tenths", name, c.Env[i].Value, limit)
		}
	}
}

func TestAutoscaler(t *testing.T) {
	for name, all := range every(t) {
		hpa := one[autoscalingv2.HorizontalPodAutoscaler](t, all, "HorizontalPodAutoscaler")
		set := statefulSet(t, all)
		if hpa == nil {
			continue
		}
		if hpa.Spec.ScaleTargetRef.Name != set.Name || hpa.Spec.ScaleTargetRef.Kind != "StatefulSet" {
			t.Errorf("%s: it scales %v", name, hpa.Spec.ScaleTargetRef)
		}
		if set.Spec.Replicas != nil {
			t.Errorf("%s: the StatefulSet has a number of replicas, which each apply would go back to", name)
		}
		if w := hpa.Spec.Behavior.ScaleDown.StabilizationWindowSeconds; w == nil || *w < 600 {
			t.Errorf("%s: it shrinks the pool after %v s", name, w)
		}
		if c := container(t, all); c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s: it goes by CPU, of which nothing is requested", name)
		}
	}
}
