// Package clock is the one place that says what time it is. Its clock counts the
// time for which the machine was suspended, where the system has such a clock, so
// that a lease does not outlive a closed lid.
package clock
