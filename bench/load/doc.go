// Package load makes node IDs and offers work on them, in batches, and measures it.
//
// Everything that happens is chosen before it is timed: IDs, and the order in which
// they are looked up. A load is closed (each worker begins a batch when its last one
// has ended: saturation) or open (batches are due at a rate, whether those before have
// ended or not).
package load
