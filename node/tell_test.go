package node

import (
	"testing"
	"time"
)

// A process that is frozen while it works out what to tell acknowledges nothing as
// counted that came after the lease had run out.
func TestFrozenWhileTelling(t *testing.T) {
	now := time.Unix(1000, 0)
	var frozen func()
	x := trackerOf(t, func() time.Time {
		if f := frozen; f != nil {
			frozen = nil
			f()
			return now.Add(-time.Hour) // read before the freeze
		}
		return now
	})
	s, _, end, _ := x.admit(&Hello{Proxy: testProxy("p"), Incarnation: incarnationOf(1, 1), HasClaims: true})
	if end != nil {
		t.Fatalf("%+v", end)
	}
	apply := func(f *ProxyFrame) {
		t.Helper()
		if err := s.apply(f); err != nil {
			t.Fatal(err)
		}
	}
	apply(&ProxyFrame{Renew: &Renew{Seq: 1, Nonce: s.nonceFirst, HasClaims: true, View: x.sums.Fingerprint}})
	var told told
	var frame TrackerFrame
	s.gather(&frame, &told)
	if sh := shardOf("late"); frame.Ack != 1 || !frame.State.Counted.Has(sh) {
		t.Fatalf("before: %+v", frame)
	}
	frozen = func() {
		now = now.Add(time.Hour)
		apply(&ProxyFrame{Batch: &Batch{Seq: 2, Ops: opsOf(t, "late")}})
	}
	frame = TrackerFrame{}
	s.gather(&frame, &told)
	if frame.Ack >= 2 && frame.State == nil {
		t.Errorf("acknowledged as counted an hour after the lease: %+v", frame)
	}
	frame = TrackerFrame{}
	s.gather(&frame, &told)
	if frame.Ack != 2 || frame.State == nil || frame.State.Counted.Has(shardOf("late")) {
		t.Errorf("after: %+v", frame)
	}
}
