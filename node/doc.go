// Package node is the node tracker: it keeps which proxies reach which nodes, for
// the shards it holds.
//
// A Tracker holds the claims of proxies' sessions in a Table and those made by
// unary calls in Unaries, and answers lookups from them. What it may say of a node
// that it does not find, and whether a claim counts, package lease decides; the
// Tracker feeds it with the words of seats and the confirms of proxies, and
// publishes what it decides as an immutable snapshot, so that no lookup waits.
//
//	Hello ─► Welcome ─► Replace, Batch, Release … ─► Renew ─► covered
//	                        ▲                          │ wrong sum
//	                        └───────── Differ ◄────────┘
//
// The exported types are safe for concurrent use unless they say otherwise.
package node
