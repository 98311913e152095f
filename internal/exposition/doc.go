// Package exposition makes metrics of Prometheus out of counts that the project keeps
// for itself: a [Set] describes them once, and whoever collects gives their values.
package exposition
