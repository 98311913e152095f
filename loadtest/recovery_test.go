package loadtest

import (
	"testing"
	"time"
)

func TestRecovery(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var r recovery
	round := func(from, to int, good bool) { r.observe(at(from), at(to), good) }

	round(0, 10, true)
	if got := r.after(start); got != 0 {
		t.Errorf("nothing was bad, and it was itself again after %v", got)
	}
	round(100, 110, false)
	if r.goodSince(start) {
		t.Error("good after a bad round")
	}
	round(200, 210, true)
	round(300, 310, true)
	if got, want := r.after(start), 210*time.Millisecond; got != want {
		t.Errorf("itself again after %v, want %v", got, want)
	}
	round(400, 410, false)
	round(500, 510, false)
	round(600, 610, true)
	round(700, 710, true)
	if got, want := r.after(at(100)), 510*time.Millisecond; got != want {
		t.Errorf("itself again after %v, want %v", got, want)
	}
	if got, want := r.first(), at(110); !got.Equal(want) {
		t.Errorf("the first bad round ended at %v, want %v", got, want)
	}
	if !r.goodSince(at(699)) || r.goodSince(at(700)) {
		t.Error("the last good round began at 700 ms")
	}
}
