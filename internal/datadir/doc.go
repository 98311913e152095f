// Package datadir keeps a file such that a crash at any time, of the process or the
// machine, leaves the whole of what was written last or of what was written before.
package datadir
