package trackercmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Keys of an element of https_keypairs.
const (
	keyFileKey  = "key_file"
	certFileKey = "cert_file"
)

// given is what one source says of an option.
type given struct {
	values []string // as the option's set takes them; never empty
	where  string   // for people
}

// A fileReader collects what a configuration file says, and all its faults.
type fileReader struct {
	name   string
	given  map[string]given // by option
	faults []error
}

// parseFile returns what the text of the named file gives, by option, and all
// faults, each with its line. Only the form is checked: the values are for the
// options.
func parseFile(name string, text []byte, opts []option) (map[string]given, []error) {
	r := &fileReader{name: name, given: make(map[string]given)}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return r.given, nil // empty, or comments alone
	case err != nil:
		return nil, []error{fmt.Errorf("%s: %w", name, err)}
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		r.faults = append(r.faults, fmt.Errorf("%s: there is a second document: give one", name))
	}
	r.mapping(doc.Content[0], func(key string, n, value *yaml.Node) {
		i := slices.IndexFunc(opts, func(o option) bool { return o.key() == key && !o.noFlag })
		switch {
		case key == blockKey:
			r.block(value, opts)
		case i < 0:
			r.unknown(n, key, topKeys(opts))
		default:
			r.take(opts[i], n, value)
		}
	})
	return r.given, r.faults
}

func topKeys(opts []option) []string {
	keys := []string{blockKey}
	for _, o := range opts {
		if !o.noFlag {
			keys = append(keys, o.key())
		}
	}
	return keys
}

func (r *fileReader) block(n *yaml.Node, opts []option) {
	var keys []string
	for _, o := range opts {
		if o.inBlock {
			keys = append(keys, o.key())
		}
	}
	r.mapping(n, func(key string, n, value *yaml.Node) {
		i := slices.IndexFunc(opts, func(o option) bool { return o.key() == key && o.inBlock })
		if i < 0 {
			r.unknown(n, blockKey+"."+key, keys)
			return
		}
		r.take(opts[i], n, value)
	})
}

func (r *fileReader) fault(n *yaml.Node, format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf("%s:%d: %w", r.name, n.Line, fmt.Errorf(format, args...)))
}

func (r *fileReader) unknown(n *yaml.Node, key string, known []string) {
	slices.Sort(known)
	r.fault(n, "unknown key %q: the keys here are %s", key, strings.Join(known, ", "))
}

// mapping calls each for the keys of a mapping, which may be absent.
func (r *fileReader) mapping(n *yaml.Node, each func(key string, keyNode, value *yaml.Node)) {
	n = resolved(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.fault(n, "%s: give a mapping, lines of key: value", describe(n))
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if line, ok := seen[key.Value]; ok {
			r.fault(key, "key %q was given in line %d already: leave one out", key.Value, line)
			continue
		}
		seen[key.Value] = key.Line
		each(key.Value, key, resolved(n.Content[i+1]))
	}
}

// take notes the values of an option. A key without a value gives nothing.
func (r *fileReader) take(o option, key, value *yaml.Node) {
	if isNull(value) {
		return
	}
	if before, ok := r.given[o.name]; ok {
		r.fault(key, "%s was given before, %s: leave one out", o.key(), before.where)
		return
	}
	values, err := r.values(o.shape, value)
	if err != nil {
		r.fault(value, "%s: %w", o.key(), err)
		return
	}
	r.given[o.name] = given{values, fmt.Sprintf("%s:%d", r.name, key.Line)}
}

// values returns what set is given for a value in the file.
func (r *fileReader) values(s shape, n *yaml.Node) ([]string, error) {
	switch {
	case s == scalar && n.Kind == yaml.ScalarNode:
		return []string{n.Value}, nil
	case s == scalar:
		return nil, fmt.Errorf("%s: give one value", describe(n))
	case s == pairs:
		return r.keypairs(n)
	case n.Kind == yaml.ScalarNode:
		return []string{n.Value}, nil
	case s == sets && n.Kind == yaml.SequenceNode && slices.ContainsFunc(n.Content, isSequence):
		var all []string
		for _, item := range n.Content {
			set, err := scalars(resolved(item))
			if err != nil {
				return nil, err
			}
			all = append(all, strings.Join(set, ","))
		}
		return all, nil
	}
	items, err := scalars(n)
	if err != nil {
		return nil, err
	}
	return []string{strings.Join(items, ",")}, nil
}

func scalars(n *yaml.Node) ([]string, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("%s: give a sequence of values", describe(n))
	}
	var items []string
	for _, item := range n.Content {
		if item = resolved(item); item.Kind != yaml.ScalarNode || isNull(item) {
			return nil, fmt.Errorf("%s in line %d: give a value", describe(item), item.Line)
		}
		items = append(items, item.Value)
	}
	return items, nil
}

func (r *fileReader) keypairs(n *yaml.Node) ([]string, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("%s: give a sequence of mappings with %s and %s", describe(n), certFileKey, keyFileKey)
	}
	values := []string{""} // no pairs are given too
	for i, item := range n.Content {
		files := make(map[string]string)
		r.mapping(item, func(key string, n, value *yaml.Node) {
			switch {
			case key != certFileKey && key != keyFileKey:
				r.unknown(n, key, []string{certFileKey, keyFileKey})
			case value.Kind != yaml.ScalarNode:
				r.fault(n, "%s: %s: give the name of a file", key, describe(value))
			default:
				files[key] = value.Value
			}
		})
		if i == 0 {
			values = nil
		}
		values = append(values, files[certFileKey]+","+files[keyFileKey])
	}
	return values, nil
}

// resolved returns what an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func isSequence(n *yaml.Node) bool { return resolved(n).Kind == yaml.SequenceNode }

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping is given"
	case yaml.SequenceNode:
		return "a sequence is given"
	}
	return fmt.Sprintf("%q is given", n.Value)
}

// writeFile writes the configuration as a file that can be loaded again.
func writeFile(w io.Writer, c *config, opts []option, where func(option) string) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	block := &yaml.Node{Kind: yaml.MappingNode}
	standard := defaultConfig()
	for _, o := range opts {
		key := textNode(o.key())
		key.HeadComment = comment(o, &standard, where(o))
		to := root
		if o.inBlock {
			to = block
		}
		to.Content = append(to.Content, key, o.get(c))
	}
	root.Content = append(root.Content, textNode(blockKey), block)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return e.Close()
}

// comment says what an option is, its default, and where its value comes from.
func comment(o option, standard *config, where string) string {
	lines := []string{o.doc + "."}
	n := o.get(standard)
	if value := brief(n); value != "" {
		lines = append(lines, "Default: "+value)
	}
	if where != "" {
		lines = append(lines, "Given by "+where)
	}
	for i, l := range lines {
		lines[i] = "# " + l
	}
	return strings.Join(lines, "\n")
}

// brief is a default in one line, or empty where there is none or the option's
// text tells.
func brief(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return n.Value
	}
	var items []string
	for _, item := range n.Content {
		items = append(items, item.Value)
	}
	return strings.Join(items, ", ")
}
