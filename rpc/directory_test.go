package rpc_test

import (
	"net"
	"testing"

	"github.com/trackerpool/trackerpool/internal/directorytest"
	"github.com/trackerpool/trackerpool/rpc"
)

// A client in front of a tracker is a Directory.
func TestDirectory(t *testing.T) {
	directorytest.Run(t, func(t *testing.T, proxies int) []directorytest.Writer {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := rpc.NewServer(directorytest.Alone(t))
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		t.Cleanup(func() {
			server.Stop()
			if err := <-served; err != nil {
				t.Errorf("serve: %v", err)
			}
		})
		client, err := rpc.Dial(l.Addr().String(), rpc.Insecure())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := client.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		var writers []directorytest.Writer
		for _, p := range directorytest.Proxies(proxies) {
			writers = append(writers, directorytest.Writer{Directory: client, Proxy: p})
		}
		return writers
	})
}
