package rpc

import (
	"context"
	"sync"
	"testing"

	"github.com/trackerpool/trackerpool/node"
)

// A lookup in a large batch takes no more than its claims, at either end of a
// connection.
func TestFindAllocations(t *testing.T) {
	const batch = 512
	asks := make([]*Ask, batch)
	var answers node.Answers
	var wg sync.WaitGroup
	for i := range asks {
		k := key(t, "00000000-0000-4000-8000-0000000000"+string(rune('a'+i%6))+string(rune('0'+i%10)))
		asks[i] = &Ask{Key: k, ID: k.ID(), View: 1, Done: wg.Done}
		answers = node.AppendAnswer(answers, node.Found, []node.Ref{{Proxy: 0, Generation: 1}})
	}
	_, addr := serve(t, &service{find: func(_ context.Context, st node.FindStream) error {
		told := &node.FindReply{Proxies: []node.Proxy{someClaim.Proxy}}
		for {
			if err := st.Send(told); err != nil {
				return err
			}
			q, err := st.Recv()
			if err != nil {
				return err
			}
			told = &node.FindReply{}
			if q.Frame != 0 {
				n := q.IDs.Count()
				told = &node.FindReply{Frame: q.Frame, View: q.View, Answers: answers[:n*len(answers)/batch]}
			}
		}
	}})
	f := dial(t, addr, Insecure()).Finder()
	if n := testing.AllocsPerRun(50, func() {
		wg.Add(batch)
		if err := f.Ask(asks...); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		for _, a := range asks {
			if a.Err != nil || a.Result.Answer != node.Found {
				t.Fatalf("%v, %v", a.Result, a.Err)
			}
		}
	}); n > 2*batch {
		t.Errorf("%d lookups allocate %v times, want at most two each", batch, n)
	}
}
