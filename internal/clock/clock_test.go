package clock_test

import (
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/internal/clock"
)

func TestNowAdvancesWithRealTime(t *testing.T) {
	realBefore, before := time.Now(), clock.Now()
	for time.Since(realBefore) < time.Millisecond {
		if now := clock.Now(); now.Before(before) {
			t.Fatalf("clock went back: %v after %v", now, before)
		}
	}
	got, most := clock.Now().Sub(before), time.Since(realBefore)
	if got < time.Millisecond/2 || got > most+time.Second {
		t.Errorf("the clock advanced by %v while %v passed", got, most)
	}
}
