// Package telemetry makes what a tracker counts and knows of itself into metrics, and
// what it does into traces. For metrics it asks when it is scraped, and costs nothing
// otherwise. Traces are made where somebody wants them, and cost nothing otherwise.
//
// What it exports is safe for concurrent use.
package telemetry
