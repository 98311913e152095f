package rpc

import (
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// The values of the golden messages. Each field that travels has another value than
// zero somewhere here; TestGoldenIsWhole says which does not.
var (
	fixedProxy       = node.Proxy{ID: "proxy-1", Addr: "192.0.2.7:3022", Cluster: "main", Zone: "eu-1a"}
	fixedProcess     = lease.Process{ID: "t-1", Boot: 0x1a1ffcf5ddf9d26e}
	fixedIncarnation = lease.Incarnation{Number: 1795283321447, Random: 0xfedcba9876543210}
	fixedParams      = ring.Params{Algorithm: 1, Shards: testShards, Replicas: 2}
	fixedSums        = []node.ShardSum{{Shard: 3, Sum: node.Sum{Count: 2, Sum: 0x1122334455667788}}, {Shard: 99, Sum: node.Sum{Count: 300, Sum: 1}}}
	fixedViewSums    = node.ViewSums{Fingerprint: 0x5b59f3bfda506217, Sum: 0xea99727e1cd281fd}
	fixedUnary       = node.UnaryClaim{Node: "node-1", Proxy: fixedProxy, Generation: 7, Age: 90 * time.Second, Version: 1795283321447000, Left: time.Minute}
	fixedClaim       = node.Claim{Node: "node-1", Proxy: fixedProxy, Generation: 7, Age: 1500 * time.Millisecond}
	fixedStep        = node.DrainStep{Left: "3 shards are still placed here", Shards: 3, Claims: 12, Elapsed: time.Second, Deadline: 30 * time.Second, Done: true}
)

const (
	fixedUUID  node.ID     = "6d0b5a3e-9f1c-4c57-8a55-0123456789ab"
	fixedNonce lease.Nonce = 0x123456789abcdef
)

func fixedKey(id node.ID) node.Key {
	k, err := node.ParseID(id)
	if err != nil {
		panic(err)
	}
	return k
}

func fixedShards(shards ...ring.Shard) ring.ShardSet {
	s := ring.NewShardSet(testShards)
	for _, sh := range shards {
		s.Add(sh)
	}
	return s
}

func fixedIDs(ids ...node.ID) node.IDs {
	var packed node.IDs
	for _, id := range ids {
		packed = node.AppendID(packed, fixedKey(id))
	}
	return packed
}

func fixedView() node.ViewInfo {
	member := func(id ring.MemberID, s ring.State) ring.Member {
		return ring.Member{ID: id, Boot: 0x1a1ffcf5ddf9d26e, Addr: string(id) + ".example:7940", Zone: "eu-1a", State: s, Algorithm: 1, Replicas: ring.ReplicasOf(2, 3)}
	}
	view, err := ring.NewView(member("t-0", ring.Serving), member("t-1", ring.Joining), member("t-2", ring.Leaving))
	if err != nil {
		panic(err)
	}
	return node.ViewInfo{Pool: node.Pool{Name: "trackers", Term: lease.Term(10 * time.Second), Seats: [][]ring.MemberID{{"t-0"}, {"t-0", "t-1", "t-2"}}},
		View: view, Params: fixedParams}
}

func fixedReport() *node.Report {
	v := &node.Report{
		Self: fixedProcess, Pool: "trackers", Version: "tracker v0.1.0", Up: time.Hour, Sums: fixedViewSums, Params: fixedParams, Leaving: true,
		Held: fixedShards(1, 8, 70), InForce: fixedShards(1, 8), Open: fixedShards(1), More: 5, Marked: []node.ProxyID{"proxy-9"}, Keys: []string{"a1b2c3"},
		Holdups: []lease.Holdup{{By: lease.HolderUp(1), ID: "t-2", Why: "it stands by another view", Shards: fixedShards(70)}},
		Seats:   []lease.SeatWord{{Seat: fixedProcess, Grants: true, View: 0x5b59f3bfda506217, Heard: time.Second, Left: 9 * time.Second}},
		Began:   11, Changes: 12, Differs: 13, Refused: 14, Lookups: map[node.Answer]uint64{node.Found: 21, node.Absent: 22, node.Unknown: 23},
		Status: node.Status{Seat: true, Granting: true, Silence: 2 * time.Second, CutOff: true, Selfish: true, Ready: true, Why: "this seat grants again in 2s",
			Claims: 31, UnaryClaims: 32, Sessions: 33, Proxies: 34, Restored: 35},
	}
	v.View, v.Stalled = v.Sums.Fingerprint, len(v.Marked)
	v.Shards.Held, v.Shards.InForce, v.Shards.Open = v.Held.Len(), v.InForce.Len(), v.Open.Len()
	return v
}

// fixedMessages has a value of each of allMessages.
func fixedMessages() map[string]any {
	proxy := func(f node.ProxyFrame) any { return &f }
	tracker := func(f node.TrackerFrame) any { return &f }
	chunks := node.AppendChunk(nil, node.Chunk{Shard: 70, First: true, Last: true, Claims: 1})
	contact := lease.Contact{Proxy: "proxy-1", Incarnation: fixedIncarnation, Age: time.Second, Claims: true, Floor: lease.Incarnation{Number: 4, Random: 5},
		FloorAge: time.Hour, Stalled: true, StalledAge: time.Minute}
	state := &node.State{View: 0x5b59f3bfda506217, Counted: fixedShards(1, 8), Known: true, Why: []node.Uncounted{{Why: node.Why(2), Shards: fixedShards(70)}}}
	welcome := &node.Welcome{Tracker: fixedProcess, Pool: "trackers", Term: lease.Term(10 * time.Second), Params: fixedParams,
		Incarnation: fixedIncarnation, Credits: 4000, Sums: fixedSums}
	return map[string]any{
		"Hello":   proxy(node.ProxyFrame{Hello: &node.Hello{Pool: "trackers", Proxy: fixedProxy, Incarnation: fixedIncarnation, HasClaims: true}}),
		"Batch":   proxy(node.ProxyFrame{Batch: &node.Batch{Seq: 1, Ops: node.AppendRemove(node.AppendAdd(nil, fixedKey(fixedUUID), 7, 15), fixedKey("node-1"))}}),
		"Replace": proxy(node.ProxyFrame{Replace: &node.Replace{Seq: 2, Chunks: node.AppendChunkAdd(chunks, fixedKey("node-1"), 7, 15)}}),
		"Renew": proxy(node.ProxyFrame{Renew: &node.Renew{Seq: 3, Nonce: fixedNonce, HasClaims: true, Sum: node.Sum{Count: 2, Sum: 0x1122334455667788},
			View: 0x5b59f3bfda506217}}),
		"Release":      proxy(node.ProxyFrame{Release: &node.Release{Seq: 4, Shards: fixedShards(1, 70)}}),
		"Dropped":      proxy(node.ProxyFrame{Dropped: &node.Dropped{Token: 9, Kept: []node.ID{"node-1"}}}),
		"Goodbye":      proxy(node.ProxyFrame{Goodbye: true}),
		"ProxyPing":    proxy(node.ProxyFrame{}),
		"Welcome":      tracker(node.TrackerFrame{Welcome: welcome}),
		"State":        tracker(node.TrackerFrame{State: state}),
		"Differ":       tracker(node.TrackerFrame{Differ: &node.Differ{Seq: 3, Sums: fixedSums}}),
		"Drop":         tracker(node.TrackerFrame{Drop: &node.Drop{Token: 9, IDs: []node.ID{"node-1", fixedUUID}, Why: "RemoveNode was called"}}),
		"End":          tracker(node.TrackerFrame{End: &node.End{Reason: node.EndReason(3), Known: fixedIncarnation, Detail: "ops: flag 8 is not known"}}),
		"TrackerFrame": tracker(node.TrackerFrame{View: &fixedViewSums, State: state, Ack: 3, Credits: 2000, Nonce: fixedNonce}),
		"TrackerPing":  tracker(node.TrackerFrame{}),
		"FindRequest": &node.FindRequest{Frame: 1, View: 0x5b59f3bfda506217, IDs: fixedIDs(fixedUUID, "node-1"), Watch: fixedIDs("node-2"),
			Unwatch: fixedIDs("node-3")},
		"FindReply": &node.FindReply{Frame: 1, View: 0x5b59f3bfda506217, Reset: true, Proxies: []node.Proxy{fixedProxy},
			Answers:  node.AppendAnswer(node.AppendAnswer(nil, node.Found, []node.Ref{{Proxy: 0, Generation: 7, Age: 15}}), node.Absent, nil),
			ListSums: []uint64{0x1122334455667788}, Watched: fixedIDs("node-2")},
		"Ask": &lease.Ask{From: fixedProcess, SeatSets: []uint64{0x3530b3cc0177f471, 5}, Nonce: fixedNonce, SeatBoot: 6, Ack: 7,
			Contacts: []lease.Contact{contact}, Stalled: []node.ProxyID{"proxy-9"}},
		"Word": &lease.Word{Seat: fixedProcess, Seq: 8, Nonce: fixedNonce, Grants: true, View: 0x5b59f3bfda506217,
			Older: []lease.Older{{View: 0x33, Stragglers: []lease.Process{{ID: "t-2", Boot: 5}}}}, Full: true, Contacts: []lease.Contact{contact}},
		"CopyFrame": &node.CopyFrame{From: fixedProcess, Claims: []node.UnaryClaim{fixedUnary, {Node: "node-2", Proxy: node.Proxy{ID: "proxy-1"}, Version: 8, Left: -time.Second, Gone: true}},
			Confirm: true, Nonce: fixedNonce, View: 0x5b59f3bfda506217, Sums: fixedSums, Seq: 5},
		"CopyReply":    &node.CopyReply{Nonce: fixedNonce, Claims: []node.UnaryClaim{fixedUnary}, Want: fixedShards(70), Ack: 5},
		"StoreRequest": node.StoreRequest{ListSum: 0x1122334455667788, Claim: fixedUnary},
		"StoreReply":   node.StoreReply{Stored: true, Counted: true, Version: 1795283321447001, ListSum: 9},
		"StayReply":    node.Staying{Leaving: true, Grants: true},
		"ViewSums":     fixedViewSums,
		"Claim":        fixedClaim,
		"Report":       fixedReport(),
		"ProxyReport": node.ProxyReport{Proxy: fixedProxy, Incarnation: fixedIncarnation, Session: true, Claims: 40, Lease: 7 * time.Second, Heard: time.Second,
			Stalled: true, WaitedFor: true, Ended: true, Restored: true, Counted: 41},
		"Explanation": &node.Explanation{Self: fixedProcess, View: fixedViewSums, Hash: 0x6194cd98a9f1b9d9, Shard: 70, List: []ring.MemberID{"t-1", "t-0"},
			InForce: true, Open: true, Answer: node.Found, Holdups: []lease.Holdup{{By: lease.HolderUp(2), ID: "proxy-9", Why: "it has not confirmed"}},
			Claims: []node.ExplainedClaim{{Claim: node.Claim{Node: explained, Proxy: fixedProxy, Generation: 7, Age: time.Second}, Incarnation: fixedIncarnation,
				Unary: true, Covered: true, Left: time.Second, Session: true, Counted: true, Why: "no live lease"}}},
		"DrainStep": fixedStep,
		"ViewInfo":  fixedView(),
	}
}
