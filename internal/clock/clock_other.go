//go:build !linux

package clock

import "time"

// Now returns time.Now. On Linux it is CLOCK_BOOTTIME.
func Now() time.Time { return time.Now() }
