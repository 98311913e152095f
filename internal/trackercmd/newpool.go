package trackercmd

import (
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// randomBootBits are the low bits of a boot; the others are Unix milliseconds.
const randomBootBits = 20

// started returns when a member started, by its own clock.
func started(m ring.Member) time.Time { return time.UnixMilli(int64(m.Boot >> randomBootBits)) }

// notNew returns why there was a pool before, so that a seat must not grant at
// once, or nothing if there is no sign of it.
func notNew(now time.Time, term time.Duration, v ring.View, self ring.MemberID, knownBoot uint64, learns bool) string {
	if learns {
		return "the seats were learnt from a pool that is there; give seats to begin one"
	}
	if knownBoot != 0 {
		return fmt.Sprintf("the pool knows an earlier life of %q, which may have given its word", self)
	}
	for _, m := range v.Members() {
		if age := now.Sub(started(m)); m.ID != self && age > term {
			return fmt.Sprintf("tracker %q has run for %v, longer than a term of %v", m.ID, age.Round(time.Second), term)
		}
	}
	return ""
}
