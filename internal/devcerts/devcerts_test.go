package devcerts_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/devcerts"
)

func identities(t *testing.T, rules ...string) access.Identities {
	t.Helper()
	ids, err := access.ParseIdentities(rules...)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestCertificatesGiveWhatTheyAreMadeFor(t *testing.T) {
	for name, ids := range map[string]access.Identities{
		"URI": identities(t, access.DefaultRule),
		"DNS": identities(t, "tracker=dns:{name}.trackers.example.org", "proxy=dns:{name}.proxies.example.org", "reader=dns:{name}.readers.example.org", "operator=dns:ops.example.org"),
	} {
		dir := filepath.Join(t.TempDir(), "new", "certs")
		a, err := devcerts.Open(dir, ids, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(a.CAFile())
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		for _, role := range access.Roles() {
			pair, err := a.Issue(role, "x-1", devcerts.Loopback(), 2*time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			use := x509.ExtKeyUsageClientAuth
			if role == access.Tracker {
				use = x509.ExtKeyUsageServerAuth
			}
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "127.0.0.1", KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
				t.Errorf("%s, %v: %v", name, role, err)
			}
			if who, err := ids.Of(cert.Leaf); err != nil || who.Role != role {
				t.Errorf("%s, %v: it gives %v, %v", name, role, who, err)
			}
			if left := time.Until(cert.Leaf.NotAfter); left > time.Hour {
				t.Errorf("%s, %v: it holds %v longer than its authority", name, role, left-time.Hour)
			}
			mode(t, pair.CertFile, 0o644)
			mode(t, pair.KeyFile, 0o600)
		}
		mode(t, dir, 0o700|fs.ModeDir)
		mode(t, filepath.Join(dir, "ca.key"), 0o600)
	}
}

func mode(t *testing.T, name string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != want {
		t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir, ids := t.TempDir(), identities(t, access.DefaultRule)
	a, err := devcerts.Open(dir, ids, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Issue(access.Proxy, "p-1", nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	again, err := devcerts.Open(dir, ids, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Issue(access.Proxy, "p-1", nil, time.Hour); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same once more: %v, want fs.ErrExist", err)
	}
	if _, err := again.Issue(access.Proxy, "p-2", nil, time.Hour); err != nil {
		t.Errorf("another one: %v", err)
	}
	after := contents(t, dir)
	for name, text := range before {
		if after[name] != text {
			t.Errorf("%s was overwritten", name)
		}
	}
	if len(after) != len(before)+2 {
		t.Errorf("%d files became %d, want two more", len(before), len(after))
	}
	for _, file := range []string{"ca.crt", "ca.key"} { // half of an authority is none, and is not completed
		half := t.TempDir()
		if err := os.WriteFile(filepath.Join(half, file), []byte(before[file]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := devcerts.Open(half, ids, time.Hour); err == nil {
			t.Errorf("%s alone is taken for an authority", file)
		}
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

func TestBadNames(t *testing.T) {
	a, err := devcerts.Open(t.TempDir(), identities(t, "tracker=spiffe://x/{name}"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "..", "a/b", "-a", "a b", "\n"} {
		if _, err := a.Issue(access.Tracker, name, nil, time.Hour); err == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
	if _, err := a.Issue(access.Proxy, "p", nil, time.Hour); err == nil {
		t.Error("a certificate was made for a role that no rule can give")
	}
}
