// Package pool is the client a proxy embeds: it writes to every holder of a node
// and reads from the first that has an answer.
//
// A [Client] keeps the proxy's own claims in memory, for they are the truth of
// which the trackers are an index. To each tracker of the view it has one
// session, in which it sends its claims of the shards placed there, and renews
// its lease. Of a session, a shard is in one of three states:
//
//	        placed here                    its turn has come:
//	        or sums differ                 the snapshot goes out
//	untold ───────────────► queued (a marker in the queue) ───────► told (each change goes out)
//	   ▲                                                              │
//	   └───────────── released, once a new holder counted ◄───────────┘
//
// Everything goes out in the order of one queue per session, and a snapshot is
// taken in the same critical section that makes its shard told. So what a tracker
// has is always a prefix of that order, and the sum in a Renew says which.
//
// A Client without a proxy ID is a reader alone: it has no sessions.
//
// A Client is safe for concurrent use. One mutex guards what is decided about
// claims and sessions; nothing is sent, received or called back under it. Lookups
// do not take it.
package pool
