// Package trackercmd runs a tracker from a command line. It is a package, and not
// part of cmd/tracker, because two commands run trackers: cmd/tracker, and
// cmd/loadtest, which starts a pool of its own.
//
// A [Run] goes through these phases, and back in the reverse order:
//
//	configure ─► listen ─► gossip (JOINING) ─► seats known ─► SERVING ─► ready
//	                                                             │ SIGTERM
//	exit 0 ◄─ leave gossip ◄─ stop gRPC ◄─ drained ◄─ LEAVING ◄──┘
//
// Run may be called several times at once in one process.
package trackercmd
