package trackercmd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

const (
	// askSeatsEvery is how often members are asked for the seats, and askSeatsTime
	// how long one has to answer.
	askSeatsEvery = 500 * time.Millisecond
	askSeatsTime  = 2 * time.Second

	// noSeatsAgain is how often it is logged that the seats are not known yet.
	noSeatsAgain = 30 * time.Second
)

var errNobody = errors.New("no tracker that serves has been reached")

// learnSeats asks the members of the pool for its seats until one tells, and
// announces them. It waits for as long as it takes: a failed look-up of a name
// must not make a second pool.
func (r *runner) learnSeats(ctx context.Context, dial node.Dialer) ([][]ring.MemberID, error) {
	ticker := time.NewTicker(askSeatsEvery)
	defer ticker.Stop()
	var told time.Time
	for {
		seats, err := askSeats(ctx, r.gossip.View(), ring.MemberID(r.cfg.id), dial)
		if err == nil {
			err = r.gossip.SetSeats(seats)
		}
		if err == nil {
			r.log.Info("seats learnt", "seats", seats)
			return seats, nil
		}
		if time.Since(told) >= noSeatsAgain {
			r.log.Warn("waiting for a tracker of the pool to tell the seats; give seats if there is no pool yet", "join", r.cfg.join, "err", err)
			told = time.Now()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.gossip.Done():
			return nil, r.gossip.Err()
		}
	}
}

// askSeats asks the members but self, one after the other in no order, for the
// seats of their pool.
func askSeats(ctx context.Context, v ring.View, self ring.MemberID, dial node.Dialer) ([][]ring.MemberID, error) {
	members := v.Members()
	err := errNobody
	for _, i := range rand.Perm(len(members)) {
		m := members[i]
		if m.ID == self || m.State == ring.Joining {
			continue
		}
		seats, askErr := askMember(ctx, m, dial)
		if askErr == nil {
			return seats, nil
		}
		err = askErr
	}
	return nil, err
}

func askMember(ctx context.Context, m ring.Member, dial node.Dialer) ([][]ring.MemberID, error) {
	conn, err := dial(m)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, askSeatsTime)
	defer cancel()
	info, err := conn.View(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("ask tracker %q for the seats: %w", m.ID, err)
	}
	if len(info.Pool.Seats) == 0 {
		return nil, fmt.Errorf("tracker %q tells no seats", m.ID)
	}
	return info.Pool.Seats, nil
}
