package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Now returns the time since the machine started, suspension included
// (CLOCK_BOOTTIME). It is comparable only with other results on this machine
// since then. Elsewhere than on Linux it is time.Now.
func Now() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("clock: invariant: Linux has CLOCK_BOOTTIME since 2.6.39: %v", err))
	}
	return time.Unix(0, ts.Nano())
}
