// Package timing counts how long things took, in buckets of fixed bounds.
//
// The bounds are the eighths of powers of two of a second, from a microsecond to 64
// seconds, so that a bucket's ends are 9% apart. They are those of a native histogram
// of Prometheus of schema 3, which package exposition makes of a [Snapshot]; this
// package knows nothing of that. To observe takes no lock and allocates nothing.
package timing
