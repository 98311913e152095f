//go:build race

package ring

// raceEnabled: the detector makes placements some ten times slower, and finds
// nothing in a package without goroutines.
const raceEnabled = true
