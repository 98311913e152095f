package exposition_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/trackerpool/trackerpool/internal/exposition"
	"github.com/trackerpool/trackerpool/timing"
)

// A collector has one metric of each kind.
type collector struct {
	*exposition.Set
	gauge, counter exposition.Value
	times          exposition.Times
	took           timing.Histogram
}

func newCollector() *collector {
	s := exposition.NewSet("test_")
	return &collector{Set: s, gauge: s.Gauge("depth", "How deep."), counter: s.Counter("dives_total", "Dives.", "kind"), times: s.Histogram("dive_seconds", "How long.", "kind")}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.gauge(ch, 3)
	c.counter(ch, 2, "free")
	took := c.took.Snapshot()
	c.times(ch, &took, "free")
}

func TestText(t *testing.T) {
	c := newCollector()
	c.took.Observe(time.Second)
	const want = `# HELP test_depth How deep.
# TYPE test_depth gauge
test_depth 3
# HELP test_dives_total Dives.
# TYPE test_dives_total counter
test_dives_total{kind="free"} 2
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "test_depth", "test_dives_total"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// TestLikeTheirs compares with a native histogram of the client library that saw the
// same durations.
func TestLikeTheirs(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	c := newCollector()
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "theirs", NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: 1e-12})
	for range 2000 {
		d := time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		if r.IntN(10) == 0 {
			d *= 1000 // a second hill, and gaps
		}
		d = max(d, time.Microsecond)
		c.took.Observe(d)
		theirs.Observe(d.Seconds())
	}
	ours, want := gathered(t, c), gathered(t, theirs)
	if diff := cmp.Diff(buckets(want), buckets(ours)); diff != "" {
		t.Errorf("seed %d: native buckets (-want +got):\n%s", seed, diff)
	}
	if ours.GetSchema() != want.GetSchema() || ours.GetSampleCount() != want.GetSampleCount() || math.Abs(ours.GetSampleSum()-want.GetSampleSum()) > 1e-6 {
		t.Errorf("seed %d: schema %d, %d samples of %v; want %d, %d of %v", seed, ours.GetSchema(), ours.GetSampleCount(), ours.GetSampleSum(), want.GetSchema(), want.GetSampleCount(), want.GetSampleSum())
	}
	last := ours.Bucket[len(ours.Bucket)-1]
	if got := last.GetCumulativeCount(); got < 1990 || last.GetUpperBound() != 16 {
		t.Errorf("seed %d: %d in the classic buckets up to %v s", seed, got, last.GetUpperBound())
	}
}

func TestEmptyHistogram(t *testing.T) {
	h := gathered(t, newCollector())
	if h.GetSampleCount() != 0 || len(h.PositiveSpan) != 1 || len(h.Bucket) == 0 {
		t.Errorf("an empty histogram: %v", h)
	}
}

func gathered(t *testing.T, c prometheus.Collector) *dto.Histogram {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetType() == dto.MetricType_HISTOGRAM {
			return f.Metric[0].Histogram
		}
	}
	t.Fatal("no histogram was gathered")
	return nil
}

// buckets are the counts of a native histogram by index.
func buckets(h *dto.Histogram) map[int32]int64 {
	m := make(map[int32]int64)
	i, n, delta := int32(0), int64(0), 0
	for _, s := range h.PositiveSpan {
		i += s.GetOffset()
		for range s.GetLength() {
			n += h.PositiveDelta[delta]
			delta++
			if n > 0 { // theirs fills short gaps
				m[i] = n
			}
			i++
		}
	}
	return m
}
