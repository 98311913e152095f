// Package prototype is a tracker in its plainest form, as a measure for the real one: a
// map and a mutex behind unary calls of a stock gRPC server.
//
// It has the flaws of that design, which are part of what is measured: whatever a proxy
// adds keeps alive all that it ever added, one lock guards everything, and nothing
// outlives the process. It answers NodeTracker.AddNode and GetProxies alone.
package prototype
