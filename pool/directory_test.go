package pool_test

import (
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/internal/directorytest"
	"github.com/trackerpool/trackerpool/pool"
)

// Clients of a pool of three trackers are Directories.
func TestDirectory(t *testing.T) {
	directorytest.Run(t, func(t *testing.T, proxies int) []directorytest.Writer {
		trackers := startTrackers(t, "a", "b", "c")
		var writers []directorytest.Writer
		for _, p := range directorytest.Proxies(proxies) {
			client := trackers.open(pool.Config{Proxy: p})
			if err := client.Settled(within(t, 10*time.Second)); err != nil {
				t.Fatal(err)
			}
			writers = append(writers, directorytest.Writer{Directory: client, Proxy: p})
		}
		return writers
	})
}
