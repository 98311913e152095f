//go:build !linux

package scale

import "time"

// cpuTime stands in for what the process has used: the time, as if all of it were
// one busy core.
func cpuTime() time.Duration { return time.Duration(time.Now().UnixNano()) }

// threadTime stands in for what this thread has used.
func threadTime() time.Duration { return cpuTime() }
