package pool

import "time"

// Metrics is told what a Client does. Its methods must not wait. They may be
// called at the same time.
type Metrics interface {
	// Count adds n to a counter.
	Count(name string, n int)
	// Gauge sets a value that goes up and down.
	Gauge(name string, value float64)
	// Took observes how long something took.
	Took(name string, d time.Duration)
}

// The names that a Client tells its Metrics. Package poolmetrics makes metrics of
// Prometheus of them.
const (
	MetricSessions    = "pool_sessions"          // gauge: sessions that are welcomed
	MetricClaims      = "pool_claims"            // gauge: own claims
	MetricSessionEnds = "pool_session_ends"      // counter
	MetricViews       = "pool_views_taken"       // counter
	MetricDiffers     = "pool_differs"           // counter: Renews whose sum was wrong
	MetricNotCounted  = "pool_add_not_counted"   // counter: calls of Add that ended so
	MetricNotRemoved  = "pool_remove_not_sure"   // counter: calls of Remove that ended so
	MetricHedges      = "pool_hedges"            // counter: second holders asked for slowness of the first
	MetricReasks      = "pool_reasks"            // counter: lookups that met another list than their own
	MetricUnknown     = "pool_lookups_unknown"   // counter
	MetricQueueLimit  = "pool_queue_limit_waits" // counter: writes that waited for room in a queue
	MetricCreditWaits = "pool_credit_waits"      // counter: times that a session had claims to send, and no credits for them
	MetricOutliers    = "pool_outliers"          // counter: times that a tracker failed so often that others are asked first
	MetricAdd         = "pool_add"               // time of a call of Add, of its last MaxChunk claims: until they count, mostly
	MetricRemove      = "pool_remove"            // time of a call of Remove, likewise: until it is sure, mostly
	MetricLookup      = "pool_lookup"            // time of a call of Lookup that was not in the cache; of one in lookupSample, by chance
)

// lookupSample is how many lookups there are for each that is timed: to read the clock
// twice costs a fraction of what a lookup in a batch does.
const lookupSample = 16

type noMetrics struct{}

func (noMetrics) Count(string, int)     {}
func (noMetrics) Gauge(string, float64) {}

func (noMetrics) Took(string, time.Duration) {}
