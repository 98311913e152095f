// Package peer starts the servers that are compared, each as a process of its own on
// loopback, and speaks to each in the way in which it is fastest.
//
// A [Peer] is one kind of server; its state is that of one process, which Start begins
// empty. Servers that speak a text protocol are told commands that were put together
// byte by byte, and the bytes of the replies are known beforehand, so that hardly any
// work of a client disturbs them. The tracker is driven through the public packages
// rpc and pool, over mutual TLS.
package peer
