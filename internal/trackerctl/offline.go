package trackerctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// offline is a pool that is described rather than asked.
type offline struct {
	members          []string
	shards, replicas int
}

func (o *offline) register(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&o.members, "members", nil, "`ID[=ZONE]` of each tracker: compute for these, and ask nobody")
	cmd.Flags().IntVar(&o.shards, "shards", node.DefaultShards, "with --members: shards of the pool")
	cmd.Flags().IntVar(&o.replicas, "replicas", 2, "with --members: copies of each claim")
}

func (o *offline) place() (*ring.Placement, error) {
	var members []ring.Member
	for _, s := range o.members {
		id, zone, _ := strings.Cut(s, "=")
		members = append(members, ring.Member{ID: ring.MemberID(id), Zone: zone, State: ring.Serving,
			Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(o.replicas)})
	}
	v, err := ring.NewView(members...)
	if err != nil {
		return nil, fmt.Errorf("--members: %w", err)
	}
	return ring.Place(v, ring.Params{Algorithm: ring.Algorithm, Shards: o.shards, Replicas: o.replicas})
}

// placement is that of the pool, or of the one that is described.
func (a *app) placement(ctx context.Context, o *offline) (*ring.Placement, error) {
	if len(o.members) > 0 {
		return o.place()
	}
	f, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return f.placement()
}
