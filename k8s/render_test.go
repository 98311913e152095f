package k8s_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var out = flag.String("out", "", "directory to write what kustomize builds to, one file an overlay")

const (
	release  = "tracker" // the name in the overlays
	chartDir = "chart"
)

// overlays have their namespace and the values of the chart that say the same.
var overlays = []struct{ name, namespace, values string }{
	{"dev", "tracker-dev", "values-dev.yaml"},
	{"production", "tracker", "values-production.yaml"},
}

// An object is one object of Kubernetes, with JSON's types.
type object map[string]any

func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func (o object) name() string {
	return fmt.Sprintf("%v %v/%v", o["kind"], o.at("metadata", "namespace"), o.at("metadata", "name"))
}

func (o object) json(t *testing.T) []byte {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// split returns the objects of YAML documents; empty ones are left out.
func split(text []byte) ([]object, error) {
	var all []object
	d := yaml.NewYAMLToJSONDecoder(bytes.NewReader(text))
	for {
		var o object
		switch err := d.Decode(&o); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		case len(o) > 0:
			all = append(all, o)
		}
	}
}

// built returns what kustomize builds of a directory.
func built(t *testing.T, dir string) []object {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("kustomize build %s: %v", dir, err)
	}
	text, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	all, err := split(text)
	if err != nil {
		t.Fatalf("what kustomize builds of %s: %v", dir, err)
	}
	return all
}

// loaded is the chart. Rendering does not change it.
var loaded = sync.OnceValues(func() (*chart.Chart, error) { return loader.LoadDir(chartDir) })

func readValues(t *testing.T, name string) chartutil.Values {
	t.Helper()
	v, err := chartutil.ReadValuesFile(filepath.Join(chartDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// render renders the chart as helm install does: schema first. It returns the notes apart.
func render(t *testing.T, namespace string, values map[string]any) (all []object, notes string, err error) {
	t.Helper()
	c, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	top, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, "", err
	}
	files, err := engine.Render(c, top)
	if err != nil {
		return nil, "", err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "NOTES.txt") {
			notes = files[name]
			continue
		}
		some, err := split([]byte(files[name]))
		if err != nil {
			t.Fatalf("%s: %v:\n%s", name, err, files[name])
		}
		all = append(all, some...)
	}
	return all, notes, nil
}

// rendered is render for values that must do.
func rendered(t *testing.T, namespace string, values map[string]any) []object {
	t.Helper()
	all, _, err := render(t, namespace, values)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// byName returns copies of the objects, without the labels that say how they were made.
func byName(t *testing.T, all []object) map[string]object {
	t.Helper()
	named := make(map[string]object)
	for _, original := range all {
		var o object
		if err := unmarshal(original.json(t), &o); err != nil {
			t.Fatal(err)
		}
		if labels, ok := o.at("metadata", "labels").(map[string]any); ok {
			delete(labels, "app.kubernetes.io/managed-by")
			delete(labels, "helm.sh/chart")
		}
		if named[o.name()] != nil {
			t.Errorf("%s is there twice", o.name())
		}
		named[o.name()] = o
	}
	return named
}

func TestChartSaysWhatOverlaysSay(t *testing.T) {
	for _, o := range overlays {
		t.Run(o.name, func(t *testing.T) {
			want, got := byName(t, every(t)["overlay "+o.name]), byName(t, every(t)["chart "+o.name])
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("overlay (-) and chart with %s (+):\n%s", o.values, diff)
			}
		})
	}
}

func TestChartLints(t *testing.T) {
	values := map[string]chartutil.Values{"values.yaml": {}}
	for _, o := range overlays {
		values[o.values] = readValues(t, o.values)
	}
	for name, v := range values {
		linted := lint.All(chartDir, v, "tracker", true)
		for _, m := range linted.Messages {
			// Info alone: a chart need not have an icon.
			if m.Severity >= support.WarningSev {
				t.Errorf("helm lint with %s: %v", name, m)
			}
		}
	}
}

// TestWrite writes what other linters read.
func TestWrite(t *testing.T) {
	if *out == "" {
		t.Skip("only with -out")
	}
	for _, o := range overlays {
		var text bytes.Buffer
		for _, one := range every(t)["overlay "+o.name] {
			fmt.Fprintf(&text, "---\n%s\n", one.json(t)) // JSON is YAML
		}
		if err := os.WriteFile(filepath.Join(*out, o.name+".yaml"), text.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
