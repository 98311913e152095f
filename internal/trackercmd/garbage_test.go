package trackercmd

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		live, least uint64
		want        int
	}{
		{0, 64 * mib, mostPercent},
		{mib, 64 * mib, mostPercent},
		{8 * mib, 64 * mib, 700},
		{16 * mib, 64 * mib, 300},
		{32 * mib, 64 * mib, 100},
		{40 * mib, 64 * mib, 60},
		{44 * mib, 64 * mib, 50},
		{64 * mib, 64 * mib, 50},
		{1000 * mib, 64 * mib, 50},
		{8 * mib, 16 * mib, 100},
	} {
		got := gcPercent(tt.live, tt.least)
		if got != tt.want {
			t.Errorf("%d in use, least %d: %d%%, want %d%%", tt.live, tt.least, got, tt.want)
		}
		if heap := tt.live + tt.live*uint64(got)/100; heap > max(tt.least, tt.live*3/2) {
			t.Errorf("%d in use, least %d: garbage is collected at %d", tt.live, tt.least, heap)
		}
	}
}

// TestCollectBy: with little in use there is more garbage than by default, with much less.
func TestCollectBy(t *testing.T) {
	if percent() != defaultPercent {
		t.Skip("GOGC is set")
	}
	stop := collectBy()
	defer stop()
	collected := func(what string, ok func(int) bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !ok(percent()); {
			if time.Now().After(end) {
				t.Fatalf("%s: garbage may be %d%%", what, percent())
			}
			runtime.GC()
			runtime.Gosched()
		}
	}
	much := make([]byte, 2*leastHeap)
	collected("much is in use", func(p int) bool { return p == leastPercent })
	runtime.KeepAlive(much)
	collected("little is in use", func(p int) bool { return p > defaultPercent })
	stop()
	runtime.GC()
	if percent() != defaultPercent {
		t.Errorf("after the end garbage may be %d%%", percent())
	}
}

func percent() int {
	p := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(p)
	return int(p[0].Value.Uint64())
}
