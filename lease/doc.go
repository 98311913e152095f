// Package lease decides, from grants alone, which lists are in force and which
// shards are open. It is the idea of quorum leases (Moraru, Andersen, Kaminsky:
// "Paxos Quorum Leases", SoCC 2014; Gray and Cheriton: "Leases", SOSP 1989),
// without a log or a disk.
//
// A Grantor is a seat's side: it gives its word to trackers and knows who may
// still rely on an earlier one. A Ledger is a tracker's side: it takes the words
// of seats and the confirms of proxies, and says of each shard
//
//	            more than half of          every proxy heard of, and every
//	            the seats grant it         other tracker, has confirmed
//	not in force ───────────────► in force ───────────────────────────► open
//	     ▲                            │                                   │
//	     └────────────────────────────┴───────────────────────────────────┘
//	                 a word ran out, changed, or the list did
//
// All of it is pure: time and events are arguments, and nothing here is safe for
// concurrent use but the Snapshots that a Ledger publishes, which are immutable.
package lease
