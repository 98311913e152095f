package access_test

import (
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/node"
)

// Who may do what, as itself ("own") and as or to another ("other").
func TestWhoMayDoWhat(t *testing.T) {
	type may struct{ own, other, all bool }
	no, yes := may{}, may{true, true, true}
	want := map[access.Action]map[access.Role]may{
		access.Look:    {access.Tracker: yes, access.Proxy: yes, access.Reader: yes, access.Operator: yes},
		access.Claim:   {access.Tracker: no, access.Proxy: {own: true}, access.Reader: no, access.Operator: no},
		access.Remove:  {access.Tracker: no, access.Proxy: {own: true}, access.Reader: no, access.Operator: yes},
		access.Peer:    {access.Tracker: {own: true}, access.Proxy: no, access.Reader: no, access.Operator: no},
		access.Operate: {access.Tracker: no, access.Proxy: no, access.Reader: no, access.Operator: yes},
		0:              {},
		99:             {},
	}
	for action, roles := range want {
		for _, role := range append(access.Roles(), access.Nobody) {
			i := access.Identity{Role: role, Name: "own"}
			got := may{i.Check(action, "own") == nil, i.Check(action, "other") == nil, i.Check(action, "") == nil}
			if got != roles[role] {
				t.Errorf("action %d of a %v: got %+v, want %+v", action, role, got, roles[role])
			}
			if any := i.CheckRole(action) == nil; any != (roles[role] != no) {
				t.Errorf("action %d of a %v: CheckRole allows it: %t", action, role, any)
			}
		}
	}
}

// A refusal names what is refused, and what to do.
func TestRefusalsSayWhatToDo(t *testing.T) {
	proxy := access.Identity{Role: access.Proxy, Name: "p-1", From: "spiffe://x/p-1"}
	for _, test := range []struct {
		err   error
		field string
		value string
		says  string
	}{
		{proxy.Check(access.Claim, "p-2"), "proxy_id", "p-2", `proxy "p-1" may claim nodes only as itself; give that name, or connect with the certificate of p-2`},
		{proxy.Check(access.Remove, ""), "proxy_id", "", `the certificate of an operator`},
		{proxy.Check(access.Operate, ""), "certificate", "spiffe://x/p-1", `proxy "p-1" may not operate a tracker; connect with the certificate of a role that may, [operator]`},
		{access.Identity{Role: access.Tracker, Name: "t-1"}.Check(access.Peer, "t-2"), "from", "t-2", `tracker "t-1" may speak as a tracker only as itself`},
	} {
		denied, ok := errors.AsType[*node.DeniedError](test.err)
		if !ok || denied.Field != test.field || denied.Value != test.value || !strings.Contains(denied.Problem, test.says) {
			t.Errorf("got %v, want %s %q that says %q", test.err, test.field, test.value, test.says)
		}
	}
}

func certificate(t *testing.T, names ...string) *x509.Certificate {
	t.Helper()
	cert := &x509.Certificate{}
	for _, name := range names {
		if dns, ok := strings.CutPrefix(name, "dns:"); ok {
			cert.DNSNames = append(cert.DNSNames, dns)
			continue
		}
		u, err := url.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		cert.URIs = append(cert.URIs, u)
	}
	return cert
}

func TestIdentitiesOfCertificates(t *testing.T) {
	standard := []string{access.DefaultRule}
	dns := []string{"tracker=dns:{name}.trackers.example.org", "proxy=dns:{name}.Proxies.example.org"}
	const own = "spiffe://trackerpool.internal/trackerpool/"
	for name, test := range map[string]struct {
		rules []string
		names []string
		want  string // Identity's text; empty: denied
	}{
		"a tracker":                     {standard, []string{own + "tracker/t-0"}, `tracker "t-0"`},
		"a proxy":                       {standard, []string{own + "proxy/p.1_x"}, `proxy "p.1_x"`},
		"a reader":                      {standard, []string{own + "reader/r"}, `reader "r"`},
		"an operator, with hosts":       {standard, []string{"dns:localhost", own + "operator/o"}, `operator "o"`},
		"no name":                       {standard, nil, ""},
		"no URI":                        {standard, []string{"dns:tracker.t-0"}, ""},
		"another trust domain":          {standard, []string{"spiffe://elsewhere/trackerpool/tracker/t-0"}, ""},
		"a longer trust domain":         {standard, []string{"spiffe://trackerpool.internal.evil.org/trackerpool/tracker/t-0"}, ""},
		"another scheme":                {standard, []string{"https://trackerpool.internal/trackerpool/tracker/t-0"}, ""},
		"a dot is a dot":                {standard, []string{"spiffe://trackerpoolXinternal/trackerpool/tracker/t-0"}, ""},
		"another role":                  {standard, []string{own + "root/t-0"}, ""},
		"nobody is no role":             {standard, []string{own + "nobody/t-0"}, ""},
		"an empty name":                 {standard, []string{own + "tracker/"}, ""},
		"a deeper path":                 {standard, []string{own + "tracker/t-0/x"}, ""},
		"a query":                       {standard, []string{own + "tracker/t-0?x"}, ""},
		"a fragment":                    {standard, []string{own + "tracker/t-0#x"}, ""},
		"an escape":                     {standard, []string{own + "tracker/t%2d0"}, ""},
		"two names":                     {standard, []string{own + "tracker/t-0", own + "tracker/t-1"}, ""},
		"two roles":                     {standard, []string{own + "proxy/x", own + "operator/x"}, ""},
		"the same twice":                {standard, []string{own + "proxy/x", own + "proxy/x"}, `proxy "x"`},
		"a DNS name":                    {dns, []string{"dns:t-0.trackers.example.org"}, `tracker "t-0"`},
		"a DNS name's case":             {dns, []string{"dns:P-1.proxies.EXAMPLE.org"}, `proxy "p-1"`},
		"a label more":                  {dns, []string{"dns:a.b.proxies.example.org"}, ""},
		"a wildcard":                    {dns, []string{"dns:*.proxies.example.org"}, ""},
		"a URI where DNS is meant":      {dns, []string{"spiffe://p.proxies.example.org"}, ""},
		"the same by two rules":         {append(dns, standard...), []string{"dns:x.proxies.example.org", own + "proxy/x"}, `proxy "x"`},
		"others by two rules":           {append(dns, standard...), []string{"dns:x.proxies.example.org", own + "proxy/y"}, ""},
		"an operator's account":         {[]string{"operator=spiffe://example.org/ns/ops/sa/admin"}, []string{"spiffe://example.org/ns/ops/sa/admin"}, `operator "spiffe://example.org/ns/ops/sa/admin"`},
		"no rules":                      {nil, []string{own + "tracker/t-0"}, ""},
		"names with a fixed part":       {[]string{"tracker=spiffe://x/sa/tracker-{name}"}, []string{"spiffe://x/sa/tracker-0"}, `tracker "0"`},
		"names that only begin like it": {[]string{"tracker=spiffe://x/{name}/t"}, []string{"spiffe://x/a/t/b"}, ""},
	} {
		ids, err := access.ParseIdentities(test.rules...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := ids.Of(certificate(t, test.names...))
		if test.want == "" {
			if _, ok := errors.AsType[*node.DeniedError](err); !ok {
				t.Errorf("%s: got %v, %v; want a DeniedError", name, got, err)
			}
			continue
		}
		if err != nil || got.String() != test.want {
			t.Errorf("%s: got %v, %v; want %s", name, got, err, test.want)
		}
		if again := ids.Wanted(got.Role, got.Name); got.Name != got.From && again == "" {
			t.Errorf("%s: no rule can give %v", name, got)
		}
	}
}

func TestBadRules(t *testing.T) {
	_, err := access.ParseIdentities("", "tracker=", "spiffe://x/{name}", "tracker=spiffe://x/t", "proxy=spiffe://x/{role}/{name}",
		"proxy={name}", "spiffe://x/{role}/{role}/{name}", "guest=spiffe://x/{name}", access.DefaultRule)
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{
		`"": whose is it?`, `"tracker=": trackers and proxies are known by name`, `"spiffe://x/{name}": whose is it?`, `"tracker=spiffe://x/t": trackers and proxies`,
		`"proxy=spiffe://x/{role}/{name}": it has a role and {role}`, `"proxy={name}": give a URI`, `"spiffe://x/{role}/{role}/{name}": {role} and {name} may stand in a rule once`,
		`"guest=spiffe://x/{name}": whose is it?`,
	} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("line %d: want %s in:\n%v", i, want, err)
		}
	}
	if len(lines) != 8 {
		t.Errorf("%d faults, want 8:\n%v", len(lines), err)
	}
}

// Whatever a certificate says, it gives an identity only if its name is what a rule
// makes of that identity.
func FuzzIdentities(f *testing.F) {
	for _, name := range []string{"spiffe://trackerpool.internal/trackerpool/tracker/t-0", "dns:t.example.org", "spiffe://a/%2e%2e/x", "dns:*.example.org"} {
		f.Add(name)
	}
	ids, err := access.ParseIdentities(access.DefaultRule, "proxy=dns:{name}.example.org")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		cert := &x509.Certificate{}
		if dns, ok := strings.CutPrefix(name, "dns:"); ok {
			cert.DNSNames = []string{dns}
		} else if u, err := url.Parse(name); err == nil {
			cert.URIs, name = []*url.URL{u}, u.String()
		}
		who, err := ids.Of(cert)
		uri := strings.NewReplacer("{role}", who.Role.String(), "{name}", who.Name).Replace(access.DefaultRule)
		if err == nil && name != uri && strings.ToLower(name) != "dns:"+who.Name+".example.org" {
			t.Errorf("%q gives %v", name, who)
		}
	})
}
