// Package freeport finds addresses for processes that must know theirs before they
// start, and keep them when they start again.
package freeport
