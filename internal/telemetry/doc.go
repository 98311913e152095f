// Package telemetry makes what a tracker counts and knows of itself into metrics. It
// asks when it is scraped, and costs nothing otherwise.
package telemetry
