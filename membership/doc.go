// Package membership turns gossip into views.
//
// [Join] starts the gossip of one tracker. Each tracker gossips its metadata:
// its ID and boot, the address of its gRPC server, its zone and state, and the
// parameters that are fixed for a pool. Trackers whose parameters differ are
// refused, by both sides, with the difference named in a [MismatchError];
// those of another pool (or with another key) are not even understood, and
// look as if they were not there.
//
// [Gossip.Views] delivers what is seen: a member for each tracker ID, of the
// youngest boot seen, as long as gossip holds it alive. A tracker that means to
// leave says so by its state first, as a leave and a crash look alike to
// gossip. Members that are missing, and the addresses to join, are tried for
// ever, so that a split heals.
//
// What comes in is opened, checked and bounded before memberlist sees it. With
// [TLS] only trackers are heard that have shown their certificate, and only these
// are in views; else whoever has the gossip key is a tracker. The keys may change
// while it runs.
//
// Nothing is computed from single events: a callback of memberlist, which runs
// under its lock, changes a table and rings a bell; one goroutine reads the
// table and publishes a view if it is another one.
//
// A [Gossip] is safe for concurrent use. Of all packages this one alone imports
// memberlist.
package membership
