package exposition

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/trackerpool/trackerpool/timing"
)

// A Set is the metrics of one collector. Its methods describe one each; they are to be
// called before it is registered. It has the half of a prometheus.Collector that
// describes.
type Set struct {
	prefix string
	descs  []*prometheus.Desc
}

// NewSet returns a set whose metrics' names begin with prefix.
func NewSet(prefix string) *Set { return &Set{prefix: prefix} }

// A Value puts one value of a metric among what is collected, with the values of its
// labels.
type Value func(ch chan<- prometheus.Metric, v float64, labels ...string)

// A Times is a Value for durations.
type Times func(ch chan<- prometheus.Metric, took *timing.Snapshot, labels ...string)

// Gauge describes what goes up and down.
func (s *Set) Gauge(name, help string, labels ...string) Value {
	return s.value(prometheus.GaugeValue, name, help, labels)
}

// Counter describes what only grows. Its name ends in _total.
func (s *Set) Counter(name, help string, labels ...string) Value {
	return s.value(prometheus.CounterValue, name, help, labels)
}

func (s *Set) value(kind prometheus.ValueType, name, help string, labels []string) Value {
	d := s.desc(name, help, labels)
	return func(ch chan<- prometheus.Metric, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
}

// Histogram describes how long something takes. Its name ends in _seconds.
func (s *Set) Histogram(name, help string, labels ...string) Times {
	d := s.desc(name, help, labels)
	return func(ch chan<- prometheus.Metric, took *timing.Snapshot, labels ...string) {
		ch <- &histogram{d, prometheus.MakeLabelPairs(d, labels), *took}
	}
}

func (s *Set) desc(name, help string, labels []string) *prometheus.Desc {
	d := prometheus.NewDesc(s.prefix+name, help, labels, nil)
	s.descs = append(s.descs, d)
	return d
}

// Describe is prometheus.Collector's.
func (s *Set) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

// Bool is 1 for true.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
