package trackercmd

import (
	"log/slog"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// Ports of the default addresses. Manifests are held to them.
const (
	GRPCPort   = 7940
	GossipPort = membership.DefaultPort
	AdminPort  = 7948
	ProbePort  = 7949 // where there is a probe address; it has no default
)

const (
	// DefaultDrainDeadline is how long a tracker that leaves waits for proxies to
	// fill the others.
	DefaultDrainDeadline = 30 * time.Second

	// DefaultSaveInterval is how often claims are saved in data_dir, about.
	DefaultSaveInterval = time.Minute

	// DefaultTraceSample is the ratio of calls that are traced where traces are wanted
	// and the caller says nothing of them.
	DefaultTraceSample = 0.001

	// StopTime is how long a stop takes at most, after the drain deadline.
	StopTime = serverStopTime + gossipLeaveTime + adminStopTime + traceFlushTime
)

// lonePool is the name of a pool of one that was given none.
const lonePool = "local"

// config is what a tracker was told: each field is the option of its name.
type config struct {
	enabled                bool
	id                     string
	zone                   string
	pool                   string
	listenAddr             string
	advertiseAddr          string
	gossipAddr             string
	adminAddr              string
	probeAddr              string // empty: none
	join                   []string
	seats                  [][]ring.MemberID // the sets, the newest last
	newPool                bool
	replicas               []int
	shards                 int
	term                   time.Duration
	proxyKeepAliveInterval time.Duration
	drainDeadline          time.Duration
	dataDir                string // empty: claims are not saved
	saveInterval           time.Duration
	httpsKeypairs          []rpc.KeyPair
	clientCAFile           string
	caFile                 string
	identities             []string // rules, or identitiesOff
	insecure               bool
	limits                 limits
	gossipKeyFile          string
	pprof                  bool
	traceEndpoint          string // empty: nothing is traced
	traceSample            float64
	traceCAFile            string
	tracePlain             bool
	logFormat              string
	logLevel               slog.Level
}

// defaultConfig is a pool of one on loopback. The ID, which is the machine's
// name by default, and the pool are filled in when all sources were read.
func defaultConfig() config {
	return config{
		enabled:                true,
		listenAddr:             loopback(GRPCPort),
		gossipAddr:             loopback(GossipPort),
		adminAddr:              loopback(AdminPort),
		identities:             []string{access.DefaultRule},
		limits:                 defaultLimits(),
		replicas:               []int{2},
		shards:                 node.DefaultShards,
		term:                   lease.DefaultTerm.Held(),
		proxyKeepAliveInterval: node.DefaultKeepAlive,
		drainDeadline:          DefaultDrainDeadline,
		saveInterval:           DefaultSaveInterval,
		traceSample:            DefaultTraceSample,
		logFormat:              "text",
		logLevel:               slog.LevelInfo,
	}
}

// identitiesOff is the value of identities with which nobody is asked who he is.
const identitiesOff = "off"

// asksWho reports whether callers are let do only what their identity may.
func (c *config) asksWho() bool {
	return len(c.httpsKeypairs) > 0 && !slices.Equal(c.identities, []string{identitiesOff})
}

// alone reports whether no other tracker is named: it is then a pool of one, and
// its only seat.
func (c *config) alone() bool { return len(c.join) == 0 && len(c.seats) == 0 }

// learns reports whether the tracker learns the seats from the pool it joins.
func (c *config) learns() bool { return len(c.join) > 0 && len(c.seats) == 0 }
