package access

import (
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/trackerpool/trackerpool/node"
)

// DefaultRule is the rule of a pool that was given none.
const DefaultRule = "spiffe://trackerpool.internal/trackerpool/{role}/{name}"

const (
	dnsScheme = "dns:"
	roleHole  = "{role}"
	nameHole  = "{name}"
)

// Identities says which names in certificates give which identities. The zero value
// gives none.
type Identities struct{ rules []rule }

type rule struct {
	role    Role // Nobody: the name tells
	pattern string
	dns     bool
	match   *regexp.Regexp // with the groups role and name, where the pattern has them
}

// ParseIdentities reads rules: [ROLE=]PATTERN. A pattern is an absolute URI, or dns:
// and a DNS name, and is compared with the names of that kind in a certificate (its
// subject alternative names). In it {role} stands for a role, and {name} for a name
// without '/', or in a DNS name for one without '.'; the rest must be equal. A rule
// has either ROLE or {role}, and {name} unless its role is reader or operator: there
// the whole is the name.
//
// Names in DNS rules are compared, and given, in lower case.
func ParseIdentities(rules ...string) (Identities, error) {
	var ids Identities
	var faults []error
	for _, text := range rules {
		r, err := parseRule(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("%q: %w", text, err))
			continue
		}
		ids.rules = append(ids.rules, r)
	}
	return ids, errors.Join(faults...)
}

func parseRule(text string) (rule, error) {
	r := rule{pattern: text}
	for _, role := range Roles() {
		if rest, ok := strings.CutPrefix(text, role.String()+"="); ok {
			r.role, r.pattern = role, rest
		}
	}
	roles, names := strings.Count(r.pattern, roleHole), strings.Count(r.pattern, nameHole)
	switch {
	case roles > 1 || names > 1:
		return r, fmt.Errorf("%s and %s may stand in a rule once", roleHole, nameHole)
	case r.role == Nobody && roles == 0:
		return r, fmt.Errorf("whose is it? Begin with tracker=, proxy=, reader= or operator=, or have %s in it", roleHole)
	case r.role != Nobody && roles > 0:
		return r, fmt.Errorf("it has a role and %s: leave one out", roleHole)
	case names == 0 && r.role != Reader && r.role != Operator:
		return r, fmt.Errorf("trackers and proxies are known by name: have %s in it", nameHole)
	}
	body, one := r.pattern, `[^/?#%*]+`
	if rest, ok := strings.CutPrefix(r.pattern, dnsScheme); ok {
		r.dns, body, one = true, strings.ToLower(rest), `[^.*]+`
	} else if scheme, _, ok := strings.Cut(r.pattern, "://"); !ok || scheme == "" {
		return r, fmt.Errorf("give a URI such as %s, or %sNAME", DefaultRule, dnsScheme)
	}
	match := strings.NewReplacer(
		regexp.QuoteMeta(roleHole), `(?P<role>[a-z]+)`,
		regexp.QuoteMeta(nameHole), `(?P<name>`+one+`)`).Replace(regexp.QuoteMeta(body))
	var err error
	r.match, err = regexp.Compile("^" + match + "$")
	return r, err
}

// Of returns the identity that a certificate gives, which the caller has verified.
// The error is a *node.DeniedError where it gives none, or more than one.
func (ids Identities) Of(cert *x509.Certificate) (Identity, error) {
	names := make([]string, 0, len(cert.URIs)+len(cert.DNSNames))
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	for _, n := range cert.DNSNames {
		names = append(names, dnsScheme+strings.ToLower(n))
	}
	var found Identity
	for _, r := range ids.rules {
		for _, name := range names {
			i := r.of(name)
			switch {
			case i.Role == Nobody || i.Role == found.Role && i.Name == found.Name:
			case found.Role != Nobody:
				return Identity{}, &node.DeniedError{Field: "certificate", Value: shown(names),
					Problem: fmt.Sprintf("it is both %v and %v; get one for each", found, i)}
			default:
				found = i
			}
		}
	}
	if found.Role == Nobody {
		return found, &node.DeniedError{Field: "certificate", Value: shown(names),
			Problem: fmt.Sprintf("none of its names gives an identity here; get one with a name like %v", ids)}
	}
	return found, nil
}

// shown returns names for an error, which travels in a header.
func shown(names []string) string {
	const most = 512
	all := strings.Join(names, " ")
	if len(all) > most {
		all = all[:most] + "..."
	}
	return all
}

// of returns the identity that one name gives, or nobody's.
func (r *rule) of(name string) Identity {
	text, dns := strings.CutPrefix(name, dnsScheme)
	if dns != r.dns {
		return Identity{}
	}
	m := r.match.FindStringSubmatch(text)
	if m == nil {
		return Identity{}
	}
	i := Identity{Role: r.role, Name: text, From: name}
	if n := r.match.SubexpIndex("name"); n > 0 {
		i.Name = m[n]
	}
	if n := r.match.SubexpIndex("role"); n > 0 {
		for _, role := range Roles() {
			if role.String() == m[n] {
				i.Role = role
			}
		}
	}
	return i
}

// Wanted returns what the name in a certificate must be to give an identity, by the
// first rule that can, or "" where none does.
func (ids Identities) Wanted(role Role, name string) string {
	for _, r := range ids.rules {
		text := strings.NewReplacer(roleHole, role.String(), nameHole, name).Replace(r.pattern)
		if r.dns {
			text = strings.ToLower(text)
		}
		if i := r.of(text); i.Role == role && (i.Name == name || !strings.Contains(r.pattern, nameHole)) {
			return text
		}
	}
	return ""
}

// String returns the rules.
func (ids Identities) String() string {
	texts := make([]string, len(ids.rules))
	for i, r := range ids.rules {
		texts[i] = r.pattern
		if r.role != Nobody {
			texts[i] = r.role.String() + "=" + r.pattern
		}
	}
	return strings.Join(texts, ", ")
}
