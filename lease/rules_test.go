package lease

import (
	"runtime/debug"
	"strings"
	"testing"
)

// Each part of a rule is taken out of the simulation's shell in turn. A violation
// must then be found, and none in the same schedules with the rule in: so each part
// is needed, and the simulation can see what it is for.
func TestRulesAreNeeded(t *testing.T) {
	tests := []struct {
		rule, without string
		change        func(*simConfig)
		want          string // part of some violation
	}{
		{"1: ABSENT needs every holder", "every", deadLink, "is ABSENT"},
		{"2: a grant is exclusive", "exclusive", nil, "two lists"},
		{"2: an acknowledgement frees from earlier words alone", "old acks", flappy, "two lists"},
		{"3: a term runs from the nonce", "nonce", nil, ""},
		{"4: more than half of the seats", "majority", nil, "two lists"},
		{"5: a seat that starts grants nothing", "amnesia", oneSeat, ""},
		{"6: a count needs a list in force", "count any", nil, "is ABSENT"},
		{"6: a count needs seats that know the proxy", "known", island, "counted since"},
		{"7: a confirm is of what was sent", "confirm", single, "counted since"},
		{"7: the other trackers confirm too", "copies", single, "in custody"},
		{"7: a former holder is released late", "early release", single, "counted since"},
		{"8: nothing uncovered is answered", "covered", nil, "is FOUND"},
		{"9: a newer session fences the older", "fence", breaks, ""},
	}
	const seeds = 1500
	if raceEnabled || testing.Short() {
		t.Skip("takes minutes")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	places := newPlaces()
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.without, " ", "_"), func(t *testing.T) {
			schedule := func(seed int64, without string) *sim {
				c := simConfigOf(seed)
				c.Trackers, c.Seats, c.Late, c.Shards, c.Faulty = 5, 3, 1, 16, 12
				if tt.change != nil {
					tt.change(&c)
				}
				c.Without = without
				return newSim(c, places, nil)
			}
			for seed, s := range runAll(0, seeds, func(seed int64) *sim { return schedule(seed, tt.without) }) {
				if s.bad == "" || !strings.Contains(s.bad, tt.want) {
					continue
				}
				t.Logf("rule %s: without it seed %d: %s", tt.rule, seed, s.bad)
				from := max(0, seed-15)
				for seed, s := range runAll(from, int(seed-from)+1, func(seed int64) *sim { return schedule(seed, "") }) {
					if s.bad != "" {
						t.Errorf("rule %s: with it seed %d: %s", tt.rule, seed, s.bad)
					}
				}
				return
			}
			t.Errorf("rule %s: taken out, but %d schedules find nothing", tt.rule, seeds)
		})
	}
}

func deadLink(c *simConfig) { c.DeadLink, c.Replicas, c.Faults = true, 2, 2 }

func flappy(c *simConfig) { c.Flap, c.Replicas = .5, 1 }

func breaks(c *simConfig) { c.Breaks, c.Slow, c.Faults = .5, .3, 3 }

func island(c *simConfig) { c.Seats, c.Replicas, c.Faults, c.Island = 1, 1, .8, .5 }

func oneSeat(c *simConfig) { c.Seats, c.Replicas, c.Faults = 1, 1, 2 }

func single(c *simConfig) { c.Replicas, c.Unary, c.Flap, c.Slow, c.Faults = 1, 1, .4, .7, 1.5 }
