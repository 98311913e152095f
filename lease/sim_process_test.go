package lease

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// process is one life of a tracker or a proxy, on a clock of its own.
type process struct {
	link   int // in cuts and sides: trackers, then proxies
	up     bool
	frozen time.Duration // until
	rate   float64
	offset time.Duration
	downAt time.Duration
}

func (s *sim) newProcess(link int) process {
	return process{link: link, up: true, rate: .96 + .08*s.r.Float64(), offset: time.Duration(s.r.Int64N(int64(time.Hour)))}
}

func (p *process) time(now time.Duration) time.Time {
	return time.Unix(0, int64(p.offset)+int64(float64(now)*p.rate)+int64(time.Hour))
}

// truly is when the process' clock shows t.
func (p *process) truly(t time.Time) time.Duration {
	return time.Duration(float64(t.UnixNano()-int64(time.Hour)-int64(p.offset))/p.rate) + 1
}

// places keeps placements by what is in the view, for all schedules.
type places struct {
	mu sync.Mutex
	m  map[string]*ring.Placement // guarded by mu
}

func newPlaces() *places { return &places{m: map[string]*ring.Placement{}} }

// of is the placement of a view, or nil where it places nothing.
func (c *places) of(states []ring.State, in []bool, shards, replicas int) *ring.Placement {
	var b strings.Builder
	b.WriteString(strconv.Itoa(shards))
	b.WriteByte('0' + byte(replicas))
	for i, st := range states {
		if !in[i] {
			b.WriteByte('-')
			continue
		}
		b.WriteByte('0' + byte(st))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.m[b.String()]
	if !ok {
		var members []ring.Member
		for i, st := range states {
			if in[i] {
				members = append(members, ring.Member{ID: memberID(i), State: st})
			}
		}
		v, err := ring.NewView(members...)
		if err != nil {
			panic(err)
		}
		if v.Placed() > 0 {
			if p, err = ring.Place(v, ring.Params{Algorithm: 1, Shards: shards, Replicas: replicas}); err != nil {
				panic(err)
			}
		}
		c.m[b.String()] = p
	}
	return p
}
