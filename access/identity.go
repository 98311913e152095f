package access

import "strconv"

// A Role is what kind of process speaks.
type Role uint8

// The roles. The zero Role is nobody's.
const (
	Nobody Role = iota
	Tracker
	Proxy
	Reader
	Operator
)

// Roles returns all roles that an identity may have.
func Roles() []Role { return []Role{Tracker, Proxy, Reader, Operator} }

// String returns the role's name, in rules, logs and metrics alike.
func (r Role) String() string {
	switch r {
	case Nobody:
		return "nobody"
	case Tracker:
		return "tracker"
	case Proxy:
		return "proxy"
	case Reader:
		return "reader"
	case Operator:
		return "operator"
	}
	return "role " + strconv.Itoa(int(r))
}

// An Identity is who speaks, as a certificate proves it. The zero Identity is
// nobody's and may do nothing.
type Identity struct {
	Role Role
	Name string // of a tracker its member ID, of a proxy its proxy ID
	From string // the name in the certificate that gives it
}

// String returns role and name, for people.
func (i Identity) String() string {
	if i.Role == Nobody {
		return "nobody"
	}
	return i.Role.String() + " " + strconv.Quote(i.Name)
}
