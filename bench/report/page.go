package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// WritePage puts the tables into a page of Markdown, each between a line
// <!-- NAME --> and a line <!-- end -->, in place of what was there; run is what was
// measured how. It draws the plots into the directory that is named like the page, and
// shows each above the table of its name.
func (r *Report) WritePage(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	page := string(text)
	var run strings.Builder
	r.writeRun(&run)
	dir := strings.TrimSuffix(name, filepath.Ext(name))
	parts := map[string]string{"run": run.String()}
	for _, t := range tables() {
		var b strings.Builder
		if rows := t.rows(r); rows != nil {
			for _, p := range plots() {
				if p.name == t.name {
					fmt.Fprintf(&b, "![%s](%s/%s.svg)\n\n", p.title, filepath.Base(dir), p.name)
				}
			}
			writeRows(&b, rows)
		} else {
			b.WriteString("Not measured.\n")
		}
		parts[t.name] = b.String()
	}
	for part, content := range parts {
		if page, err = replace(page, part, content); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := os.WriteFile(name, []byte(page), 0o666); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var errs []error
	for _, p := range plots() {
		errs = append(errs, p.write(r, filepath.Join(dir, p.name+".svg")))
	}
	return errors.Join(errs...)
}

// replace puts content between the lines that name a part.
func replace(page, part, content string) (string, error) {
	const end = "<!-- end -->\n"
	begin := "<!-- " + part + " -->\n"
	before, rest, ok := strings.Cut(page, begin)
	if !ok {
		return "", fmt.Errorf("the line %q is missing", strings.TrimSpace(begin))
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("the line %q is missing after %q", strings.TrimSpace(end), strings.TrimSpace(begin))
	}
	return before + begin + content + end + after, nil
}
