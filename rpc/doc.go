// Package rpc carries the node package over gRPC.
//
// [NewServer] and [Register] serve a [node.Service]; [Dial] makes a [Client], which
// is a [node.Directory] and a [node.Peer] in front of one tracker; a [Finder]
// gathers the lookups of many callers into batches on one stream. The contract is
// in trackerpb/trackerpool.proto, and its messages are those of package node, one
// to one.
//
// What arrives is checked at this border: IDs, addresses, enumerations, sets of
// shards, ages and the size of packed fields. What is inside a packed field is
// checked by the cursors of package node, as it is read. A message that is not
// valid is a *[node.InvalidError], and every named error of package node is the
// same error on both sides of the wire.
//
// Servers, clients and finders are safe for concurrent use; a stream is as safe as
// [node.Stream] says.
package rpc
