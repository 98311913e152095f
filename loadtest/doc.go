// Package loadtest drives a pool with a seeded workload and measures it.
//
// [Run] registers nodes through as many pool clients as there are proxies, looks
// every node up from another proxy than its own, keeps up a mix of lookups and
// reconnects while it plays events (a tracker joins, is killed, starts again,
// leaves; a proxy starts again), and looks everything up once more:
//
//	start ─► register ─► verify ─► mix, with the events one after another ─► verify ─► stop
//
// What is true of every node is kept beside the pool, in eight bytes a node, and
// each answer is judged by what was true when its lookup began and ended. Latencies
// count from the time at which an operation was meant to start, so that a slow pool
// cannot slow down the load that measures it.
//
// Run may be called again, but its runs share the machine, and so their figures.
package loadtest
