package monitoring_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

const (
	step  = 30 * time.Second
	fault = 10 * time.Minute // when it begins
)

// A story is the value of each series at each step. The series have no namespace; those
// that do not name a tracker are of all of them.
type story map[string]func(i int) float64

func always(v float64) func(int) float64 { return func(int) float64 { return v } }

// grows is a counter.
func grows(by float64) func(int) float64 { return func(i int) float64 { return by * float64(i) } }

// turns is good, and from the fault on bad.
func turns(good, bad float64) func(int) float64 {
	return func(i int) float64 {
		if i < int(fault/step) {
			return good
		}
		return bad
	}
}

// begins is a counter that grows from the fault on.
func begins(by float64) func(int) float64 {
	return func(i int) float64 { return by * float64(max(0, i+1-int(fault/step))) }
}

// healthy is a pool of three trackers that has everything.
func healthy() story {
	return story{
		`up`: always(1), `tracker_ready`: always(1), `tracker_at_fault{fault="cut_off"}`: always(0),
		`tracker_seats{state="all"}`: always(3), `tracker_seats{state="granting"}`: always(3), `tracker_view_fingerprint`: always(4711),
		`tracker_shards{state="held"}`: always(2731), `tracker_shards{state="open"}`: always(2731), `tracker_ring_share_ratio`: always(1.1),
		`tracker_lookups_total{answer="found"}`: grows(30000), `tracker_lookups_unknown_total{reason="not_open"}`: always(0),
		`tracker_lookups_unknown_total{reason="not_held"}`:                              grows(10000), // one hop, and no fault
		`tracker_request_duration_seconds_bucket{method="Find",le="0.0009765625"}`:      grows(1000),
		`tracker_request_duration_seconds_bucket{method="Find",le="0.03125"}`:           grows(1000),
		`tracker_request_duration_seconds_bucket{method="Find",le="+Inf"}`:              grows(1000),
		`tracker_requests_total{method="AddNode",class="claim",code="OK"}`:              grows(100),
		`tracker_requests_total{method="AddNode",class="claim",code="InvalidArgument"}`: grows(100), // the caller's fault
		`tracker_requests_total{method="AddNode",class="claim",code="Internal"}`:        always(0),
		`tracker_refused_total{what="session"}`:                                         always(7), `tracker_stalled_proxies`: always(0), `tracker_sum_mismatches_total`: always(3),
		`tracker_audit_failures_total`: always(0), `tracker_gossip_lost_members`: always(0), `tracker_gossip_health_score`: always(0),
		`tracker_gossip_mismatches_total`: always(2), `tracker_gossip_refused_total{reason="key"}`: always(4), `tracker_denied_total`: always(1), `tracker_snapshot_errors_total`: always(0), `tracker_snapshot_age_seconds`: always(60),
		`tracker_build_info{version="v1",revision="a"}`: always(1),
	}
}

// series writes a story as promqltest reads it. A key of one tracker takes the place
// of the same series of all.
func (s story) series(steps int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "load %v\n", step)
	for key, value := range s {
		name, inner, _ := strings.Cut(strings.TrimSuffix(key, "}"), "{")
		trackers := []string{"t-0", "t-1", "t-2"}
		if inner != "" {
			inner = "," + inner
		}
		if rest, one := strings.CutSuffix(inner, `,instance="t-1"`); one {
			trackers, inner = trackers[1:2], rest
		} else if s[with(key, `instance="t-1"`)] != nil {
			trackers = []string{"t-0", "t-2"}
		}
		for _, id := range trackers {
			fmt.Fprintf(&b, "  %s{job=\"tracker\",instance=%q%s}", name, id, inner)
			for i := range steps {
				fmt.Fprintf(&b, " %g", value(i))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// with is a key with one more label.
func with(key, label string) string {
	if inner, ok := strings.CutSuffix(key, "}"); ok {
		return inner + "," + label + "}"
	}
	return key + "{" + label + "}"
}

// firing evaluates the rules at each step, and returns when each alert first fired.
func firing(t *testing.T, s story, until time.Duration) map[string]time.Duration {
	t.Helper()
	ll, err := promqltest.NewLazyLoader(s.series(int(until/step)+1), promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ll.Close()
	m := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(ll.QueryEngine(), ll.Storage()), Appendable: ll.Storage(), Queryable: ll.Storage(),
		Context: context.Background(), NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, Logger: promslog.NewNopLogger(),
		Parser: parser.NewParser(parser.Options{}),
	})
	groups, errs := m.LoadGroups(step, labels.EmptyLabels(), "", nil, false, "rules.yaml")
	if len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	fired := map[string]time.Duration{}
	for at := time.Duration(0); at <= until; at += step {
		ts := time.Unix(0, 0).Add(at).UTC()
		ll.WithSamplesTill(ts, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		})
		for _, name := range slices.Sorted(maps.Keys(groups)) { // recorded come after alerts: these see them a step late
			g := groups[name]
			g.Eval(ll.Context(), ts)
			for _, r := range g.Rules() {
				if r.LastError() != nil {
					t.Fatalf("%s: %v", r.Name(), r.LastError())
				}
				alert, ok := r.(*rules.AlertingRule)
				if !ok {
					continue
				}
				for _, a := range alert.ActiveAlerts() {
					if _, before := fired[r.Name()]; a.State == rules.StateFiring && !before {
						fired[r.Name()] = at
					}
				}
			}
		}
	}
	return fired
}

func TestHealthyPoolIsQuiet(t *testing.T) {
	if fired := firing(t, healthy(), 90*time.Minute); len(fired) > 0 {
		t.Errorf("alerts of a healthy pool: %v", fired)
	}
}

// TestAlerts has one thing go wrong at a time, and expects its alert, when it is due,
// and no other one.
func TestAlerts(t *testing.T) {
	const one = `instance="t-1"`
	tested := map[string]bool{}
	for _, c := range []struct {
		alert string
		after time.Duration // the fault
		story story
	}{
		{alert: "TrackerDown", after: time.Minute, story: story{with(`up`, one): turns(1, 0)}},
		{alert: "TrackerNotReady", after: 5 * time.Minute, story: story{with(`tracker_ready`, one): turns(1, 0)}},
		{alert: "TrackerAtFault", after: time.Minute, story: story{with(`tracker_at_fault{fault="cut_off"}`, one): turns(0, 1)}},
		{alert: "TrackerSeatsLost", after: time.Minute, story: story{with(`tracker_seats{state="granting"}`, one): turns(3, 1)}},
		{alert: "TrackerViewsDisagree", after: 2 * time.Minute, story: story{with(`tracker_view_fingerprint`, one): turns(4711, 12)}},
		{alert: "TrackerShardsNotOpen", after: 2 * time.Minute, story: story{with(`tracker_shards{state="open"}`, one): turns(2731, 2730)}},
		{alert: "TrackerLookupsUnknown", after: 5*time.Minute + step, story: story{`tracker_lookups_unknown_total{reason="not_open"}`: begins(5000)}},
		{alert: "TrackerLookupsSlow", after: 10*time.Minute + step, story: story{ // of 1,000 batches as many as 50 take up to 31 ms
			`tracker_request_duration_seconds_bucket{method="Find",le="0.0009765625"}`: func(i int) float64 { return grows(1000)(i) - begins(200)(i) }}},
		{alert: "TrackerCallsFail", after: 10 * time.Minute, story: story{`tracker_requests_total{method="AddNode",class="claim",code="Internal"}`: begins(1)}},
		{alert: "TrackerRefusing", after: 15 * time.Minute, story: story{`tracker_refused_total{what="session"}`: begins(100)}},
		{alert: "TrackerProxiesStalled", after: 5 * time.Minute, story: story{with(`tracker_stalled_proxies`, one): turns(0, 2)}},
		{alert: "TrackerSumsDiffer", after: 30 * time.Minute, story: story{with(`tracker_sum_mismatches_total`, one): begins(1)}},
		{alert: "TrackerAuditFailed", story: story{with(`tracker_audit_failures_total`, one): turns(0, 1)}},
		{alert: "TrackerRingUneven", after: 30 * time.Minute, story: story{with(`tracker_ring_share_ratio`, one): turns(1.1, 1.7)}},
		{alert: "TrackerMemberLost", after: 15 * time.Minute, story: story{`tracker_gossip_lost_members`: turns(0, 1)}},
		{alert: "TrackerGossipUnwell", after: 10 * time.Minute, story: story{with(`tracker_gossip_health_score`, one): turns(0, 5)}},
		{alert: "TrackerMembersRefused", story: story{with(`tracker_gossip_mismatches_total`, one): turns(2, 3)}},
		{alert: "TrackerGossipRefused", after: 15 * time.Minute, story: story{with(`tracker_gossip_refused_total{reason="key"}`, one): begins(1)}},
		{alert: "TrackerDenied", after: 15 * time.Minute, story: story{with(`tracker_denied_total`, one): begins(1)}},
		{alert: "TrackerSnapshotFails", after: 10 * time.Minute, story: story{with(`tracker_snapshot_errors_total`, one): begins(1)}},
		{alert: "TrackerSnapshotFails", after: 10 * time.Minute, story: story{with(`tracker_snapshot_age_seconds`, one): turns(60, 5000)}},
		{alert: "TrackerVersionsMixed", after: time.Hour, story: story{with(`tracker_build_info{version="v2",revision="b"}`, one): turns(0, 1)}},
	} {
		t.Run(c.alert, func(t *testing.T) {
			tested[c.alert] = true
			s := healthy()
			maps.Copy(s, c.story)
			if c.alert == "TrackerVersionsMixed" { // it is there or not, whatever its value
				s = healthy()
				s[with(`tracker_build_info{version="v2",revision="b"}`, one)] = always(1)
				c.after -= fault
			}
			due := fault + c.after
			fired := firing(t, s, due+2*step)
			if diff := cmp.Diff(map[string]time.Duration{c.alert: due}, fired); diff != "" {
				t.Errorf("alerts and when they fired (-want +got):\n%s", diff)
			}
		})
	}
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			if r.Alert != "" && !tested[r.Alert] {
				t.Errorf("%s is not tested", r.Alert)
			}
		}
	}
}

// TestShortFaults: what passes before its time is no alert.
func TestShortFaults(t *testing.T) {
	passes := func(good, bad float64) func(int) float64 {
		return func(i int) float64 {
			if at := time.Duration(i) * step; at >= fault && at < fault+time.Minute {
				return bad
			}
			return good
		}
	}
	s := healthy()
	s[`up`], s[`tracker_ready`], s[`tracker_at_fault{fault="cut_off"}`] = passes(1, 0), passes(1, 0), passes(0, 1)
	s[`tracker_seats{state="granting"}`], s[`tracker_shards{state="open"}`] = passes(3, 1), passes(2731, 0)
	s[with(`tracker_view_fingerprint`, `instance="t-1"`)], s[`tracker_stalled_proxies`] = passes(4711, 1), passes(0, 1)
	s[`tracker_gossip_lost_members`], s[`tracker_gossip_health_score`] = passes(0, 1), passes(0, 8)
	if fired := firing(t, s, 2*fault); len(fired) > 0 {
		t.Errorf("alerts of a fault of a minute: %v", fired)
	}
}
