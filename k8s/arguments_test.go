package k8s_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
)

// effective is what a tracker says that it took from its arguments.
type effective struct {
	ID            string     `json:"id"`
	Zone          string     `json:"zone"`
	AdvertiseAddr string     `json:"advertise_addr"`
	Join          []string   `json:"join"`
	Seats         [][]string `json:"seats"`
	NewPool       bool       `json:"new_pool"`
	Replicas      []int      `json:"replicas"`
	DrainDeadline string     `json:"drain_deadline"`
	DataDir       string     `json:"data_dir"`
	GossipAddr    string     `json:"gossip_addr"`
	AdminAddr     string     `json:"admin_addr"`
	ProbeAddr     string     `json:"probe_addr"`
	Insecure      bool       `json:"insecure"`
	Identities    []string   `json:"identities"`
	CAFile        string     `json:"ca_file"`
	ClientCAFile  string     `json:"client_ca_file"`
	GossipKeyFile string     `json:"gossip_key_file"`
	TraceEndpoint string     `json:"trace_endpoint"`
	TraceSample   float64    `json:"trace_sample"`
	TraceCAFile   string     `json:"trace_ca_file"`
	TracePlain    bool       `json:"trace_plain"`
	Service       struct {
		ListenAddr string `json:"listen_addr"`
		Keypairs   []struct {
			Cert string `json:"cert_file"`
			Key  string `json:"key_file"`
		} `json:"https_keypairs"`
	} `json:"node_tracker_service"`
}

// arguments returns what the program itself takes from the arguments.
func arguments(t *testing.T, all []object) effective {
	t.Helper()
	got, err := read(t, all)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// read has the program read the arguments as Kubernetes would give them to the first pod.
func read(t *testing.T, all []object) (got effective, err error) {
	t.Helper()
	set := statefulSet(t, all)
	c := container(t, all)
	values := map[string]string{
		"metadata.name": set.Name + "-0", "status.podIP": "10.1.2.3", "metadata.labels['topology.kubernetes.io/zone']": "zone-b",
	}
	args := slices.Clone(c.Args)
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		value, ok := values[e.ValueFrom.FieldRef.FieldPath]
		if !ok {
			t.Fatalf("variable %s is of %s: add it", e.Name, e.ValueFrom.FieldRef.FieldPath)
		}
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "$("+e.Name+")", value)
		}
	}
	var stdout bytes.Buffer
	if err := trackercmd.Run(t.Context(), append([]string{"config"}, args...), &stdout, &stdout); err != nil {
		return got, fmt.Errorf("arguments %q: %w", args, err)
	}
	return got, yaml.Unmarshal(stdout.Bytes(), &got)
}
