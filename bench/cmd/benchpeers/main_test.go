package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/trackerpool/trackerpool/bench/report"
)

// root is where the module of the tracker is.
const root = "../../.."

// build puts the programs that a comparison needs into PATH, before the servers that
// bench/fetch has fetched, if any, and those of the machine.
func build(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for module, program := range map[string]string{root: "./cmd/tracker", "../..": "./cmd/prototype"} {
		if out, err := exec.Command("go", "build", "-C", module, "-o", dir+"/", program).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	fetched, err := filepath.Abs(root + "/bin/peers/usr")
	if err != nil {
		t.Fatal(err)
	}
	libraries, err := filepath.Glob(fetched + "/lib/*-linux-gnu")
	if err != nil {
		t.Fatal(err)
	}
	if len(libraries) > 0 {
		t.Setenv("LD_LIBRARY_PATH", libraries[0])
	}
	t.Setenv("PATH", dir+":"+fetched+"/bin:"+os.Getenv("PATH"))
}

// TestSmall compares a little, with the servers that are there, and draws it up.
func TestSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts many processes")
	}
	build(t)
	file := filepath.Join(t.TempDir(), "small.json")
	var stdout, stderr bytes.Buffer
	err := run(context.Background(), []string{
		"--nodes", "20000", "--etcd-nodes", "2000", "--unary-nodes", "2000", "--rounds", "1", "--time", "50ms",
		"--steady", "200ms", "--hold", "50ms", "--crowd", "20", "--watch", "50ms", "--rate", "20000", "--unary-rate", "1000", "--json", file,
	}, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	r, err := report.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f s with %d peers; %v", r.Took, len(r.Versions), r.Missing)
	for _, want := range []struct {
		peer  string
		works []report.Work
	}{
		{"trackerpool", []report.Work{report.Add, report.AddRate, report.LookUniform, report.LookZipf, report.LookRate, report.Callers, report.Hold,
			report.Lone, report.Unary, report.UnaryRate, report.Steady, report.Return, report.Memory}},
		{"redis", []report.Work{report.Add, report.AddRate, report.LookUniform, report.LookZipf, report.LookRate, report.Callers,
			report.Lone, report.Steady, report.Return, report.Memory}},
		{"prototype", []report.Work{report.LookUniform, report.Lone, report.Unary, report.UnaryRate, report.Steady, report.Return, report.Memory}},
	} {
		if _, ok := r.Versions[want.peer]; !ok {
			continue // it is not installed
		}
		for _, work := range want.works {
			i := slices.IndexFunc(r.Results, func(res report.Result) bool { return res.Peer == want.peer && res.Work == work })
			if i < 0 {
				t.Errorf("%s: %s was not measured", want.peer, work)
			} else if res := r.Results[i]; res.Nodes == 0 || res.Seconds == 0 && res.Resident == 0 {
				t.Errorf("%s: %s measured nothing: %+v", want.peer, work, res)
			}
		}
	}
	if len(r.Versions) < 2 {
		t.Errorf("only %v were there, want at least the tracker and the prototype", r.Versions)
	}

	page := filepath.Join(t.TempDir(), "benchmarks.md")
	text, err := os.ReadFile(root + "/docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(page, text, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := run(context.Background(), []string{"--report", "--json", file, "--page", page}, &stdout, &stderr); err != nil {
		t.Error(err)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	for _, args := range [][]string{{"--peers", "mysql"}, {"--nodes", "5"}, {"--etcd-nodes", "2000000"}, {"--rate", "0"}, {"more"}} {
		if err := run(context.Background(), args, new(bytes.Buffer), new(bytes.Buffer)); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
