package trackerctl

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trackerpool/trackerpool/ring"
)

// Certificates of certs init make a pool that operators can ask, and others cannot; and
// its key is changed in three steps, none of them too early.
func TestSecrecy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	if _, _, err := ctl(t, "certs", "init", dir, "--trackers", "t-0"); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := ctl(t, "certs", "init", dir, "--trackers", "t-0,t-1", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var l certificateList
	if err := json.Unmarshal([]byte(stdout), &l); err != nil {
		t.Fatal(err)
	}
	var made []string
	for _, e := range l.Certificates {
		if e.Made {
			made = append(made, e.Name)
		}
		for _, file := range []string{e.CertFile, e.KeyFile} {
			if _, err := os.Stat(file); err != nil {
				t.Error(err)
			}
		}
	}
	if !slices.Equal(made, []string{"t-1"}) {
		t.Errorf("the second certs init made %v, want t-1 alone", made)
	}

	keyFile := filepath.Join(t.TempDir(), "gossip.keys")
	key, _, err := ctl(t, "keys", "new")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, []byte("# the first\n"+key), 0o640); err != nil {
		t.Fatal(err)
	}
	ca, cert := filepath.Join(dir, "ca.crt"), func(base string) string { return filepath.Join(dir, base) }
	tracker := start(t, "--id", "t-0", "--seats", "t-0", "--gossip-key-file", keyFile, "--ca-file", ca, "--client-ca-file", ca,
		"--https-keypairs", cert("tracker-t-0.crt")+","+cert("tracker-t-0.key"))
	addr := tracker.addr("listen_addr")
	as := func(base string, args ...string) (string, error) {
		stdout, _, err := ctl(t, append([]string{"--tracker", addr, "--ca-file", ca, "--cert-file", cert(base + ".crt"), "--key-file", cert(base + ".key")}, args...)...)
		return stdout, err
	}
	if stdout, err := as("operator-admin", "members"); err != nil || !strings.Contains(stdout, "t-0") || strings.Contains(stdout, "no answer") {
		t.Errorf("an operator: %v\n%s", err, stdout)
	}
	if stdout, err := as("operator-admin", "members", "--server-name", "localhost"); err != nil || strings.Contains(stdout, "no answer") {
		t.Errorf("by the host: %v\n%s", err, stdout)
	}
	if _, err := as("proxy-p-1", "members"); err == nil || !strings.Contains(err.Error(), "operator") {
		t.Errorf("a proxy asks for the status: %v", err)
	}
	if stdout, err := as("proxy-p-1", "lookup", "n"); err != nil || !strings.Contains(stdout, "ABSENT") && !strings.Contains(stdout, "UNKNOWN") {
		t.Errorf("a proxy looks up: %v\n%s", err, stdout)
	}
	if _, _, err := ctl(t, "--tracker", addr, "--timeout", "2s", "members"); err == nil {
		t.Error("plain text is answered")
	}

	keys := func() (l keyList) {
		stdout, err := as("operator-admin", "keys", "-o", "json")
		if err == nil {
			err = json.Unmarshal([]byte(stdout), &l)
		}
		if err != nil || len(l.Trackers) != 1 {
			t.Fatalf("keys: %v: %s", err, stdout)
		}
		return l
	}
	if l := keys(); !l.Agree || len(l.Trackers[0].Keys) != 1 {
		t.Errorf("at first: %+v", l)
	}
	if _, err := as("operator-admin", "keys", "promote", keyFile); err == nil || !strings.Contains(err.Error(), "add another one first") {
		t.Errorf("promote the only key: %v", err)
	}
	stdout, err = as("operator-admin", "keys", "add", keyFile, "-o", "json")
	var c keyChange
	if err == nil {
		err = json.Unmarshal([]byte(stdout), &c)
	}
	if err != nil || len(c.Keys) != 2 || c.Keys[0] != keys().Trackers[0].Keys[0] {
		t.Fatalf("add: %v: %+v", err, c)
	}
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file: %v, %v, want mode 0640", info, err)
	}
}

// The steps of a change of keys are refused while some tracker would not follow.
func TestKeySteps(t *testing.T) {
	list := func(keys ...[]string) *keyList {
		l := &keyList{}
		for i, k := range keys {
			e := keyEntry{Tracker: ring.MemberID(fmt.Sprint("t-", i)), Keys: k}
			if k == nil {
				e.Error = "gone"
			}
			l.Trackers = append(l.Trackers, e)
		}
		return l
	}
	for _, test := range []struct {
		name  string
		step  keyStep
		lines string
		at    *keyList
		want  string // lines, or
		err   string
	}{
		{"add", addKey, "a", list([]string{"A"}, []string{"A"}), "a +", ""},
		{"add while another change is under way", addKey, "b a", list([]string{"B", "A"}, []string{"A"}), "", "t-1 has other keys"},
		{"promote", promoteKey, "a b", list([]string{"A", "B"}, []string{"A", "B"}), "b a", ""},
		{"promote the newest of three", promoteKey, "a b c", list([]string{"A", "B", "C"}), "c a b", ""},
		{"promote a key that one lacks", promoteKey, "a b", list([]string{"A", "B"}, []string{"A"}), "", "t-1 does not have the last key"},
		{"promote while one does not answer", promoteKey, "a b", list([]string{"A", "B"}, nil), "", "t-1 does not have"},
		{"promote the only one", promoteKey, "a", list([]string{"A"}), "", "add another"},
		{"drop", dropKeys, "b a", list([]string{"B", "A"}, []string{"B"}), "b", ""},
		{"drop what one encrypts with", dropKeys, "b a", list([]string{"B", "A"}, []string{"A", "B"}), "", "t-1 does not encrypt"},
		{"drop where gossip is in the clear", dropKeys, "b a", list([]string{}), "", "t-0 does not encrypt"},
	} {
		lines := strings.Fields(test.lines)
		got, err := test.step(lines, strings.Fields(strings.ToUpper(test.lines)), test.at)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %q", test.name, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		for i, want := range strings.Fields(test.want) {
			if len(got) != len(strings.Fields(test.want)) || want != "+" && got[i] != want {
				t.Errorf("%s: %v, want %s", test.name, got, test.want)
				break
			}
		}
	}
}
