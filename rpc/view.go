package rpc

import (
	"math"
	"strconv"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// encodeView is given the view's fingerprint, since computing it means placing
// every shard.
func encodeView(v node.ViewInfo, fp ring.Fingerprint) *pb.GetViewResponse {
	return &pb.GetViewResponse{
		PoolName: v.Pool.Name,
		Term:     durationpb.New(v.Pool.Term.Held()),
		SeatSets: convert(v.Pool.Seats, func(set []ring.MemberID) *pb.SeatSet {
			return &pb.SeatSet{Members: texts(set)}
		}),
		Params: encodeParams(v.Params),
		Members: convert(v.View.Members(), func(m ring.Member) *pb.Member {
			return &pb.Member{
				Id:        string(m.ID),
				Addr:      m.Addr,
				Zone:      m.Zone,
				Boot:      m.Boot,
				State:     pb.MemberState(m.State) + pb.MemberState_MEMBER_STATE_JOINING,
				Algorithm: uint32(m.Algorithm),
				Replicas:  uint32(m.Replicas),
			}
		}),
		Fingerprint: uint64(fp),
		Sum:         v.View.Sum(),
	}
}

func decodeView(m *pb.GetViewResponse) (node.ViewInfo, error) {
	d := &decoder{}
	info := node.ViewInfo{
		Pool: node.Pool{
			Name: m.GetPoolName(),
			Term: d.term(int64(m.GetTerm().AsDuration())),
			Seats: convert(m.GetSeatSets(), func(s *pb.SeatSet) []ring.MemberID {
				return convert(s.GetMembers(), d.memberID)
			}),
		},
		Params: d.params(m.GetParams()),
	}
	view, err := ring.NewView(convert(m.GetMembers(), d.member)...)
	if err != nil {
		d.fail("members", strconv.Itoa(len(m.GetMembers())), "members make no view: %v", err)
	}
	info.View = view
	return result(d, info)
}

// member refuses a state that it does not know: the view would place shards that
// the pool does not, or not place those that it does.
func (d *decoder) member(m *pb.Member) ring.Member {
	state := m.GetState() - pb.MemberState_MEMBER_STATE_JOINING
	if state < 0 || state > pb.MemberState(ring.Leaving) {
		d.fail("state", m.GetState().String(), "is not known here; upgrade this process")
		return ring.Member{}
	}
	if m.GetReplicas() > math.MaxUint16 {
		d.fail("replicas", strconv.FormatUint(uint64(m.GetReplicas()), 2), "has bits above 15; counts are 1 to 15")
	}
	if m.GetAlgorithm() > math.MaxUint8 {
		d.fail("algorithm", strconv.FormatUint(uint64(m.GetAlgorithm()), 10), "is out of range; give at most %d", math.MaxUint8)
	}
	return ring.Member{
		ID:        d.memberID(m.GetId()),
		Boot:      m.GetBoot(),
		Addr:      m.GetAddr(),
		Zone:      m.GetZone(),
		State:     ring.State(state),
		Algorithm: uint8(m.GetAlgorithm()),
		Replicas:  ring.Replicas(m.GetReplicas()),
	}
}
