package poolmetrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trackerpool/trackerpool/internal/exposition"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/timing"
)

// Metrics counts what one client does, and is a collector of it. Give it to the client
// as Config.Metrics, and register it; where a process has several clients, with a label
// for each (prometheus.WrapRegistererWith). It is safe for concurrent use.
type Metrics struct {
	*exposition.Set
	counts map[string]*counter // by pool's names; not modified
	times  map[string]*times
	stats  atomic.Pointer[func() pool.Stats]

	trackers, sessions, claims, tableBytes, queued, unacked, processes exposition.Value
}

type counter struct {
	value exposition.Value
	n     atomic.Uint64
}

type times struct {
	value exposition.Times
	took  timing.Histogram
}

var (
	_ pool.Metrics         = (*Metrics)(nil)
	_ prometheus.Collector = (*Metrics)(nil)
)

// New returns metrics of a client that has done nothing.
func New() *Metrics {
	s := exposition.NewSet("")
	m := &Metrics{
		Set: s, counts: map[string]*counter{}, times: map[string]*times{},
		trackers:   s.Gauge("pool_trackers", "Trackers to which there are connections."),
		sessions:   s.Gauge(pool.MetricSessions, "Sessions that are welcomed."),
		claims:     s.Gauge(pool.MetricClaims, "Own claims."),
		tableBytes: s.Gauge("pool_claims_bytes", "Memory of own claims."),
		queued:     s.Gauge("pool_queued", "Changes and snapshots that wait to be sent, in all sessions."),
		unacked:    s.Gauge("pool_unacknowledged_claims", "Claims sent and not acknowledged."),
		processes:  s.Gauge("pool_lives", "Lives of trackers that may answer with claims of this client."),
	}
	for name, help := range map[string]string{
		pool.MetricSessionEnds: "Sessions that ended.",
		pool.MetricViews:       "Views taken.",
		pool.MetricDiffers:     "Renewals whose sum was wrong.",
		pool.MetricNotCounted:  "Calls of Add that ended before the claims counted.",
		pool.MetricNotRemoved:  "Calls of Remove that ended before the removal was sure.",
		pool.MetricHedges:      "Second holders asked because the first was slow.",
		pool.MetricReasks:      "Lookups that met another list than their own.",
		pool.MetricUnknown:     "Lookups that ended UNKNOWN.",
		pool.MetricQueueLimit:  "Writes that waited for room in a queue.",
		pool.MetricCreditWaits: "Times that a session had claims to send, and no credits.",
		pool.MetricOutliers:    "Times that a tracker failed so often that others are asked first.",
	} {
		m.counts[name] = &counter{value: s.Counter(name+"_total", help)}
	}
	for name, help := range map[string]string{
		pool.MetricAdd:    "How long calls of Add take: until the claims count, or the wait for it ends.",
		pool.MetricRemove: "How long calls of Remove take: until the removal is sure, or the wait for it ends.",
		pool.MetricLookup: "How long lookups take that are not in the cache; of one in 16.",
	} {
		m.times[name] = &times{value: s.Histogram(name+"_duration_seconds", help)}
	}
	return m
}

// Count is pool.Metrics'. Names that are not known, of a later release, are ignored.
func (m *Metrics) Count(name string, n int) {
	if c := m.counts[name]; c != nil && n > 0 {
		c.n.Add(uint64(n))
	}
}

// Gauge is pool.Metrics'. What it says is in the client's Stats too, of the moment.
func (m *Metrics) Gauge(string, float64) {}

// Took is pool.Metrics'.
func (m *Metrics) Took(name string, d time.Duration) {
	if t := m.times[name]; t != nil {
		t.took.Observe(d)
	}
}

// Of has the client's figures collected too: give it c.Stats once the client is open.
// Until then they are absent.
func (m *Metrics) Of(stats func() pool.Stats) { m.stats.Store(&stats) }

// Collect is prometheus.Collector's.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.counts {
		c.value(ch, float64(c.n.Load()))
	}
	for _, t := range m.times {
		took := t.took.Snapshot()
		t.value(ch, &took)
	}
	stats := m.stats.Load()
	if stats == nil {
		return
	}
	st := (*stats)()
	m.trackers(ch, float64(st.Trackers))
	m.sessions(ch, float64(st.Sessions))
	m.claims(ch, float64(st.Claims))
	m.tableBytes(ch, float64(st.TableBytes))
	m.queued(ch, float64(st.Queued))
	m.unacked(ch, float64(st.Unacked))
	m.processes(ch, float64(st.Processes))
}
