// Package buildinfo says what this binary was built from: what the Go toolchain put
// into it, and nothing else, so that no build needs flags of its own.
package buildinfo
