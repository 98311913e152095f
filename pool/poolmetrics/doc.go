// Package poolmetrics makes metrics of Prometheus out of what a pool.Client does. It is
// for processes that embed one; package pool itself does not know Prometheus.
package poolmetrics
