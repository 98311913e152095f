// Package sim runs a whole pool in virtual time on a scripted network: trackers
// with their gossip, leases and gRPC servers, proxies and readers with the ring
// client, all as they are in production, in one bubble of testing/synctest.
//
// A [Pool] has machines, each with a clock of its own that drifts. A script, which
// [Generate] draws from a seed or a person writes, says what goes wrong and when;
// see [Pool.Run]. Meanwhile nodes come, hop and go, and readers ask for them. A
// model of the truth, which shares no code with what it judges, knows what each
// call promised and judges each answer by that; see [Violation]. It learns from
// calls' results, and from the messages that reach trackers which proxies the
// seats must have heard of.
//
// The script is exact, the run is not: goroutines take turns as they like. What is
// frozen is cut off with its clock stopped; its timers that ask no clock go on,
// so that it may find its connections ended where a frozen process would find them
// stale.
//
// A Pool's exported methods are for one goroutine.
package sim
