package membership

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/trackerpool/trackerpool/ring"
)

// A MismatchError says that a tracker and a member of the pool it tried to
// join were given different parameters, and refuse each other. Give the tracker
// the pool's, or change them as the operator's guide says, by two rolling
// restarts. Another pool name, or another key, is never reported so: who has
// another one understands nothing, and looks as if it were not there.
type MismatchError struct {
	Field        string // shards, term, replicas, seats, or metadata where theirs cannot be read
	Ours, Theirs string
	Member       ring.MemberID
}

// Error names the field, both values and the member.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s differ from those of member %q: ours %s, theirs %s", e.Field, e.Member, e.Ours, e.Theirs)
}

// mismatch returns the first difference for which two members cannot be in one
// pool, or nil.
func (m meta) mismatch(o meta) *MismatchError {
	differ := func(field, ours, theirs string) *MismatchError {
		return &MismatchError{Field: field, Ours: ours, Theirs: theirs, Member: o.ID}
	}
	switch {
	case m.shards != o.shards:
		return differ("shards", strconv.Itoa(m.shards), strconv.Itoa(o.shards))
	case m.term != o.term:
		return differ("term", m.term.String(), o.term.String())
	case m.Replicas&o.Replicas == 0:
		return differ("replicas", m.Replicas.String(), o.Replicas.String())
	case m.seats.Known() && o.seats.Known() && !slices.ContainsFunc(m.seats.Sums, func(sum uint64) bool {
		return slices.Contains(o.seats.Sums, sum)
	}):
		return differ("seats", m.seats.String(), o.seats.String())
	}
	return nil
}

// maxRefusals is how many different refusals are remembered, so as to log each
// once.
const maxRefusals = 128

// refusals are the members that were refused, by the text of the error.
type refusals struct {
	seen   map[string]*MismatchError
	unsaid []*MismatchError // not logged yet
	count  uint64           // one member may be refused many times
}

func (r *refusals) note(e *MismatchError) {
	r.count++
	text := e.Error()
	if _, ok := r.seen[text]; ok {
		return
	}
	if r.seen == nil || len(r.seen) >= maxRefusals {
		r.seen, r.unsaid = make(map[string]*MismatchError), nil
	}
	r.seen[text] = e
	r.unsaid = append(r.unsaid, e)
}

// in returns the refusal that an error of memberlist's Join quotes. (It does not
// wrap what NotifyMerge returned, and NotifyMerge is not told which side began.)
func (r *refusals) in(err error) *MismatchError {
	for text, e := range r.seen {
		if strings.Contains(err.Error(), text) {
			return e
		}
	}
	return nil
}
