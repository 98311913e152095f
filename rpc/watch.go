package rpc

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// watches are the nodes that a Finder watches, and what its stream has yet to be
// told of them.
type watches struct {
	changed chan struct{} // of size 1, a doorbell: untold, or the first watch

	mu     sync.Mutex // guards the rest
	byKey  map[node.Key]*watch
	told   bool                  // a stream is open and knows all but untold
	untold map[node.Key]struct{} // empty while none is open
}

type watch struct {
	changed func(node.FindResult)
	forget  func() bool // takes it off its context
}

func (w *watches) init() {
	w.changed = make(chan struct{}, 1)
	w.byKey = make(map[node.Key]*watch)
	w.untold = make(map[node.Key]struct{})
}

// Watch calls changed with what the tracker answers for k whenever that changes,
// until ctx ends or Unwatch is called, over as many streams as it takes. It
// replaces an earlier watch of k. The error is an *OverloadError for more than
// node.MaxWatches nodes. changed is called by the goroutine that receives all
// answers: it must not wait, and may be called once more after the end.
func (f *Finder) Watch(ctx context.Context, k node.Key, changed func(node.FindResult)) error {
	if !f.watches.add(ctx, k, changed) {
		return &node.OverloadError{What: "watches at one tracker, of which there are " + strconv.Itoa(node.MaxWatches), After: time.Second}
	}
	return nil
}

// Unwatch ends the watch of k, if there is one.
func (f *Finder) Unwatch(k node.Key) { f.watches.remove(k, nil) }

func (w *watches) add(ctx context.Context, k node.Key, changed func(node.FindResult)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	had, ok := w.byKey[k]
	switch {
	case ok:
		had.forget()
	case len(w.byKey) >= node.MaxWatches:
		return false
	}
	added := &watch{changed: changed}
	added.forget = context.AfterFunc(ctx, func() { w.remove(k, added) })
	w.byKey[k] = added
	w.ringLocked(k)
	return true
}

// remove ends the watch of k if it is that one, or any for nil.
func (w *watches) remove(k node.Key, that *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if had, ok := w.byKey[k]; ok && (that == nil || had == that) {
		had.forget()
		delete(w.byKey, k)
		w.ringLocked(k)
	}
}

func (w *watches) ringLocked(k node.Key) {
	if w.told {
		w.untold[k] = struct{}{}
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// take returns what the stream is to be told: all watches for a new stream, else
// what changed.
func (w *watches) take(all bool) (watch, unwatch []node.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if all {
		for k := range w.byKey {
			watch = append(watch, k)
		}
	} else {
		for k := range w.untold {
			if _, ok := w.byKey[k]; ok {
				watch = append(watch, k)
			} else {
				unwatch = append(unwatch, k)
			}
		}
	}
	clear(w.untold)
	w.told = true
	return watch, unwatch
}

// lost says that the stream is gone, and all that it knew.
func (w *watches) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = false
	clear(w.untold)
}

func (w *watches) of(k node.Key) *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byKey[k]
}

// sendWatches tells the tracker first what it need not watch, so that there is
// room for the others.
func (s *findStream) sendWatches(all bool) error {
	watch, unwatch := s.watches.take(all)
	for len(unwatch) > 0 {
		n := min(len(unwatch), node.MaxFind)
		if err := s.Send(&node.FindRequest{View: s.view, Unwatch: packed(unwatch[:n])}); err != nil {
			return err
		}
		unwatch, s.sent = unwatch[n:], true
	}
	if len(watch) == 0 {
		return nil
	}
	s.sent = true
	return s.Send(&node.FindRequest{View: s.view, Watch: packed(watch)}) // at most MaxWatches
}

func packed(keys []node.Key) node.IDs {
	var ids node.IDs
	for _, k := range keys {
		ids = node.AppendID(ids, k)
	}
	return ids
}

// watched calls back for the watched nodes that a reply speaks of.
func (s *findStream) watched(r *node.FindReply) error {
	keys, answers := r.Watched.Cursor(), r.Answers.Cursor()
	var k node.Key
	for i := 0; keys.Next(&k) && answers.Next(&s.answer); i++ {
		claims, err := s.claims(k, "")
		if err != nil {
			return err
		}
		result := node.FindResult{Answer: s.answer.Answer, Claims: claims, View: r.View}
		if i < len(r.ListSums) {
			result.ListSum = r.ListSums[i]
		}
		if w := s.watches.of(k); w != nil {
			w.changed(result)
		}
	}
	if err := keys.Err(); err != nil {
		return err
	}
	return answers.Err()
}
