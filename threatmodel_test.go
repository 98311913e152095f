package trackerpool_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every defence in docs/threat-model.md names a test that exists, in a package that
// is named before it.
func TestThreatModelNamesTests(t *testing.T) {
	text, err := os.ReadFile("docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{} // by package and name
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = fs.WalkDir(os.DirFS("."), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		parts := strings.Split(name, "/")
		for _, m := range function.FindAllStringSubmatch(string(source), -1) {
			exists[parts[max(0, len(parts)-2)]+"."+m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	separators := strings.NewReplacer("|", " ", ",", " ", ";", " ")
	for line := range strings.Lines(string(text)) {
		pkg := "" // the last word that is no test
		for word := range strings.FieldsSeq(separators.Replace(line)) {
			name := strings.Trim(word, "`")
			if !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Fuzz") {
				pkg = word
				continue
			}
			named++
			if !exists[pkg+"."+name] {
				t.Errorf("docs/threat-model.md names %s of package %s, which there is not", name, pkg)
			}
		}
	}
	if named == 0 {
		t.Error("docs/threat-model.md names no test: has its form changed?")
	}
}
