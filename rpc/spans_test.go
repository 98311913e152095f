package rpc

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/stats"

	"github.com/trackerpool/trackerpool/node"
)

// heard is a stats.Handler that notes of which calls it hears, as "tag METHOD" and
// "end METHOD".
type heard struct {
	mu   sync.Mutex // guards what
	what []string
}

type heardOf struct{}

func (h *heard) note(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.what = append(h.what, s)
}

func (h *heard) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.what)
}

func (h *heard) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	name := info.FullMethodName[strings.LastIndexByte(info.FullMethodName, '/')+1:]
	h.note("tag " + name)
	return context.WithValue(ctx, heardOf{}, name)
}

func (h *heard) HandleRPC(ctx context.Context, s stats.RPCStats) {
	name, _ := ctx.Value(heardOf{}).(string)
	if _, ok := s.(*stats.End); ok {
		h.note("end " + name)
	}
}

func (h *heard) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (h *heard) HandleConn(context.Context, stats.ConnStats)                       {}

// A stream within a unary call must not be taken for it: its handler would end the
// call's span.
func TestStatsHandlersHearOfUnaryCalls(t *testing.T) {
	var atServer, atClient heard
	_, addr := serve(t, &service{
		getProxies: func(node.ID) (node.Answer, []node.Claim, error) { return node.Absent, nil, nil },
		find: func(_ context.Context, st node.FindStream) error {
			_, err := st.Recv()
			return err
		},
	}, WithServerStatsHandler(&atServer))
	c := dial(t, addr, Insecure(), WithStatsHandler(&atClient))
	if _, _, err := c.GetProxies(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
	within := context.WithValue(context.WithValue(t.Context(), toldOf{}, true), heardOf{}, "the outer call")
	st, err := c.FindStream(within)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(&node.FindRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the stream ended with %v, want EOF", err)
	}
	if _, _, err := c.GetProxies(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
	want := []string{"tag GetProxies", "end GetProxies", "tag GetProxies", "end GetProxies"}
	await(t, "both ends heard of both calls and of nothing else", func() bool {
		return slices.Equal(atServer.all(), want) && slices.Equal(atClient.all(), want)
	})
}

func TestFindObserver(t *testing.T) {
	var begun, ended int
	var last error
	c := dial(t, "127.0.0.1:1", Insecure(), WithFindObserver(func(context.Context) func(error) {
		if begun++; begun == 1 {
			return nil
		}
		return func(err error) { ended, last = ended+1, err }
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if _, err := c.Find(ctx, key(t, "n"), 1); err == nil {
			t.Fatal("a lookup that was cancelled has no error")
		}
	}
	if begun != 2 || ended != 1 || !errors.Is(last, context.Canceled) {
		t.Errorf("%d lookups began, %d ended, with %v", begun, ended, last)
	}
}
