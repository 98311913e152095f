package rpc

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/devcerts"
	"github.com/trackerpool/trackerpool/node"
)

type testFiles struct {
	dir            string
	server, client TLSFiles
}

// makeFiles makes an authority, and certificates of its for 127.0.0.1 that have host
// names, and give no identity by the default rule.
func makeFiles(t testing.TB) testFiles {
	t.Helper()
	ids, err := access.ParseIdentities("tracker=dns:{name}")
	if err != nil {
		t.Fatal(err)
	}
	f := testFiles{dir: t.TempDir()}
	ca, err := devcerts.Open(f.dir, ids, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(name string) TLSFiles {
		pair, err := ca.Issue(access.Tracker, name, []string{"127.0.0.1"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return TLSFiles{KeyPairs: []KeyPair{KeyPair(pair)}, CAFile: ca.CAFile()}
	}
	f.server, f.client = issue("server"), issue("client")
	return f
}

func TestTLS(t *testing.T) {
	files := makeFiles(t)
	strangers := makeFiles(t)
	nobody := files.client
	nobody.KeyPairs = nil
	named := files.client
	named.ServerName = "server"
	misnamed := files.client
	misnamed.ServerName = "other"
	mistaken := strangers.client
	mistaken.CAFile = files.client.CAFile
	open := files.server
	open.CAFile = ""
	for name, test := range map[string]struct {
		server, client TLSFiles
		ok             bool
	}{
		"mutual":                             {files.server, files.client, true},
		"named":                              {files.server, named, true},
		"another name":                       {files.server, misnamed, false},
		"client without certificate":         {files.server, nobody, false},
		"client of another authority":        {files.server, mistaken, false},
		"server of another authority":        {strangers.server, files.client, false},
		"server that asks for none":          {open, nobody, true},
		"two authorities, one key pair each": {files.server, strangers.client, false},
	} {
		err := handshake(t, test.server, test.client)
		if (err == nil) != test.ok {
			t.Errorf("%s: got %v, want success: %v", name, err, test.ok)
		}
		if err != nil && !errors.Is(err, node.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
}

// handshake returns the error of one call.
func handshake(t *testing.T, server, client TLSFiles) error {
	t.Helper()
	serverCreds, err := ServerCredentials(server, nil)
	if err != nil {
		t.Fatal(err)
	}
	clientCreds, err := ClientCredentials(client, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, addr := serve(t, &service{getProxies: absent}, WithServerCredentials(serverCreds))
	_, _, err = dial(t, addr, clientCreds).GetProxies(t.Context(), "n")
	return err
}

func absent(node.ID) (node.Answer, []node.Claim, error) { return node.Absent, nil, nil }

func TestTLSIsThirteen(t *testing.T) {
	files := makeFiles(t)
	creds, err := ServerCredentials(files.server, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, addr := serve(t, &service{}, WithServerCredentials(creds))
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		_ = conn.Close()
		t.Error("the server speaks TLS 1.2")
	}
}

// TestTLSFilesChange replaces authority and certificates under a server and a
// client that go on.
func TestTLSFilesChange(t *testing.T) {
	files := makeFiles(t)
	var log lockedBuffer
	serverCreds, err := ServerCredentials(files.server, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	clientCreds, err := ClientCredentials(files.client, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, addr := serve(t, &service{getProxies: absent}, WithServerCredentials(serverCreds))
	call := func() error {
		_, _, err := dial(t, addr, clientCreds).GetProxies(t.Context(), "n")
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}

	// Half of a change: a certificate without its key. What was read before stays.
	next := makeFiles(t)
	copyFile(t, next.server.KeyPairs[0].CertFile, files.server.KeyPairs[0].CertFile)
	for range 3 {
		if err := call(); err != nil {
			t.Errorf("while the files do not fit together: %v", err)
		}
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("the log complains %d times, want once:\n%s", n, log.String())
	}

	// The other half.
	later := time.Now().Add(time.Minute) // whatever the resolution of the file system
	for _, name := range []string{"tracker-server.key", "tracker-client.crt", "tracker-client.key", "ca.crt", "tracker-server.crt"} {
		copyFile(t, filepath.Join(next.dir, name), filepath.Join(files.dir, name))
		if err := os.Chtimes(filepath.Join(files.dir, name), later, later); err != nil {
			t.Fatal(err)
		}
	}
	if err := call(); err != nil {
		t.Errorf("after the files were replaced: %v", err)
	}
	old := makeFiles(t).client
	old.CAFile = files.client.CAFile
	oldCreds, err := ClientCredentials(old, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := dial(t, addr, oldCreds).GetProxies(t.Context(), "n"); err == nil {
		t.Error("a certificate of neither authority is accepted")
	}
}

func TestTLSFileErrors(t *testing.T) {
	files := makeFiles(t)
	pair, other := files.server.KeyPairs[0], files.client.KeyPairs[0]
	missing := filepath.Join(files.dir, "missing.pem")
	for name, test := range map[string]struct {
		files TLSFiles
		says  []string
	}{
		"no key pair":         {TLSFiles{}, []string{"no key pair"}},
		"missing certificate": {TLSFiles{KeyPairs: []KeyPair{{missing, pair.KeyFile}}}, []string{missing, "does not exist"}},
		"unnamed key":         {TLSFiles{KeyPairs: []KeyPair{{pair.CertFile, ""}}}, []string{"no private key file"}},
		"another's key":       {TLSFiles{KeyPairs: []KeyPair{{pair.CertFile, other.KeyFile}}}, []string{pair.CertFile, other.KeyFile}},
		"no authority":        {TLSFiles{KeyPairs: []KeyPair{pair}, CAFile: pair.KeyFile}, []string{pair.KeyFile, "no certificate"}},
	} {
		_, err := ServerCredentials(test.files, nil)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, says := range test.says {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: got %v, want it to say %q", name, err, says)
			}
		}
	}
}
