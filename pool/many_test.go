package pool

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// many is what LookupMany says of ids, which it must say once.
func many(ctx context.Context, t *testing.T, c *Client, ids []node.ID) []lookup {
	t.Helper()
	all, said := make([]lookup, len(ids)), make([]int, len(ids))
	c.LookupMany(ctx, ids, func(i int, answer node.Answer, claims []node.Claim, err error) {
		all[i] = lookup{answer, claims, err}
		said[i]++
	})
	for i, n := range said {
		if n != 1 {
			t.Fatalf("%s was answered %d times", ids[i], n)
		}
	}
	return all
}

// answersByName makes the tracker answer according to the first letter of a node: f is
// found, a is absent, u is unknown, and at e there is an error.
func (f *fake) answersByName(after time.Duration) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.finds = 0
	f.answer = func(k node.Key) (node.FindResult, error) {
		time.Sleep(after)
		f.w.mu.Lock()
		defer f.w.mu.Unlock()
		r := node.FindResult{View: f.w.present.Fingerprint()}
		switch id := k.ID(); id[0] {
		case 'f':
			r.Answer, r.Claims = node.Found, []node.Claim{{Node: id, Proxy: node.Proxy{ID: "p"}}}
		case 'a':
			r.Answer = node.Absent
		case 'e':
			return r, node.ErrUnavailable
		}
		return r, nil
	}
}

// namesOf returns n names with each of some first letters.
func namesOf(letters string, n int) (ids []node.ID) {
	for i := range n {
		for _, l := range letters {
			ids = append(ids, node.ID(fmt.Sprintf("%c%d", l, i)))
		}
	}
	return ids
}

func check(t *testing.T, ids []node.ID, all []lookup) {
	t.Helper()
	for i, id := range ids {
		l := all[i]
		ok := false
		switch id[0] {
		case 'f':
			ok = l.err == nil && l.answer == node.Found && len(l.claims) == 1 && l.claims[0].Node == id
		case 'a':
			ok = l.err == nil && l.answer == node.Absent && len(l.claims) == 0
		case 'u':
			ok = l.err == nil && l.answer == node.Unknown
		case 'e':
			ok = errors.Is(l.err, node.ErrUnavailable)
		}
		if !ok {
			t.Fatalf("%s: %+v", id, l)
		}
	}
}

// LookupMany says what Lookup says, of many more nodes than are under way at a time.
func TestLookupMany(t *testing.T) {
	reading(t, func(t *testing.T, _ *world, c *Client, first, second, other *fake) {
		for _, f := range []*fake{first, second, other} {
			f.answersByName(ms)
		}
		hits := namesOf("f", 3*batchAtOnce+1)
		check(t, hits, many(t.Context(), t, c, hits))
		if n := first.asked() + second.asked() + other.asked(); n != len(hits) {
			t.Errorf("%d nodes took %d asks", len(hits), n)
		}
		ids := namesOf("faue", 500)
		began := time.Now()
		check(t, ids, many(t.Context(), t, c, ids))
		if d := time.Since(began); d > 2*viewWait {
			t.Errorf("took %v", d)
		}
		for i, l := range many(t.Context(), t, c, []node.ID{"f1", "", "a1"}) {
			var invalid *node.InvalidError
			if errors.As(l.err, &invalid) != (i == 1) {
				t.Errorf("%d: %+v", i, l)
			}
		}
		if all := many(t.Context(), t, c, nil); len(all) != 0 {
			t.Errorf("no nodes: %v", all)
		}
	})
}

// One that fails, is slow or says nothing keeps no answer away that another holder has.
func TestLookupManyGoesToOthers(t *testing.T) {
	reading(t, func(t *testing.T, w *world, c *Client, first, second, other *fake) {
		second.answersByName(ms)
		other.answersByName(ms)
		ids := namesOf("f", 1000)
		first.fails(ms)
		check(t, ids, many(t.Context(), t, c, ids))
		w.mu.Lock()
		first.answer = nil // never
		w.mu.Unlock()
		began := time.Now()
		check(t, ids, many(t.Context(), t, c, ids))
		if d := time.Since(began); d > 2*silentAfter {
			t.Errorf("a silent tracker made it last %v", d)
		}
	})
}

func TestLookupManyEnds(t *testing.T) {
	reading(t, func(t *testing.T, w *world, c *Client, first, second, other *fake) {
		for _, f := range []*fake{first, second, other} {
			w.mu.Lock()
			f.answer = nil // never
			w.mu.Unlock()
		}
		ids := namesOf("f", batchAtOnce)
		ctx, cancel := context.WithTimeout(t.Context(), 10*ms)
		defer cancel()
		for i, l := range many(ctx, t, c, append(ids, ids...)) {
			if !errors.Is(l.err, context.DeadlineExceeded) {
				t.Fatalf("%d: %+v", i, l)
			}
		}
		time.AfterFunc(10*ms, func() { _ = c.Close() })
		for i, l := range many(t.Context(), t, c, append(ids, ids...)) {
			if !errors.Is(l.err, node.ErrClosed) {
				t.Fatalf("%d: %+v", i, l)
			}
		}
	})
}

// LookupMany shares the cache with Lookup.
func TestLookupManyCaches(t *testing.T) {
	reading(t, func(t *testing.T, _ *world, c *Client, first, second, other *fake) {
		c.cache = newCache(10_000)
		for _, f := range []*fake{first, second, other} {
			f.answersByName(ms)
		}
		ids := append(namesOf("fau", 50), namesOf("fau", 50)...)
		check(t, ids, many(t.Context(), t, c, ids))
		before := first.asked() + second.asked() + other.asked()
		ids = namesOf("fa", 50)
		check(t, ids, many(t.Context(), t, c, ids))
		if n := first.asked() + second.asked() + other.asked(); n != before {
			t.Errorf("%d asks for what is kept", n-before)
		}
		c.Invalidate("f1")
		check(t, ids, many(t.Context(), t, c, ids))
		if n := first.asked() + second.asked() + other.asked(); n != before+2 {
			t.Errorf("%d asks for one that is to be asked anew, want 2", n-before)
		}
	})
}
