package loadtest

import (
	"context"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

const (
	sweepers   = 4                      // calls of LookupMany under way
	sweepRow   = 1 << 12                // nodes that one of them looks up
	sweepAgain = 100 * time.Millisecond // before those that were not found are looked up again
)

// sweep looks up every node, or every stride-th, until each was found once. It
// returns how many were not at the first attempt. What it looks up is not of the
// window under way.
func (l *load) sweep(ctx context.Context, t *tally, stride int) (missed int, err error) {
	t.apart = true
	all := make([]uint32, 0, l.work.nodes/stride+1)
	for n := 0; n < l.work.nodes; n += stride {
		all = append(all, uint32(n))
	}
	left := l.sweepOnce(ctx, t, all)
	missed = len(left)
	for len(left) > 0 && ctx.Err() == nil {
		pause(ctx, sweepAgain)
		left = l.sweepOnce(ctx, t, left)
	}
	return missed, context.Cause(ctx)
}

// sweepOnce looks up nodes, and returns those that were not found.
func (l *load) sweepOnce(ctx context.Context, t *tally, numbers []uint32) []uint32 {
	var mu sync.Mutex
	var left []uint32
	next := make(chan []uint32)
	var wg sync.WaitGroup
	for range sweepers {
		wg.Go(func() {
			for row := range next {
				missed := l.lookupMany(t, row, scramble(l.work.seed+2, uint64(row[0])))
				mu.Lock()
				left = append(left, missed...)
				mu.Unlock()
			}
		})
	}
	for from := 0; from < len(numbers) && ctx.Err() == nil; from += sweepRow {
		next <- numbers[from:min(from+sweepRow, len(numbers))]
	}
	close(next)
	wg.Wait()
	return left
}

// lookupMany looks up nodes that exist, nearly all at one client, judges the answers,
// and returns those that were not found.
func (l *load) lookupMany(t *tally, numbers []uint32, choice uint64) (missed []uint32) {
	asked := make(map[*life][]question)
	for _, n := range numbers {
		q := l.question(uint64(n), time.Now())
		reader := l.fleet.reader(q.before.home, choice)
		asked[reader] = append(asked[reader], q)
	}
	for reader, questions := range asked {
		ids := make([]node.ID, len(questions))
		for i, q := range questions {
			ids[i] = l.work.id(q.number)
		}
		reader.client.LookupMany(l.deadline.context(), ids, func(i int, answer node.Answer, claims []node.Claim, err error) {
			if !l.answered(t, reader, questions[i], answer, claims, err) {
				missed = append(missed, uint32(questions[i].number))
			}
		})
	}
	return missed
}
