// Package memnet is an in-memory network for simulations.
//
// A [Network] has hosts, named by IP address. A [Host] sends packets, listens
// and dials as the net package does, so that gossip and gRPC run over it
// unchanged, and a script cuts links, takes hosts off the network, delays what
// is sent and drops packets.
//
// Nothing here blocks but what blocks on a real network too (Accept, Read,
// ReadFrom and a dial into a black hole), and that honours deadlines and
// contexts. All waiting is by timers and condition variables, so a bubble of
// testing/synctest runs it in virtual time; create the network inside of the
// bubble, and close every connection before the bubble ends.
//
// All types are safe for concurrent use.
package memnet
