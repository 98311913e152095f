package node_test

import (
	"testing"

	"github.com/trackerpool/trackerpool/internal/directorytest"
)

// One tracker, which is the only seat of a new pool, is a Directory.
func TestDirectory(t *testing.T) {
	directorytest.Run(t, func(t *testing.T, proxies int) []directorytest.Writer {
		tracker := directorytest.Alone(t)
		var writers []directorytest.Writer
		for _, p := range directorytest.Proxies(proxies) {
			writers = append(writers, directorytest.Writer{Directory: tracker, Proxy: p})
		}
		return writers
	})
}
