package telemetry

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/trackerpool/trackerpool/internal/buildinfo"
	"github.com/trackerpool/trackerpool/internal/exposition"
	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

// Sources are what metrics are made of. Each is asked at each scrape, and returns
// false while there is none; a nil one is none.
type Sources struct {
	Tracker func() (*node.Tracker, bool)
	Server  func() (*rpc.Server, bool)
	Gossip  func() (*membership.Gossip, bool)
	Saves   func() (Saves, bool)
	Traces  func() (*Traces, bool)
}

// Saves is how snapshots fare.
type Saves struct {
	Errors uint64    // that could not be written, read or used
	At     time.Time // of the newest good one; zero: there is none
	Bytes  int64     // of the one written last; 0: none was
}

// Metrics are those of a tracker, its process and its runtime. They are safe for
// concurrent use, and an http.Handler that serves them.
type Metrics struct {
	http.Handler
	registry *prometheus.Registry
}

// New returns the metrics that are made of from.
func New(from Sources) *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newPoolMetrics(from),
		newServerMetrics(from),
	)
	return &Metrics{promhttp.HandlerFor(r, promhttp.HandlerOpts{Registry: r}), r}
}

// WriteText writes all of them as they are now, in the text format.
func (m *Metrics) WriteText(w io.Writer) error {
	families, err := m.registry.Gather()
	if err != nil {
		return err
	}
	e := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// poolMetrics are those of the tracker's place in the pool.
type poolMetrics struct {
	*exposition.Set
	from Sources

	build, members, view            exposition.Value
	seat, silence, seats, stalled   exposition.Value
	ready, atFault                  exposition.Value
	shards, share, filling, filled  exposition.Value
	health, alive, lost, mismatches exposition.Value
	keys, primary, gossipRefused    exposition.Value
}

func newPoolMetrics(from Sources) *poolMetrics {
	s := exposition.NewSet("tracker_")
	return &poolMetrics{
		Set: s, from: from,
		build:   s.Gauge("build_info", "1; the labels say what this tracker was built from.", "version", "revision", "goversion"),
		members: s.Gauge("members", "Members of the view, this tracker included."),
		view:    s.Gauge("view_fingerprint", "The low 32 bits of the view's fingerprint: equal at trackers with the same view."),
		seat:    s.Gauge("seat_granting", "1 if this tracker is a seat and grants; absent if it is none."),
		silence: s.Gauge("seat_silence_seconds", "How long until this seat grants."),
		seats:   s.Gauge("seats", "Seats (all); of these those whose word is in hand (granting); of these those whose word is by this tracker's view (agree).", "state"),
		stalled: s.Gauge("stalled_proxies", "Proxies that this seat marks: they do not confirm to some tracker, and do not count; absent if this is no seat."),
		ready:   s.Gauge("ready", "1 if /readyz says ready."),
		atFault: s.Gauge("at_fault", "1 while this tracker holds nothing because of a fault of its own.", "fault"),
		shards:  s.Gauge("shards", "Shards placed here (held); of these those of which this is the first holder (owned), those with a list in force, those open.", "state"),
		share:   s.Gauge("ring_share_ratio", "Shards placed here as a part of an even share: 1 is even; absent without a view."),
		filling: s.Counter("filling_seconds_total", "For how long some shard placed here was not open."),
		filled:  s.Counter("fillings_total", "Times that all shards placed here were open again."),
		health:  s.Gauge("gossip_health_score", "0 is well; it grows as this tracker's own probes go unanswered or come late."),
		alive:   s.Gauge("gossip_members", "Members that gossip shows, compatible or not."),
		lost:    s.Gauge("gossip_lost_members", "Members that went without leaving, and are being looked for."),
		mismatches: s.Counter("gossip_mismatches_total",
			"Times that a member was refused because it differs in what must be the same in a pool; the log says in what."),
		keys:          s.Gauge("gossip_keys", "Keys of the gossip in use here; 0: gossip is in the clear."),
		primary:       s.Gauge("gossip_primary_key", "1, with the fingerprint of the key that encrypts; absent without keys.", "fingerprint"),
		gossipRefused: s.Counter("gossip_refused_total", "Packets and streams of gossip that were refused.", "reason"),
	}
}

// Collect is prometheus.Collector's.
func (m *poolMetrics) Collect(ch chan<- prometheus.Metric) {
	b := buildinfo.Read()
	m.build(ch, 1, b.Version, b.Revision, b.Go)
	if g, ok := ask(m.from.Gossip); ok {
		m.collectGossip(ch, g)
	}
	t, ok := ask(m.from.Tracker)
	if !ok {
		return
	}
	status, stats := t.Status(), t.Stats()
	m.members(ch, float64(status.Members))
	m.view(ch, float64(uint32(status.View)))
	if status.Seat {
		m.seat(ch, exposition.Bool(status.Granting))
		m.silence(ch, status.Silence.Seconds())
		m.stalled(ch, float64(status.Stalled))
	}
	m.seats(ch, float64(status.Seats.All), "all")
	m.seats(ch, float64(status.Seats.Granting), "granting")
	m.seats(ch, float64(status.Seats.Agree), "agree")
	m.ready(ch, exposition.Bool(status.Ready))
	m.atFault(ch, exposition.Bool(status.CutOff), "cut_off")
	m.atFault(ch, exposition.Bool(status.Selfish), "proxies_do_not_confirm")
	m.shards(ch, float64(status.Shards.Held), "held")
	m.shards(ch, float64(status.Owned), "owned")
	m.shards(ch, float64(status.Shards.InForce), "in_force")
	m.shards(ch, float64(status.Shards.Open), "open")
	if status.Placed > 0 {
		m.share(ch, status.Share)
	}
	m.filling(ch, stats.Filling.Seconds())
	m.filled(ch, float64(stats.Filled))
}

func (m *poolMetrics) collectGossip(ch chan<- prometheus.Metric, g *membership.Gossip) {
	health, keys := g.Health(), g.Keys()
	m.health(ch, float64(health.Score))
	m.alive(ch, float64(health.Alive))
	m.lost(ch, float64(health.Lost))
	m.mismatches(ch, float64(health.Mismatches))
	m.keys(ch, float64(len(keys)))
	if len(keys) > 0 {
		m.primary(ch, 1, string(keys[0]))
	}
	each(ch, m.gossipRefused, g.Refused())
}

// serverMetrics are those of what proxies and readers do at the tracker.
type serverMetrics struct {
	*exposition.Set
	from Sources

	requests, open, denied, closed             exposition.Value
	took                                       exposition.Times
	claims, table, sessions, proxies, begun    exposition.Value
	changes, bytes, ended, swept               exposition.Value
	differs, audits, copiesDiffer              exposition.Value
	lookups, unknown, refused                  exposition.Value
	restored, saveErrors, savedAge, savedBytes exposition.Value
	spans                                      exposition.Value
}

func newServerMetrics(from Sources) *serverMetrics {
	s := exposition.NewSet("tracker_")
	return &serverMetrics{
		Set: s, from: from,
		requests: s.Counter("requests_total", "Calls and streams that ended.", "method", "class", "code"),
		open:     s.Gauge("requests_open", "Calls and streams that run.", "method", "class"),
		denied:   s.Counter("denied_total", "Calls refused because the caller's certificate does not allow them."),
		closed:   s.Counter("connections_closed_total", "Connections closed for lack of room (full), because their clients did not read (slow), or flooded, or held back the ends of messages (abusive).", "why"),
		took:     s.Histogram("request_duration_seconds", "How long calls take; of Find, a batch of lookups. Other streams have none.", "method", "class"),

		claims:   s.Gauge("claims", "Claims stored here, by how they were made.", "kind"),
		table:    s.Gauge("table_bytes", "Memory of the claims of sessions, which max_table_bytes bounds."),
		sessions: s.Gauge("sessions", "Sessions of proxies now."),
		proxies:  s.Gauge("proxies", "Proxies with claims or a session here."),
		begun:    s.Counter("sessions_total", "Sessions begun."),
		changes:  s.Counter("claim_changes_total", "Claims added and removed in sessions."),
		bytes:    s.Counter("claim_bytes_total", "Packed claims received in sessions: whole shards (replace) fill a tracker, and changes come one by one (batch).", "kind"),
		ended:    s.Counter("proxies_ended_total", "Lives of proxies of which no claim is answered any more, by reason.", "reason"),
		swept:    s.Counter("claims_evicted_total", "Claims of such lives that were dropped."),

		differs:      s.Counter("sum_mismatches_total", "Renewals whose sum was not that of what is stored here."),
		audits:       s.Counter("audit_failures_total", "Sessions whose sum was not that of their claims here: claims were lost or made here."),
		copiesDiffer: s.Counter("copy_mismatches_total", "Shards whose unary claims differed from those of another holder."),

		lookups: s.Counter("lookups_total", "Lookups answered from what is stored here.", "answer"),
		unknown: s.Counter("lookups_unknown_total", "Lookups of these that were answered UNKNOWN, by reason.", "reason"),
		refused: s.Counter("refused_total", "What was refused for lack of room, to come back later.", "what"),

		restored:   s.Gauge("restored_proxies", "Proxies that have claims of a snapshot, and did not come for them yet."),
		saveErrors: s.Counter("snapshot_errors_total", "Snapshots that could not be written, read or used; absent without data_dir, like the others."),
		savedAge:   s.Gauge("snapshot_age_seconds", "How old the newest good snapshot is; absent if there is none."),
		savedBytes: s.Gauge("snapshot_bytes", "Size of the snapshot written last; absent before the first."),

		spans: s.Counter("trace_spans_total", "Spans that the collector took (sent), and that were lost because it did not (failed); absent without trace_endpoint.", "outcome"),
	}
}

// Collect is prometheus.Collector's.
func (m *serverMetrics) Collect(ch chan<- prometheus.Metric) {
	if server, ok := ask(m.from.Server); ok {
		calls := server.Calls()
		for i := range calls {
			m.collectCalls(ch, &calls[i])
		}
		m.denied(ch, float64(server.Denied()))
		full, slow, abusive := server.Refused()
		m.closed(ch, float64(full), "full")
		m.closed(ch, float64(slow), "slow")
		m.closed(ch, float64(abusive), "abusive")
	}
	if traces, ok := ask(m.from.Traces); ok {
		sent, failed := traces.Spans()
		m.spans(ch, float64(sent), "sent")
		m.spans(ch, float64(failed), "failed")
	}
	t, ok := ask(m.from.Tracker)
	if !ok {
		return
	}
	status, stats := t.Status(), t.Stats()
	m.claims(ch, float64(status.Claims), "session")
	m.claims(ch, float64(status.UnaryClaims), "unary")
	m.table(ch, float64(t.TableBytes()))
	m.sessions(ch, float64(status.Sessions))
	m.proxies(ch, float64(status.Proxies))
	m.begun(ch, float64(stats.Sessions))
	m.changes(ch, float64(stats.Ops))
	m.bytes(ch, float64(stats.BatchBytes), "batch")
	m.bytes(ch, float64(stats.ReplaceBytes), "replace")
	each(ch, m.ended, stats.Ended)
	m.swept(ch, float64(stats.Swept))
	m.differs(ch, float64(stats.Differs))
	m.audits(ch, float64(stats.AuditFailures))
	m.copiesDiffer(ch, float64(stats.CopiesDiffer))
	for answer, n := range stats.Answers {
		m.lookups(ch, float64(n), strings.ToLower(answer.String()))
	}
	each(ch, m.unknown, stats.Unknown)
	each(ch, m.refused, stats.RefusedBy)
	if saves, ok := ask(m.from.Saves); ok {
		m.restored(ch, float64(status.Restored))
		m.saveErrors(ch, float64(saves.Errors))
		if !saves.At.IsZero() {
			m.savedAge(ch, time.Since(saves.At).Seconds())
		}
		if saves.Bytes > 0 {
			m.savedBytes(ch, float64(saves.Bytes))
		}
	}
}

func (m *serverMetrics) collectCalls(ch chan<- prometheus.Metric, c *rpc.Calls) {
	for code, n := range c.Ended {
		m.requests(ch, float64(n), c.Method, c.Class, code)
	}
	m.open(ch, float64(c.Open), c.Method, c.Class)
	if c.Timed {
		m.took(ch, &c.Took, c.Method, c.Class)
	}
}

func each(ch chan<- prometheus.Metric, value exposition.Value, counts map[string]uint64) {
	for name, n := range counts {
		value(ch, float64(n), name)
	}
}

// ask asks a source that may not be there.
func ask[T any](source func() (T, bool)) (T, bool) {
	if source == nil {
		return *new(T), false
	}
	return source()
}
