//go:build race

package scale

const race = true // under the race detector all takes some ten times as long
