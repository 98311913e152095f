package membership_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/ring"
)

func ExampleJoin() {
	cfg := membership.Config{Pool: "example", BindAddr: "127.0.0.1:0", Shards: 4096, Term: 10 * time.Second}
	start := func(id ring.MemberID, join ...string) *membership.Gossip {
		cfg.Join = join
		g, err := membership.Join(context.Background(), ring.Member{
			ID: id, Boot: membership.NewBoot(time.Now(), 0), Addr: "127.0.0.1:7000",
			Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(2),
		}, cfg)
		if err != nil {
			log.Fatal(err)
		}
		return g
	}
	a := start("t-0")
	defer a.Close()
	b := start("t-1", a.Addr())
	defer b.Close()
	if err := b.SetState(ring.Serving); err != nil {
		log.Fatal(err)
	}
	for v := range a.Views() {
		if m, ok := v.Member("t-1"); ok && m.State == ring.Serving {
			fmt.Println(v.Len(), "members,", m.ID, "is", m.State)
			break
		}
	}
	// Output: 2 members, t-1 is serving
}
