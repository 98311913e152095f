package pool

import (
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A process is what is remembered of one life of a tracker: what it may answer
// with, and until when. It outlives the sessions with it. Guarded by Client.mu.
type process struct {
	id      lease.Process
	session *session      // welcomed and not ended, or nil
	told    ring.ShardSet // shards of which it may have claims of ours

	// Until leaseEnd it may answer FOUND with what it has; zero where no Renew went.
	leaseEnd time.Time

	// The newest nonce, and when it first came: the same nonce sent again prolongs
	// nothing.
	nonce   lease.Nonce
	nonceAt time.Time
}

// processLocked returns the record of a tracker's life, which it makes.
func (c *Client) processLocked(id lease.Process) *process {
	p := c.processes[id]
	if p == nil {
		p = &process{id: id, told: ring.NewShardSet(c.shards)}
		c.processes[id] = p
	}
	return p
}

// heard notes a nonce.
func (p *process) heard(n lease.Nonce, now time.Time) {
	if n > p.nonce {
		p.nonce, p.nonceAt = n, now
	}
}

// renewed notes that a Renew echoes the newest nonce. The tracker counts a term
// from when it made that nonce, on a clock that may run slower than ours.
func (p *process) renewed(term lease.Term) {
	if end := p.nonceAt.Add(term.Given()); end.After(p.leaseEnd) {
		p.leaseEnd = end
	}
}

// forgetProcessesLocked drops the records of processes that can answer with
// nothing any more.
func (c *Client) forgetProcessesLocked(now time.Time) {
	for id, p := range c.processes {
		if p.session == nil && !now.Before(p.leaseEnd) {
			delete(c.processes, id)
		}
	}
}
