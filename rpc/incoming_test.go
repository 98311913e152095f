package rpc

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip" // registers itself, as packages of a program may
	"google.golang.org/grpc/status"

	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// Nothing is uncompressed, though the program could.
func TestCompressedIsRefused(t *testing.T) {
	_, addr := serve(t, drained(nil))
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func(opts ...grpc.CallOption) codes.Code {
		_, err := pb.NewNodeTrackerClient(conn).GetProxies(t.Context(), &pb.GetProxiesRequest{NodeId: "n"}, opts...)
		return status.Code(err)
	}
	if got := ask(grpc.UseCompressor(gzip.Name)); got != codes.Internal {
		t.Errorf("compressed: %v, want Internal", got)
	}
	if got := ask(); got != codes.OK {
		t.Errorf("as it is: %v", got)
	}
}
