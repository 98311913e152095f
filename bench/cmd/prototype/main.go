// Command prototype serves the plainest tracker that there can be, to be compared with.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"google.golang.org/grpc"

	"github.com/trackerpool/trackerpool/bench/prototype"
	"github.com/trackerpool/trackerpool/rpc"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "prototype:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("prototype", flag.ContinueOnError)
	listen := f.String("listen-addr", "127.0.0.1:7950", "where to serve gRPC")
	admin := f.String("admin-addr", "127.0.0.1:7951", "where to serve /figures: nodes, and bytes of the heap after a collection")
	keepAlive := f.Duration("keep-alive", time.Hour, "for how long a proxy that adds nothing is kept")
	cert := f.String("cert-file", "", "certificate to serve TLS with; default: plain text")
	key := f.String("key-file", "", "its key")
	ca := f.String("ca-file", "", "authorities of clients")
	if err := f.Parse(args); err != nil {
		return err
	}
	var opts []grpc.ServerOption
	if *cert != "" {
		creds, err := rpc.ServerCredentials(rpc.TLSFiles{KeyPairs: []rpc.KeyPair{{CertFile: *cert, KeyFile: *key}}, CAFile: *ca}, nil)
		if err != nil {
			return err
		}
		opts = append(opts, grpc.Creds(creds))
	}
	t := prototype.New(*keepAlive)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go t.Run(ctx)
	lis, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	http.HandleFunc("/figures", func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		fmt.Fprintf(w, "nodes %d\nheap %d\n", t.Len(), m.HeapAlloc)
	})
	failed := make(chan error, 2) // of either server
	go func() { failed <- http.ListenAndServe(*admin, nil) }()
	s := grpc.NewServer(opts...)
	pb.RegisterNodeTrackerServer(s, t)
	go func() { failed <- s.Serve(lis) }()
	return <-failed
}
