package node

import (
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A Stream is one end of an ordered stream of messages. Recv and Send may be
// called at the same time, each by one goroutine. Both fail once the stream's
// context has ended. A message that was received is its receiver's; a message
// that was sent is not touched again by the sender.
type Stream[In, Out any] interface {
	Recv() (In, error)
	Send(Out) error
}

// The streams, as the tracker that serves them sees them.
type (
	SessionStream = Stream[*ProxyFrame, *TrackerFrame]
	FindStream    = Stream[*FindRequest, *FindReply]
	SeatStream    = Stream[*lease.Ask, *lease.Word]
	CopyStream    = Stream[*CopyFrame, *CopyReply]
)

// A ProxyFrame is what a proxy says in a session: one of its fields, or none,
// which tells that it is alive. Either side says something every PingInterval.
type ProxyFrame struct {
	Hello   *Hello
	Batch   *Batch
	Replace *Replace
	Renew   *Renew
	Release *Release
	Dropped *Dropped
	Goodbye bool
}

// A TrackerFrame is what a tracker says in a session: any of its fields, to be
// taken in their order here, or none.
type TrackerFrame struct {
	Welcome *Welcome
	View    *ViewSums
	State   *State
	Ack     uint64 // the highest seq stored; 0 says nothing new. It frees the credits of what it covers
	Credits uint32 // a new limit of claims sent and not acknowledged; 0 leaves it
	Nonce   lease.Nonce
	Differ  *Differ
	Drop    *Drop
	End     *End
}

const (
	// PingInterval is how often either side of a Session or a Find says something.
	PingInterval = time.Second
	// PingTimeout is after how long without a word a stream counts as dead.
	PingTimeout = 3 * time.Second
	// MaxChunk is how many claims a Batch or a Replace may carry, so that a
	// renewal never waits long behind one.
	MaxChunk = 1000
	// MaxFind is how many IDs a FindRequest may carry.
	MaxFind = 1024
	// MaxWatches is how many nodes one Find stream may watch.
	MaxWatches = 1024
)

// A Hello begins a session. It covers nothing.
type Hello struct {
	Pool        string // the name of the pool it means; empty for any
	Proxy       Proxy
	Incarnation Incarnation
	HasClaims   bool

	// By is what the proxy has proved itself to be, empty where nobody proves
	// anything. It is not sent: who serves the stream says it.
	By string
}

// A Batch adds and removes claims, in order.
type Batch struct {
	Seq uint64 // of Batch, Replace, Renew and Release together: 1, 2, ... in a session
	Ops Ops
}

// A Replace gives shards anew, see AppendChunk. When a shard's last chunk has
// come, the new content takes the old one's place at once.
type Replace struct {
	Seq    uint64
	Chunks Chunks
}

// A Renew is the proxy's lease, and its confirm.
type Renew struct {
	Seq       uint64
	Nonce     lease.Nonce
	HasClaims bool
	Sum       Sum              // of all that was sent here, less the shards with a Replace under way
	View      ring.Fingerprint // complete for this view: every claim that it places here went before
}

// A Release names shards that the proxy no longer keeps here.
type Release struct {
	Seq    uint64
	Shards ring.ShardSet
}

// Dropped answers a Drop.
type Dropped struct {
	Token uint64
	Kept  []ID // those of the Drop that the proxy keeps
}

// A Welcome answers a Hello.
type Welcome struct {
	Tracker     lease.Process
	Pool        string
	Term        lease.Term
	Params      ring.Params
	Incarnation Incarnation // the highest that the tracker knows of this proxy
	Credits     uint32      // claims that may be sent and not acknowledged
	Sums        []ShardSum  // of the claims of this incarnation that it has, where there are any
}

// ViewSums names the view that a tracker has: its placement, and all the rest.
type ViewSums struct {
	Fingerprint ring.Fingerprint
	Sum         uint64
}

// A State says in which shards the session's claims count now, and of the other
// shards placed on this tracker why they do not. It replaces the State before.
type State struct {
	View    ring.Fingerprint // whose lists it speaks of
	Counted ring.ShardSet
	Why     []Uncounted
	Known   bool // more than half of the seats know this incarnation of the proxy
}

// Uncounted names shards in which a session's claims do not count.
type Uncounted struct {
	Why    Why
	Shards ring.ShardSet
}

// Why says why claims do not count. The first that applies is given.
type Why uint8

// The reasons for which claims do not count.
const (
	NotInForce Why = iota + 1 // fewer than half of the seats grant the list
	NotKnown                  // too few of the seats that grant it know this incarnation
	NoLease                   // no Renew is live
	NotProven                 // no sum or Replace has proven the shard in this session
	Stalled                   // the seats mark the proxy as one that does not confirm
)

func (w Why) String() string {
	switch w {
	case NotInForce:
		return "not in force"
	case NotKnown:
		return "proxy not known"
	case NoLease:
		return "no lease"
	case NotProven:
		return "not proven"
	case Stalled:
		return "stalled"
	}
	return "unspecified"
}

// A Differ answers a Renew whose sum is wrong with the sums of each shard that
// has claims here. That Renew prolonged nothing.
type Differ struct {
	Seq  uint64 // of the Renew
	Sums []ShardSum
}

// A Drop asks the proxy to drop claims, and says why; Dropped answers it.
type Drop struct {
	Token uint64
	IDs   []ID
	Why   string
}

// An End ends the session for good.
type End struct {
	Reason EndReason
	Known  Incarnation // the highest incarnation that the tracker knows, or the floor
	Detail string
}

// An EndReason says why a session ended.
type EndReason uint8

// The reasons for which a tracker ends a session.
const (
	EndSuperseded EndReason = iota + 1 // a later incarnation, or another process of the same number, is known
	EndRemoved                         // RemoveProxy set a floor above this incarnation
	EndBadInput                        // Detail names the field, the value and the limit
	EndReplaced                        // a newer session of the same incarnation took over
)

func (r EndReason) String() string {
	switch r {
	case EndSuperseded:
		return "superseded"
	case EndRemoved:
		return "removed"
	case EndBadInput:
		return "bad input"
	case EndReplaced:
		return "replaced by a newer session"
	}
	return "unspecified"
}

// A FindRequest is a batch of lookups on a Find stream. One without a Frame
// carries only watches, or tells that the reader is alive.
type FindRequest struct {
	Frame   uint64           // echoed; 1 and up
	View    ring.Fingerprint // the reader's
	IDs     IDs
	Watch   IDs
	Unwatch IDs
}

// A FindReply answers one FindRequest, or tells of watched nodes (Frame 0).
type FindReply struct {
	Frame    uint64
	View     ring.Fingerprint // the view whose lists the answers speak of
	Reset    bool             // forget all proxies told before on this stream
	Proxies  []Proxy          // told for the first time on this stream: they take the next numbers, from 0
	Answers  Answers          // in the order of the request's IDs
	ListSums []uint64         // of the shard of each ID, where View is not the request's
	Watched  IDs              // with Frame 0: the nodes that Answers speaks of
}

// A CopyFrame is what a tracker tells a holder of the unary claims that it has.
type CopyFrame struct {
	Seq     uint64 // 1, 2, ... on a stream
	From    lease.Process
	Claims  []UnaryClaim
	Confirm bool // all unary claims that View places there went before
	Nonce   lease.Nonce
	View    ring.Fingerprint
	Sums    []ShardSum // of unary claims, of the shards that View places on both
}

// A CopyReply is the holder's side of it.
type CopyReply struct {
	Ack    uint64 // the highest seq stored; 0 says nothing new
	Nonce  lease.Nonce
	Claims []UnaryClaim  // of shards whose sums differed: the holder's
	Want   ring.ShardSet // the shards that differed: the sender's are wanted
}

// A UnaryClaim is a claim that came without a session: AddNode's.
type UnaryClaim struct {
	Node       ID
	Proxy      Proxy
	Generation uint64
	Age        time.Duration
	Version    uint64        // a higher one wins
	Left       time.Duration // until its deadline; at equal versions the earlier deadline wins
	Gone       bool          // a removal
}

// A StoreRequest carries one unary claim from the tracker that took the call to
// a holder.
type StoreRequest struct {
	ListSum uint64 // of the list that the sender means; another one than the holder's is refused
	Claim   UnaryClaim
}

// A StoreReply is a holder's answer.
type StoreReply struct {
	Stored  bool
	Counted bool   // under a list that is in force
	Version uint64 // the one the holder has now, where it refused the claim for a higher one
	ListSum uint64 // the holder's, where the request named another
}

// A ViewInfo is a view with what a client must know to use it.
type ViewInfo struct {
	Pool   Pool
	View   ring.View
	Params ring.Params
}
