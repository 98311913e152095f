package trackercmd

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// told is where a test's configuration comes from.
type told struct {
	flags []string
	env   map[string]string
	file  string // the text of t.yaml, which --config names if there is any
}

func (s told) load(t *testing.T) (*loaded, error) {
	t.Helper()
	src := newSources(func(name string) (string, bool) { v, ok := s.env[name]; return v, ok })
	src.hostname = func() (string, error) { return "host-1.example.org", nil }
	fs := pflag.NewFlagSet("tracker", pflag.ContinueOnError)
	src.register(fs)
	flags := s.flags
	if s.file != "" {
		name := filepath.Join(t.TempDir(), "t.yaml")
		if err := os.WriteFile(name, []byte(s.file), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append([]string{"--config", name}, flags...)
	}
	if err := fs.Parse(flags); err != nil {
		t.Fatalf("flags %q: %v", flags, err)
	}
	return src.load()
}

func (s told) mustLoad(t *testing.T) *loaded {
	t.Helper()
	l, err := s.load(t)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return l
}

// faults are the errors of load, one a line.
func (s told) faults(t *testing.T) []string {
	t.Helper()
	_, err := s.load(t)
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func diffConfig(want, got config) string {
	return cmp.Diff(want, got, cmp.AllowUnexported(config{}, limits{}))
}

func TestNoOptionsArePoolOfOneOnLoopback(t *testing.T) {
	l := told{}.mustLoad(t)
	want := defaultConfig()
	want.id, want.pool, want.seats = "host-1", "local", [][]ring.MemberID{{"host-1"}}
	if diff := diffConfig(want, l.config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if !l.lone {
		t.Error("a tracker that was told of no other does not say that it is alone")
	}
}

func TestPrecedence(t *testing.T) {
	const file = "term: 3s\njoin: [file-a, file-b]\nnode_tracker_service: {listen_addr: 'localhost:1'}\npool: p\nseats: [a]\n"
	env := map[string]string{"TRACKERPOOL_TERM": "4s", "TRACKERPOOL_JOIN": "env-a,env-b", "TRACKERPOOL_LISTEN_ADDR": "[::1]:2", "TRACKERPOOL_SEATS": "b"}
	flags := []string{"--term", "5s", "--join", "flag-a", "--join", "flag-b,flag-c", "--listen-addr", "127.0.0.2:3", "--seats", "c", "--seats", "c,d,e"}
	type values struct {
		Term   time.Duration
		Join   []string
		Listen string
		Seats  [][]ring.MemberID
	}
	for _, tt := range []struct {
		name string
		told told
		want values
	}{
		{"default", told{}, values{10 * time.Second, nil, "127.0.0.1:7940", [][]ring.MemberID{{"host-1"}}}},
		{"file", told{file: file}, values{3 * time.Second, []string{"file-a", "file-b"}, "localhost:1", [][]ring.MemberID{{"a"}}}},
		{"environment over file", told{file: file, env: env}, values{4 * time.Second, []string{"env-a", "env-b"}, "[::1]:2", [][]ring.MemberID{{"b"}}}},
		{
			"flags over all", told{file: file, env: env, flags: flags},
			values{5 * time.Second, []string{"flag-a", "flag-b", "flag-c"}, "127.0.0.2:3", [][]ring.MemberID{{"c"}, {"c", "d", "e"}}},
		},
		{
			"an empty variable gives nothing", told{file: file, env: map[string]string{"TRACKERPOOL_TERM": ""}},
			values{3 * time.Second, []string{"file-a", "file-b"}, "localhost:1", [][]ring.MemberID{{"a"}}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := tt.told.mustLoad(t)
			got := values{l.term, l.join, l.listenAddr, l.seats}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFileByVariable(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pool.yaml")
	if err := os.WriteFile(name, []byte("zone: z1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l := (told{env: map[string]string{"TRACKERPOOL_CONFIG": name}}).mustLoad(t); l.zone != "z1" {
		t.Errorf("zone %q, want that of the file", l.zone)
	}
	_, err := told{flags: []string{"--config", name + ".not"}}.load(t)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v, want an error that says so", err)
	}
}

func TestWholeFile(t *testing.T) {
	l := told{file: `
id: t-1
pool: p
seats: [[a, b, c], [a, b, c, d, e]]
replicas: [3, 2]
new_pool: true
log_level: debug
client_ca_file: clients.pem
ca_file: &ca all.pem
gossip_key_file: *ca
node_tracker_service:
  proxy_keep_alive_interval: 90s
  listen_addr: "[::1]:0"
  https_keypairs:
    - {key_file: k1, cert_file: c1}
    - cert_file: c2
      key_file: k2
`}.mustLoad(t)
	want := defaultConfig()
	want.id, want.pool, want.newPool, want.logLevel = "t-1", "p", true, slog.LevelDebug
	want.seats = [][]ring.MemberID{{"a", "b", "c"}, {"a", "b", "c", "d", "e"}}
	want.replicas = []int{3, 2}
	want.clientCAFile, want.caFile, want.gossipKeyFile = "clients.pem", "all.pem", "all.pem"
	want.proxyKeepAliveInterval, want.listenAddr = 90*time.Second, "[::1]:0"
	want.httpsKeypairs = []rpc.KeyPair{{CertFile: "c1", KeyFile: "k1"}, {CertFile: "c2", KeyFile: "k2"}}
	if diff := diffConfig(want, l.config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		told told
		want []string // the beginning of each
	}{
		{"unknown key", told{file: "zone: z\n\nshard: 3\n"}, []string{`t.yaml:3: unknown key "shard": the keys here are admin_addr, `}},
		{"unknown key in the block", told{file: "node_tracker_service:\n  enable: true\n"}, []string{`t.yaml:2: unknown key "node_tracker_service.enable": the keys here are enabled, `}},
		{"unknown key of a pair", told{file: "https_keypairs:\n- key: a\n  cert_file: b\n"}, []string{
			`t.yaml:2: unknown key "key": the keys here are cert_file, key_file`,
			`https_keypairs "b," (t.yaml:1): give both cert_file and key_file`,
			`client_ca_file "": clients prove nothing without`,
			`ca_file "": other trackers prove nothing by the system's authorities`,
		}},
		{"the block's own key outside of it", told{file: "enabled: false\n"}, []string{`t.yaml:1: unknown key "enabled"`}},
		{"key twice", told{file: "zone: a\nterm: 3s\nzone: b\n"}, []string{`t.yaml:3: key "zone" was given in line 1 already`}},
		{"key inside and outside", told{file: "listen_addr: 'localhost:1'\nnode_tracker_service: {listen_addr: ':2'}\n"}, []string{`t.yaml:2: listen_addr was given before, t.yaml:1: leave one out`}},
		{"not YAML", told{file: "zone: 'a\n"}, []string{`t.yaml: yaml: `}},
		{"not a mapping", told{file: "- zone\n"}, []string{`t.yaml:1: a sequence is given: give a mapping`}},
		{"two documents", told{file: "zone: a\n---\nzone: b\n"}, []string{`t.yaml: there is a second document`}},
		{"wrong shape", told{file: "zone: [a]\njoin: {a: b}\nseats: [[a, [b]]]\n"}, []string{
			`t.yaml:1: zone: a sequence is given: give one value`,
			`t.yaml:2: join: a mapping is given: give a sequence of values`,
			`t.yaml:3: seats: a sequence is given in line 3: give a value`,
		}},
		{
			"all faults of all sources at once",
			told{
				file:  "shards: many\nlog_format: xml\nseat: [a]\n",
				env:   map[string]string{"TRACKERPOOL_TERM": "10"},
				flags: []string{"--replicas", "0", "--replicas", "16", "--admin-addr", "here", "--join", "a:b:c"},
			},
			[]string{
				`t.yaml:3: unknown key "seat"`,
				`shards "many" (t.yaml:1): give a whole number`,
				`term "10" (TRACKERPOOL_TERM): give a number and a unit`,
				`pool "": give the pool's name`,
				`admin_addr "here" (--admin-addr): give host:port`,
				`join "a:b:c" (--join): give host or host:port`,
				`replicas "0" (--replicas): give 1 to 15`,
				`replicas "16" (--replicas): give 1 to 15`,
				`log_format "xml" (t.yaml:2): give text or json`,
			},
		},
		{"ranges", told{flags: []string{"--shards", "65537", "--term", "999ms", "--proxy-keep-alive-interval", "0s", "--drain-deadline", "-1s"}}, []string{
			`shards "65537" (--shards): give 1 to 65536`,
			`term "999ms" (--term): give whole milliseconds, 1s to 10m0s`,
			`proxy_keep_alive_interval "0s" (--proxy-keep-alive-interval): give 1s or more`,
			`drain_deadline "-1s" (--drain-deadline): give 0s or more`,
		}},
		{"seats", told{flags: []string{"--pool", "p", "--seats", "a,b", "--seats", "a,b,b", "--seats", "c/d"}}, []string{
			`seats "[[a b] [a b b] [c/d]]" (--seats): 3 sets: give one, or the old and the new`,
			`seats "[a b]" (--seats): 2 trackers: name 1, 3 or 5`,
			`seats "[a b b]" (--seats): "b" is named twice`,
			`seats "[c/d]" (--seats): "c/d" is no tracker's ID`,
		}},
		{"names", told{flags: []string{"--id", "a b", "--pool", strings.Repeat("p", 64), "--zone", strings.Repeat("z", 64)}}, []string{
			`id "a b" (--id): give 1 to 63 letters`,
			`pool "` + strings.Repeat("p", 64) + `" (--pool): give the pool's name, 1 to 63 bytes`,
			`zone "` + strings.Repeat("z", 64) + `" (--zone): it has 64 bytes`,
		}},
		{"addresses", told{flags: []string{"--listen-addr", ":http", "--gossip-addr", "localhost:1", "--advertise-addr", "0.0.0.0"}}, []string{
			`listen_addr ":http" (--listen-addr): give a port of 0 to 65535`,
			`gossip_addr "localhost:1" (--gossip-addr): give an IP address before the port`,
			`advertise_addr "0.0.0.0" (--advertise-addr): nobody can dial that`,
		}},
		{"TLS", told{flags: []string{"--client-ca-file", "a", "--ca-file", "b"}}, []string{
			`client_ca_file "a" (--client-ca-file): it is of no use in plain text`,
			`ca_file "b" (--ca-file): it is of no use in plain text`,
		}},
		{"plain text where strangers are", told{flags: []string{"--listen-addr", ":1", "--gossip-addr", "0.0.0.0:2", "--admin-addr", "[::]:3", "--probe-addr", ":4"}}, []string{
			`listen_addr ":1" (--listen-addr): it would serve strangers: give https_keypairs, ca_file and client_ca_file, or an address of loopback, or insecure: true`,
			`admin_addr "[::]:3" (--admin-addr): it would serve strangers: give https_keypairs, client_ca_file and identities, and probe_addr`,
			`gossip_addr "0.0.0.0:2" (--gossip-addr): strangers could join the gossip: give gossip_key_file`,
		}},
		{"TLS without gossip keys or identities", told{flags: []string{"--listen-addr", ":1", "--gossip-addr", ":2", "--admin-addr", ":3", "--https-keypairs", "c,k", "--identities", "off"}}, []string{
			`admin_addr ":3" (--admin-addr): it would serve strangers`,
			`gossip_addr ":2" (--gossip-addr): strangers could join the gossip`,
		}},
		{"identities", told{flags: []string{"--identities", "off", "--identities", "guest=spiffe://x/{name}"}}, []string{
			`identities "off,guest=spiffe://x/{name}" (--identities): give rules, or off alone`,
		}},
		{"traces", told{flags: []string{"--trace-endpoint", "collector", "--trace-sample", "NaN", "--trace-ca-file", "f", "--trace-plain"}}, []string{
			`trace_endpoint "collector" (--trace-endpoint): give host:port`,
			`trace_sample "NaN" (--trace-sample): give 0 to 1`,
			`trace_ca_file "f" (--trace-ca-file): it is of no use`,
		}},
		{"half of what traces need", told{flags: []string{"--trace-sample", "much"}, file: "trace_ca_file: f\n"}, []string{
			`trace_sample "much" (--trace-sample): give a number, such as 0.01`,
			`trace_ca_file "f" (t.yaml:1): it is of no use without trace_endpoint`,
		}},
		{"limits", told{flags: []string{"--max-sessions", "0", "--max-streams", "2147483648", "--max-table-bytes", "-1"}}, []string{
			`max_streams "2147483648" (--max-streams): give 1 to 2147483647`,
			`max_sessions "0" (--max-sessions): give 1 to 2147483647`,
			`max_table_bytes "-1" (--max-table-bytes): give 1 or more, or 0 for the default`,
		}},
		{"rules", told{file: "identities: ['{name}', 'proxy=a://{role}/{name}']\nprobe_addr: x\n"}, []string{
			`probe_addr "x" (t.yaml:2): give host:port`,
			`identities "{name},proxy=a://{role}/{name}" (t.yaml:1): "{name}": whose is it?`,
			`"proxy=a://{role}/{name}": it has a role and {role}`,
		}},
		{"half a pair", told{env: map[string]string{"TRACKERPOOL_HTTPS_KEYPAIRS": "a,b;c"}}, []string{
			`https_keypairs "a,b c" (TRACKERPOOL_HTTPS_KEYPAIRS): give the certificate's file, a comma, and the key's file`,
		}},
		{"toggle and level", told{flags: []string{"--pprof=maybe", "--log-level", "loud"}}, []string{
			`pprof "maybe" (--pprof): give true or false`,
			`log_level "loud" (--log-level): give debug, info, warn or error`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.told.faults(t)
			for i, line := range got {
				if i < len(tt.want) && strings.HasPrefix(line, tt.want[i]) {
					got[i] = tt.want[i]
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrintedConfigurationLoadsAgain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags []string
	}{
		{"defaults", nil},
		{"a learner", []string{"--pool", "p", "--join", "a:1", "--join", "b"}},
		{"texts that look like something else", []string{"--zone", "true", "--pool", "12", "--id", "0x1f", "--seats", "1,2,3", "--join", "::1"}},
		{"all", []string{
			"--id", "t-1", "--pool", "p", "--zone", "z", "--listen-addr", ":1", "--advertise-addr", "[::1]:5", "--gossip-addr", ":2", "--admin-addr", ":3",
			"--join", "a,b", "--seats", "a,b,c", "--seats", "a", "--new-pool", "--replicas", "2,3", "--shards", "64", "--term", "1500ms",
			"--proxy-keep-alive-interval", "2m", "--drain-deadline", "0s", "--https-keypairs", "c1,k1", "--https-keypairs", "c2,k2",
			"--client-ca-file", "x", "--ca-file", "y", "--gossip-key-file", "w", "--identities", "proxy=dns:{name}.x", "--identities", "tracker=dns:{name}.y", "--insecure", "--probe-addr", ":4", "--pprof", "--log-format", "json", "--log-level", "warn",
			"--trace-endpoint", "collector:4317", "--trace-sample", "0.25", "--trace-ca-file", "v",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first := told{flags: tt.flags}.mustLoad(t)
			var text bytes.Buffer
			if err := writeFile(&text, &first.config, options(), func(o option) string { return first.where[o.name] }); err != nil {
				t.Fatal(err)
			}
			second := told{file: text.String()}.mustLoad(t)
			if diff := diffConfig(first.config, second.config); diff != "" {
				t.Errorf("loaded again (-first +second):\n%s\n%s", diff, text.String())
			}
		})
	}
}

// A service called trackerpool makes Kubernetes set variables in every pod of
// its namespace.
func TestNoOptionHasAVariableOfKubernetes(t *testing.T) {
	for _, o := range options() {
		name := strings.TrimPrefix(o.variable(), "TRACKERPOOL_")
		if name == "PORT" || strings.HasPrefix(name, "PORT_") || strings.HasPrefix(name, "SERVICE_") {
			t.Errorf("option %s: its variable %s is set by Kubernetes for a Service called trackerpool: rename it", o.name, o.variable())
		}
	}
}

// Each limit reaches what keeps it.
func TestLimitsAreKept(t *testing.T) {
	var flags []string
	for i, l := range allLimits() {
		flags = append(flags, "--"+l.name, strconv.Itoa(i+1))
	}
	l := told{flags: flags}.mustLoad(t)
	var c node.Config
	l.limits.limit(&c)
	if err := errors.Join(l.limits.ofServer().Validate(), c.Validate()); err == nil || strings.Contains(err.Error(), "max_") {
		t.Errorf("limits: %v", err) // other fields are missing
	}
	r := l.limits.ofServer()
	seen := map[int]bool{0: true}
	for _, n := range []int{
		r.Connections, r.ConnectionsPerIdentity, r.Handshakes, r.Streams, r.CallsPerIdentity, r.SessionsPerIdentity, r.UnfinishedBytes,
		c.MaxSessions, c.MaxFinds, c.MaxWatches, c.MaxHops, c.MaxClaims, c.MaxClaimsPerNode, c.MaxUnaries, c.MaxBytes,
	} {
		if seen[n] {
			t.Errorf("%d is there twice, or is 0: a limit is lost", n)
		}
		seen[n] = true
	}
	if len(seen) != len(allLimits())+1 {
		t.Errorf("%d limits are kept of %d", len(seen)-1, len(allLimits()))
	}
}

// The ceiling is half of the memory that the process may take.
func TestCeilingOfMemory(t *testing.T) {
	before := debug.SetMemoryLimit(1 << 30)
	defer debug.SetMemoryLimit(before)
	l := defaultLimits()
	var c node.Config
	l.limit(&c)
	if c.MaxBytes != 1<<29 {
		t.Errorf("ceiling %d, want half of GOMEMLIMIT, %d", c.MaxBytes, 1<<29)
	}
	l.tableSize = 5
	if l.limit(&c); c.MaxBytes != 5 {
		t.Errorf("ceiling %d, want what was given, 5", c.MaxBytes)
	}
}
