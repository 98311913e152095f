package sim

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var mutationsFlag = flag.Bool("mutations", false, "have TestMutations put faults into the module's code, and expect tests to fail")

// A mutation is a fault of one line.
type mutation struct {
	name     string
	file     string
	old, new string   // old is there once
	by       []string // the arguments of go test that catch it
}

func stories(names string) []string {
	return []string{"./internal/sim", "-run", "TestStories/^(" + names + ")$", "-short"}
}

func schedules() []string { return []string{"./internal/sim", "-run", "TestPool", "-seeds", "24"} }

func tests(of string, names ...string) []string {
	return []string{"./" + of, "-short", "-run", strings.Join(names, "|")}
}

// mutations are what must not go unnoticed.
func mutations() []mutation {
	return []mutation{
		{"ABSENT from one holder", "node/merge.go",
			"absent == len(q.List) {", "absent > 0 {", schedules()},
		{"open without a confirm", "lease/opening.go",
			"	for p := range l.heardOf(now) {\n		if !look(p) {", "	for p := range map[ProxyID]bool{} {\n		if !look(p) {", stories("slow|join|crash|amnesia|split")},
		{"count outside the list in force", "node/tell.go",
			"known := g.counting.Shards(now)", "known := snap.Held.Clone()", stories("split|slow")},
		{"a term from receipt", "lease/ledger.go",
			"h.until = sent.Add(l.term.Held())", "h.until = now.Add(l.term.Held())", tests("lease")},
		{"a nonce sent again prolongs", "lease/grantor.go",
			"if a.Nonce > r.nonce {", "if a.Nonce >= r.nonce {", tests("lease")},
		{"a seat that grants at once after its start", "lease/grantor.go",
			"grantsFrom: now.Add(term.Forgotten())", "grantsFrom: now", stories("amnesia|upgrade|split|crash")},
		{"a word without its stragglers", "lease/grantor.go",
			"w.Grants, w.View, w.Older = true, g.current.Fingerprint(), g.older", "w.Grants, w.View, w.Older = true, g.current.Fingerprint(), nil", tests("lease")},
		{"a straggler freed by an old acknowledgement", "lease/grantor.go",
			"	for v, w := range r.words {\n		if w.seq < seq {\n			delete", "	for v, w := range r.words {\n		if w.seq < seq+2 {\n			delete", tests("lease")},
		{"a release before the new holder counted", "pool/release.go",
			"free := ring.NewShardSet(shards)", "free := ring.FullShardSet(shards)", tests("pool")},
		{"a hello that covers", "node/session.go",
			"	s.life, l.session = l, s\n", "	s.life, l.session = l, s\n	l.lease.Store(&coverage{until: now.Add(t.term.Held()).UnixNano(), shards: ring.FullShardSet(t.cfg.Shards)})\n", tests("node")},
		{"a Renew between chunks that confirms", "node/apply.go",
			"	for sh := range s.replacing {\n		c.Remove(sh)", "	for sh := range s.replacing {\n		_ = sh", tests("node")},
		{"a sum without removals", "node/apply.go",
			"if c.Had {", "if c.Had && !c.Remove {", stories("join|crash")},
		{"a replace that keeps what was not named", "node/table.go",
			"before = s.dropIf(func(of Owner) bool { return of == o })\n	s.reserve", "before = s.dropIf(func(Owner) bool { return false })\n	s.reserve", tests("node")},
		{"an old incarnation accepted", "node/session.go",
			"case h.Incarnation.Number < known.Number ||", "case false && h.Incarnation.Number < known.Number ||", tests("node")},
		{"a floor ignored", "node/session.go",
			"case h.Incarnation.Less(floor):", "case false && h.Incarnation.Less(floor):", tests("node", "TestRemoveProxy")},
		{"a session that outlives a new one", "node/session.go",
			"		b.fenceBefore()\n		b.fence()\n		b.end(&End{Reason: EndReplaced})\n", "		b.fenceBefore()\n", tests("node")},
		{"what a fenced session says applied", "node/session.go",
			"	s.fenced = true\n", "", tests("node")},
		{"claims that are not covered answered", "node/find.go",
			"covered := v.covered(n, shard)", "covered := v.covered(n, shard) || true", stories("proxies|freeze")},
		{"no rejoin", "membership/rejoin.go",
			"addr, ok := g.missing()\n		if !ok {", "addr, ok := g.missing()\n		if ok = false; !ok {", stories("split")},
		{"a younger boot that others know ignored", "membership/vanished.go",
			"news = boot > t.youngest[id]; news {", "news = false; news {", tests("membership", "TestOlderBootUnasked", "TestVanishedBoot")},
		{"a seat with an older boot never heard", "lease/ledger.go",
			"h.word.Seat.Boot && now.Before(h.until) ||", "h.word.Seat.Boot ||", stories("setback2")},
		{"a former holder forgotten by a reader", "pool/reader.go",
			"former = append(former, p.List(shard)...)", "_ = p", tests("pool", "TestStaleView")},
		{"a view vouched for, of which claims were forgone", "pool/session.go",
			"	s.marks = nil // a view", "	// a view", tests("pool", "TestForgoneView")},
		{"a former holder forgotten by a removal", "pool/write.go",
			"		case !p.told.Has(it.shard):\n		case p.session == nil:", "		case !p.told.Has(it.shard), p.session == nil:\n		case p.session == nil:", schedules()},
		{"the renewal of one unary claim keeps others", "node/unary.go",
			"		s.take(u, &n)\n		*held = n\n", "		s.take(u, &n)\n		*held = n\n		for e := range s.set.row(&p) {\n			s.rows[e.stamp].deadline = n.deadline\n		}\n", stories("quiet")},
		{"unary claims without an end", "node/unary.go",
			"func (n *unary) passed(now int64) bool { return now >= n.deadline }", "func (n *unary) passed(now int64) bool { return false }", stories("quiet")},
		{"acknowledgements of copies lost", "rpc/peering.go",
			"		Ack:    r.Ack,\n", "", stories("leave")},
		{"a lease that has ended settles a removal alone", "pool/write.go",
			"it.open++ // until all places are counted", "it.open += 0 // until all places are counted", schedules()},
	}
}

// TestMutationsFit holds the table to the code, so that a change of either shows at once.
func TestMutationsFit(t *testing.T) {
	for _, m := range mutations() {
		text, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), m.old); n != 1 {
			t.Errorf("%s: %s has the line to change %d times, want once: change this table with the code", m.name, m.file, n)
		}
	}
}

// TestMutations puts each fault into the code, by an overlay: the tree stays as it
// is. Some take minutes: make mutations.
func TestMutations(t *testing.T) {
	if !*mutationsFlag {
		t.Skip("give -mutations")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	passes := make(map[string]bool)
	for _, m := range mutations() {
		t.Run(m.name, func(t *testing.T) {
			// What fails without the fault shows nothing.
			if by := strings.Join(m.by, " "); !passes[by] {
				if out, err := goTest(root, m.by...); err != nil {
					t.Fatalf("without the fault go test %s fails:\n%s", by, out)
				}
				passes[by] = true
			}
			file := filepath.Join(root, m.file)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			overlay := overlayOf(t, file, strings.Replace(string(text), m.old, m.new, 1))
			began := time.Now()
			out, err := goTest(root, append([]string{"-count=1", "-failfast", "-overlay", overlay}, m.by...)...)
			took := time.Since(began).Round(time.Second)
			switch {
			case err == nil:
				t.Errorf("not caught within %v by go test %s", took, strings.Join(m.by, " "))
			case failure(out) == "":
				t.Errorf("no test has failed, but go test has:\n%s", out)
			default:
				t.Logf("caught after %v by go test %s: %s", took, strings.Join(m.by, " "), failure(out))
			}
		})
	}
}

// goTest runs tests of the module, and returns what they print.
func goTest(root string, args ...string) (string, error) {
	cmd := exec.Command("go", append([]string{"test", "-timeout=15m"}, args...)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// overlayOf returns the name of an overlay that gives a file another text.
func overlayOf(t *testing.T, file, text string) string {
	t.Helper()
	dir := t.TempDir()
	mutant, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(mutant, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{file: mutant}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

// failure is the first test that failed, or nothing where none ran.
func failure(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "--- FAIL") || strings.HasPrefix(line, "panic") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
