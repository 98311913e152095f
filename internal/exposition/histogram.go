package exposition

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/trackerpool/trackerpool/timing"
)

const (
	// The classic buckets end at 15 µs to 16 s, each at twice the one before. A scrape
	// that asks for native histograms gets all of timing's.
	classicFirst = -16 << timing.Schema
	classicLast  = 4 << timing.Schema
)

// A histogram is a timing.Snapshot as Prometheus has it: native and classic.
type histogram struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	took   timing.Snapshot
}

// Desc is prometheus.Metric's.
func (h *histogram) Desc() *prometheus.Desc { return h.desc }

// Write is prometheus.Metric's.
func (h *histogram) Write(m *dto.Metric) error {
	out := &dto.Histogram{
		SampleSum: ptr(h.took.Sum().Seconds()), Schema: ptr(int32(timing.Schema)),
		ZeroThreshold: ptr(0.0), ZeroCount: ptr(uint64(0)),
	}
	total, before := uint64(0), int64(0)
	next := timing.First // the bucket after the last in a span
	for i := timing.First; i <= timing.Last; i++ {
		if n := h.took.In(i); n > 0 {
			total += n
			if len(out.PositiveSpan) == 0 {
				out.PositiveSpan = append(out.PositiveSpan, &dto.BucketSpan{Offset: ptr(int32(i)), Length: ptr(uint32(0))})
			} else if i > next {
				out.PositiveSpan = append(out.PositiveSpan, &dto.BucketSpan{Offset: ptr(int32(i - next)), Length: ptr(uint32(0))})
			}
			*out.PositiveSpan[len(out.PositiveSpan)-1].Length++
			out.PositiveDelta = append(out.PositiveDelta, int64(n)-before)
			before, next = int64(n), i+1
		}
		if i >= classicFirst && i <= classicLast && (i-classicFirst)%(1<<timing.Schema) == 0 {
			out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: ptr(timing.Bound(i)), CumulativeCount: ptr(total)})
		}
	}
	if total == 0 { // a native histogram without a bucket needs a span to be one
		out.PositiveSpan = []*dto.BucketSpan{{Offset: ptr(int32(0)), Length: ptr(uint32(0))}}
	}
	out.SampleCount = ptr(total)
	m.Histogram, m.Label = out, h.labels
	return nil
}

func ptr[T any](v T) *T { return &v }
