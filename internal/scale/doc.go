// Package scale shows how the cost of a pool grows with its trackers, proxies and
// nodes, as figures, tables and curves.
//
// What one machine can do is measured by calls of the real code: placements and
// their moves, grants of whole pools of Ledgers and Grantors, messages over the
// real gRPC stack, claims in a real table. Gossip was measured in virtual time, by
// this package's tests, and is computed beyond. What a pool would carry is
// computed from those, by the rates at which the code sends; each [Point] says
// which it is.
//
// Functions are safe for concurrent use, but measure time: run one at a time.
package scale
