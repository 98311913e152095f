package node

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// A seat can be spared while most seats grant without it and without those that leave.
func TestDepart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _, _ := settled(t, 2, "t-0", "t-1", "t-2")
		c.start("t-3")
		c.show("t-0", "t-1", "t-2", "t-3")
		time.Sleep(time.Second)
		check := func(what string, id ring.MemberID, want error) {
			t.Helper()
			err := c.at(id).Depart(t.Context(), false)
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s: %s departs: %v, want %v", what, id, err, want)
			}
			if err == nil {
				c.at(id).departing.Add(-1) // it has changed its mind
			}
		}
		check("all are there", "t-0", nil)
		check("all are there", "t-3", nil)
		c.showMembers(c.member("t-0", ring.Serving), c.member("t-1", ring.Leaving), c.member("t-2", ring.Serving), c.member("t-3", ring.Serving))
		time.Sleep(time.Second)
		check("t-1 leaves", "t-0", ErrLastMajority)
		check("t-1 leaves", "t-3", nil)
		c.crash("t-1")
		time.Sleep(3 * poolTerm)
		check("t-1 is gone", "t-2", ErrLastMajority)
		c.showMembers(c.member("t-3", ring.Serving))
		time.Sleep(time.Second)
		check("alone", "t-3", ErrLastTracker)
	})
}

// What gossip has not told yet is asked: of seats that depart one after the other, or at
// the same moment, most stay.
func TestDepartTogether(t *testing.T) {
	seats := []ring.MemberID{"t-0", "t-1", "t-2"}
	for name, depart := range map[string]func(t *testing.T, c *cluster) []error{
		"one after the other": func(t *testing.T, c *cluster) []error {
			return []error{c.at("t-1").Depart(t.Context(), false), c.at("t-0").Depart(t.Context(), false), c.at("t-2").Depart(t.Context(), false)}
		},
		"the first by SIGTERM": func(t *testing.T, c *cluster) []error {
			return []error{c.at("t-1").Depart(t.Context(), true), c.at("t-0").Depart(t.Context(), false), c.at("t-2").Depart(t.Context(), false)}
		},
		"at the same moment": func(t *testing.T, c *cluster) []error {
			errs := make([]error, len(seats))
			var wg sync.WaitGroup
			for i, id := range seats {
				wg.Go(func() { errs[i] = c.at(id).Depart(t.Context(), false) })
			}
			wg.Wait()
			return errs
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, _, _ := settled(t, 2, seats...)
				errs := depart(t, c)
				left := 0
				for i, err := range errs {
					switch {
					case err == nil:
						left++
					case !errors.Is(err, ErrLastMajority) && !errors.Is(err, ErrLastTracker) || !strings.Contains(err.Error(), " leaves too"):
						t.Errorf("departure %d: %v", i, err)
					}
				}
				if left > 1 || left == 0 && name != "at the same moment" {
					t.Errorf("%d of three seats leave: %v", left, errs)
				}
				for _, id := range seats { // who was refused can be counted on again
					s, err := c.at(id).Stay(t.Context())
					if err != nil || !s.Grants {
						t.Errorf("%s: %+v, %v", id, s, err)
					}
					if s.Leaving {
						left--
					}
				}
				if left != 0 {
					t.Errorf("%d more leave than say so", left)
				}
			})
		})
	}
}

// The last two trackers that hold shards do not leave together either, though neither
// is a seat that both need.
func TestLastTrackersDepartTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _, _ := settled(t, 2, "t-0", "t-1", "t-2")
		c.start("t-3")
		c.start("t-4")
		c.showMembers(c.member("t-0", ring.Leaving), c.member("t-1", ring.Leaving), c.member("t-2", ring.Leaving), c.member("t-3", ring.Serving), c.member("t-4", ring.Serving))
		time.Sleep(time.Second)
		if err := c.at("t-3").Depart(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if err := c.at("t-4").Depart(t.Context(), false); !errors.Is(err, ErrLastTracker) {
			t.Errorf("the second of the last two: %v, want ErrLastTracker", err)
		}
	})
}

// A seat is counted on by what it says now: the word that is in hand may be one of a
// former life.
func TestSparedByWhoGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _, _ := settled(t, 2, "t-0", "t-1", "t-2")
		for name, test := range map[string]struct {
			said map[ring.MemberID]Staying
			want error
		}{
			"all stay":           {map[ring.MemberID]Staying{"t-1": {Grants: true}, "t-2": {Grants: true}}, nil},
			"one grants nothing": {map[ring.MemberID]Staying{"t-1": {}, "t-2": {Grants: true}}, ErrLastMajority},
			"one leaves":         {map[ring.MemberID]Staying{"t-1": {Grants: true, Leaving: true}, "t-2": {Grants: true}}, ErrLastMajority},
			"one says nothing":   {map[ring.MemberID]Staying{"t-2": {Grants: true}}, ErrLastMajority},
			"nobody answers":     {map[ring.MemberID]Staying{}, ErrLastTracker},
		} {
			if err := c.at("t-0").spared(test.said); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("%s: %v, want %v", name, err, test.want)
			}
		}
	})
}
