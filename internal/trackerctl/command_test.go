package trackerctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/trackerpool/trackerpool/internal/buildinfo"
	"github.com/trackerpool/trackerpool/internal/trackercmd"
)

// TestPool asks a real pool everything, then takes it apart.
func TestPool(t *testing.T) {
	p := startPool(t)
	asked := []struct{ name, args string }{
		{"members", "members"},
		{"ring", "ring"},
		{"ring-shard", "ring --shard 5"},
		{"ring-closed", "ring --closed"},
		{"locate", "locate n-1"},
		{"lookup-found", "lookup n-1"},
		{"lookup-absent", "lookup nowhere"},
		{"explain", "explain n-1"},
		{"explain-absent", "explain nowhere"},
		{"proxies", "proxies"},
		{"whatif", "whatif --add 2 --remove t-2"},
		{"watch", "watch --times 2 --interval 100ms"},
	}
	t.Run("tables", func(t *testing.T) {
		var all strings.Builder
		for _, c := range asked {
			stdout, stderr, err := ctl(t, append([]string{"--tracker", p.entry}, strings.Fields(c.args)...)...)
			if err != nil || stderr != "" {
				t.Errorf("%s: %v, %s", c.name, err, stderr)
			}
			if strings.Contains(stdout, "\x1b") {
				t.Errorf("%s: a colour or a cursor's move, and this is no terminal: %q", c.name, stdout)
			}
			fmt.Fprintf(&all, "$ trackerctl %s\n%s\n", c.args, stdout)
		}
		golden(t, "tables.golden", steady(all.String()))
	})
	t.Run("yaml", func(t *testing.T) {
		for _, args := range [][]string{{"ring", "--shard", "5"}, {"locate", "n-1"}, {"whatif", "--add", "1"}} {
			j, _, err := ctl(t, append([]string{"--tracker", p.entry, "-o", "json"}, args...)...)
			if err != nil {
				t.Fatal(err)
			}
			y, _, err := ctl(t, append([]string{"--tracker", p.entry, "-o", "yaml"}, args...)...)
			if err != nil {
				t.Fatal(err)
			}
			var want, got any
			if err := json.Unmarshal([]byte(j), &want); err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal([]byte(y), &got); err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(got) // so that numbers are of one type
			if err != nil {
				t.Fatal(err)
			}
			got = nil
			if err := json.Unmarshal(again, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%v: YAML is not JSON (-json +yaml):\n%s", args, diff)
			}
		}
	})
	t.Run("bundle", func(t *testing.T) { p.bundle(t) })
	t.Run("remove a proxy", func(t *testing.T) { p.removeProxy(t) })
	t.Run("drain", func(t *testing.T) { p.drain(t) })
	t.Run("a tracker that does not answer", func(t *testing.T) { p.kill(t) })
}

// TestSchema pins the fields of what -o json and -o yaml write: scripts read them.
func TestSchema(t *testing.T) {
	var fields []string
	for name, d := range map[string]document{
		"contexts": &contextList{}, "members": &memberList{}, "ring": &ringState{}, "locate": &location{}, "lookup": &lookupResult{}, "explain": &explanation{},
		"proxies": &proxyList{}, "proxy remove": &removal{}, "watch": &pulse{}, "drain": &drained{}, "whatif": &forecast{}, "debug bundle": &bundle{}, "version": &versionInfo{},
		"keys": &keyList{}, "keys add": &keyChange{}, "certs init": &certificateList{},
	} {
		fields = append(fields, fieldsOf(name, reflect.TypeOf(d).Elem())...)
	}
	slices.Sort(fields)
	golden(t, "schema.golden", strings.Join(fields, "\n")+"\n")
}

// fieldsOf lists the paths and the types of the JSON of a type.
func fieldsOf(path string, t reflect.Type) []string {
	switch {
	case t.Kind() == reflect.Slice:
		return fieldsOf(path+"[]", t.Elem())
	case t == reflect.TypeFor[time.Time]():
		return []string{path + " time"}
	case t.Kind() != reflect.Struct:
		return []string{path + " " + t.Kind().String()}
	}
	var fields []string
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && len(f.Index) == 1 {
			fields = append(fields, fieldsOf(path+"."+name, f.Type)...)
		} else if f.Anonymous && len(f.Index) == 1 {
			fields = append(fields, fieldsOf(path, f.Type)...)
		}
	}
	return fields
}

func (p *testPool) bundle(t *testing.T) {
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	if _, _, err := ctl(t, "--tracker", p.entry, "debug", "bundle", "-f", file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ctl(t, "--tracker", p.entry, "debug", "bundle", "-f", file); err == nil {
		t.Error("a bundle was written over another")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info, err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		has[strings.TrimPrefix(h.Name, "trackerpool/")] = string(text)
	}
	for name, want := range map[string]string{
		"members.json": `"id": "t-2"`, "ring.json": `"shard": 63`, "proxies.json": `"id": "p-1"`,
		"t-1/" + trackercmd.DebugConfig: "id: t-1", "t-0/" + trackercmd.DebugMetrics: "tracker_claims", "t-2/" + trackercmd.DebugGoroutines: "node.(*Tracker)",
		"t-2/" + trackercmd.DebugVersion: "go1.",
	} {
		if !strings.Contains(has[name], want) {
			t.Errorf("%s has no %q; the bundle has %v", name, want, slices.Sorted(maps.Keys(has)))
		}
	}
	if want := 3 + 3*4; len(has) != want {
		t.Errorf("%d texts, want %d: %v", len(has), want, slices.Sorted(maps.Keys(has)))
	}
	for name, text := range has {
		if strings.Contains(text, "n-1\"") {
			t.Errorf("%s names a node", name)
		}
	}
}

func (p *testPool) removeProxy(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"proxy remove p-1", "connected to 3 trackers"},
		{"proxy remove p-9", "no tracker has heard of it"},
	} {
		if _, _, err := ctl(t, append([]string{"--tracker", p.entry}, strings.Fields(test.args)...)...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.args, err, test.want)
		}
	}
	stdout, _, err := ctl(t, "--tracker", p.entry, "proxy", "remove", "p-1", "--force")
	if err != nil || !strings.Contains(stdout, "p-1 is removed") {
		t.Fatalf("%v: %s", err, stdout)
	}
	eventually(t, func() error {
		var r lookupResult
		var l proxyList
		if err := p.ask(t, &l, "proxies"); err != nil {
			return err
		}
		if err := p.ask(t, &r, "lookup", "n-1"); err != nil {
			return err
		}
		if r.Answer != "ABSENT" || len(l.Proxies) != 1 || !l.Proxies[0].Ended || l.Proxies[0].Sessions > 0 {
			return fmt.Errorf("%+v, %+v", r, l)
		}
		return nil
	})
}

func (p *testPool) drain(t *testing.T) {
	if _, _, err := ctl(t, "--tracker", p.entry, "drain", "t-9"); err == nil || !strings.Contains(err.Error(), "trackerctl members") {
		t.Errorf("drain of nobody: %v", err)
	}
	// Two of three seats are drained at the same moment: not both go.
	type end struct {
		stdout, stderr string
		err            error
	}
	ends := map[string]*end{"t-1": {}, "t-2": {}}
	var wg sync.WaitGroup
	for id, e := range ends {
		wg.Go(func() { e.stdout, e.stderr, e.err = ctl(t, "--tracker", p.entry, "drain", id, "-o", "json") })
	}
	wg.Wait()
	if ends["t-1"].err == nil && ends["t-2"].err == nil {
		t.Fatal("two of three seats were drained")
	}
	for id, e := range ends {
		if e.err != nil && !strings.Contains(e.err.Error(), "too few of the seats") {
			t.Errorf("drain %s: %v", id, e.err)
		}
	}
	gone := "t-2"
	if ends["t-1"].err == nil {
		gone, p.last = "t-1", 2
	}
	e := ends[gone]
	if e.err != nil { // each has heard of the other
		e.stdout, e.stderr, e.err = ctl(t, "--tracker", p.entry, "drain", gone, "-o", "json")
	}
	if e.err != nil {
		t.Fatal(e.err)
	}
	var d drained
	if err := json.Unmarshal([]byte(e.stdout), &d); err != nil || string(d.Tracker) != gone || d.Left != "" || !d.Gone {
		t.Errorf("drain %s: %v, %+v", gone, err, d)
	}
	if !strings.Contains(e.stderr, gone+" is drained") || strings.Contains(e.stderr, "\x1b") {
		t.Errorf("progress: %q", e.stderr)
	}
	left := p.trackers[3-p.last]
	<-left.done
	if left.err != nil {
		t.Errorf("%s ended with %v", gone, left.err)
	}
	if _, _, err := ctl(t, "--tracker", p.entry, "drain", fmt.Sprint("t-", p.last)); err == nil || !strings.Contains(err.Error(), "too few of the seats") {
		t.Errorf("drain of the last seat that can be spared less: %v", err)
	}
	var m memberList
	if err := p.ask(t, &m, "members"); err != nil || len(m.SeatsAway) != 1 || string(m.SeatsAway[0]) != gone || len(m.Members) != 2 || !m.Members[1].Granting {
		t.Errorf("members after the drain: %v, %+v", err, m)
	}
}

// kill stops the last but t-0 as a crash would, and asks before gossip has told.
func (p *testPool) kill(t *testing.T) {
	p.trackers[p.last].stop(trackercmd.ErrKilled)
	<-p.trackers[p.last].done
	stdout, _, err := ctl(t, "--tracker", "127.0.0.1:1", "--tracker", p.entry, "members")
	if err != nil || !strings.Contains(stdout, "no answer") {
		t.Errorf("members: %v\n%s", err, stdout)
	}
	stdout, _, err = ctl(t, "--tracker", p.entry, "explain", "n-1")
	if err != nil || !strings.Contains(stdout, fmt.Sprintf("t-%d did not answer", p.last)) {
		t.Errorf("explain: %v\n%s", err, stdout)
	}
	if _, _, err := ctl(t, "--tracker", "127.0.0.1:1", "members"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestVersion(t *testing.T) {
	want := buildinfo.Read().Line("trackerctl") + "\n"
	for _, args := range []string{"version", "--version"} {
		if stdout, stderr, err := ctl(t, args); stdout != want || stderr != "" || err != nil {
			t.Errorf("%s: %q, %q, %v; want %q", args, stdout, stderr, err, want)
		}
	}
	stdout, _, err := ctl(t, "version", "-o", "json")
	var v versionInfo
	if err := errors.Join(err, json.Unmarshal([]byte(stdout), &v)); err != nil || v.Command != "trackerctl" || v.Version == "" || v.Go != runtime.Version() {
		t.Errorf("as JSON: %s, %v", stdout, err)
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"members -o xml", "--output \"xml\": give table, json, yaml"},
		{"members --timeout 0s", "--timeout 0s: give more than 0"},
		{"members --tracker nowhere", "give host:port"},
		{"members --tracker 192.0.2.1:7940", "--insecure for plain text"},
		{"members --cert-file x", "give both or none"},
		{"members --tls --insecure", "give one of them"},
		{"members --ca-file /nowhere/ca.pem", "/nowhere/ca.pem"},
		{"members --context prod", "none of that name"},
		{"members --config /nowhere/ctl.yaml", "/nowhere/ctl.yaml"},
		{"whatif", "give --add, --remove"},
		{"whatif --members a,b --remove c", "no tracker of the view has that ID"},
		{"whatif --members a,b --add 9999", "give 0 to 1000"},
		{"whatif --members a,a --add 1", "given twice"},
		{"locate --members a,b --shards 0 n", "shards 0"},
		{"watch --interval 1ms", "give 100ms or more"},
		{"explain", "accepts 1 arg"},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Setenv("XDG_CONFIG_HOME", t.TempDir())
			if _, _, err := ctl(t, strings.Fields(test.args)...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestContexts(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ctl.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`current_context: dev
contexts:
  dev: {trackers: ["127.0.0.1:1"]}
  lab: {trackers: ["t.example:7940"], insecure: true}
  prod: {trackers: ["a.example:7940", "b.example:7940"], ca_file: ca.pem, cert_file: me.pem, key_file: /keys/me.pem}
`)
	t.Setenv(configVariable, file)
	stdout, _, err := ctl(t, "contexts")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "contexts.golden", stdout)
	for _, test := range []struct {
		name, flag, variable string
		want                 target
	}{
		{"of the file", "", "", target{Trackers: []string{"127.0.0.1:1"}}},
		{"of the environment", "", "lab", target{Trackers: []string{"t.example:7940"}, Insecure: true}},
		{"of the flag", "prod", "lab", target{Trackers: []string{"a.example:7940", "b.example:7940"}, TLS: true,
			CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "me.pem"), KeyFile: "/keys/me.pem"}},
	} {
		a := &app{contextName: test.flag, lookupEnv: func(name string) (string, bool) {
			v := map[string]string{configVariable: file, contextVariable: test.variable}[name]
			return v, v != ""
		}}
		got, err := a.resolve()
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	write("contexts: {dev: {tracker: x}}")
	if _, _, err := ctl(t, "contexts"); err == nil || !strings.Contains(err.Error(), "tracker") || !strings.Contains(err.Error(), file) {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestCompletion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ctl.yaml")
	if err := os.WriteFile(file, []byte("contexts: {lab: {}, prod: {}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ args, want string }{
		{"__complete --config " + file + " --context ", "lab\nprod\n"},
		{"__complete members -o ", "table\njson\nyaml\n"},
		{"__complete drai", "drain\tHave a tracker leave the pool and exit, and wait for it\n"},
	} {
		args := strings.Split(test.args, " ")
		if stdout, _, err := ctl(t, args...); err != nil || !strings.HasPrefix(stdout, test.want) {
			t.Errorf("%s: %v\n%s, want %q first", test.args, err, stdout, test.want)
		}
	}
}
