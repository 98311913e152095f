package access

import (
	"cmp"
	"fmt"

	"github.com/trackerpool/trackerpool/node"
)

// An Action is what a caller wants to do.
type Action uint8

// The actions. Their subject is whom they are done as, or to.
const (
	// Look is a lookup, a watch, a view, or a question for health: anybody's who has
	// an identity. It has no subject.
	Look Action = iota + 1
	// Claim makes claims and keeps a session as a proxy, the subject.
	Claim
	// Remove ends claims or lives of a proxy, the subject; an empty one is all
	// proxies.
	Remove
	// Peer speaks as a tracker, the subject.
	Peer
	// Operate sees and changes what only operators do. It has no subject.
	Operate
)

// roles returns who may do it at all, and for error messages what it is.
func (a Action) roles() (roles []Role, what string) {
	switch a {
	case Look:
		return Roles(), "look nodes up"
	case Claim:
		return []Role{Proxy}, "claim nodes"
	case Remove:
		return []Role{Proxy, Operator}, "remove claims"
	case Peer:
		return []Role{Tracker}, "speak as a tracker"
	case Operate:
		return []Role{Operator}, "operate a tracker"
	}
	return nil, fmt.Sprintf("do action %d, which nobody may", a)
}

// CheckRole returns a *node.DeniedError unless some subject exists for which i may
// do it.
func (i Identity) CheckRole(a Action) error {
	roles, what := a.roles()
	for _, r := range roles {
		if i.Role == r {
			return nil
		}
	}
	remedy := "nobody may do that"
	if len(roles) > 0 {
		remedy = fmt.Sprintf("connect with the certificate of a role that may, %v", roles)
	}
	return &node.DeniedError{Field: "certificate", Value: i.From, Problem: fmt.Sprintf("%v may not %s; %s", i, what, remedy)}
}

// Check returns a *node.DeniedError unless i may do it as, or to, the subject.
func (i Identity) Check(a Action, subject string) error {
	if err := i.CheckRole(a); err != nil {
		return err
	}
	field := "proxy_id"
	switch {
	case a == Look, a == Operate, i.Role == Operator, i.Name == subject:
		return nil
	case a == Peer:
		field = "from"
	}
	_, what := a.roles()
	return &node.DeniedError{Field: field, Value: subject, Problem: fmt.Sprintf("%v may %s only as itself; give that name, or connect with the certificate of %s", i, what,
		cmp.Or(subject, "an operator"))}
}
