package pool

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// setState has the present view show a tracker in another state.
func (w *world) setState(id ring.MemberID, state ring.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	members := slices.Clone(w.present.View().Members())
	for i := range members {
		if members[i].ID == id {
			members[i].State, members[i].Boot = state, w.trackers[id].boot
		}
	}
	v, err := ring.NewView(members...)
	if err != nil {
		w.t.Fatal(err)
	}
	info := w.views[w.present.Fingerprint()]
	if w.present, err = ring.Place(v, info.Params); err != nil {
		w.t.Fatal(err)
	}
	info.View = v
	w.views[w.present.Fingerprint()] = info
	for _, f := range w.trackers {
		select {
		case f.view <- struct{}{}:
		default:
		}
	}
}

// A tracker that restarts with its claims has them before a view places it again. The
// client does not release them meanwhile; it does where no view comes.
func TestRestartedTrackerKeepsItsClaims(t *testing.T) {
	for _, comes := range []bool{true, false} {
		t.Run(fmt.Sprintf("placed again %v", comes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { restartedKeeps(t, comes) })
		})
	}
}

func restartedKeeps(t *testing.T, comes bool) {
	w := newWorld(t, 1, 64)
	w.setView("a", "b", "c")
	c := w.open(t.Context(), "p")
	defer c.Close()
	edits := make([]edit, 500)
	for i := range edits {
		k, err := node.ParseID(node.ID(fmt.Sprintf("node-%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		edits[i] = edit{key: k, hash: k.Hash()}
	}
	if err := w.write(t.Context(), c, true, edits); err != nil {
		t.Fatal(err)
	}
	if err := c.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}

	f := w.trackers["c"]
	w.mu.Lock()
	had := f.table.Len()
	f.boot++
	f.cutLocked()
	w.mu.Unlock()
	w.setState("c", ring.Joining)
	time.Sleep(w.term.Renewal() - 500*time.Millisecond) // a session has begun long before
	synctest.Wait()
	w.mu.Lock()
	if f.released > 0 || f.table.Len() != had || had == 0 {
		t.Errorf("%d shards were released; %d claims of %d are left", f.released, f.table.Len(), had)
	}
	w.mu.Unlock()
	if comes {
		w.setState("c", ring.Serving)
	}
	time.Sleep(2 * time.Duration(w.term))
	if err := c.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	w.mu.Lock()
	if comes != (f.released == 0) {
		t.Errorf("%d shards were released in the end", f.released)
	}
	w.mu.Unlock()
	w.check(c)
}
