package node

import "sync"

// interned numbers values of which many claims have the same few, so that a claim
// needs no pointer to them. A value has a number for as long as somebody has taken it.
// The zero value is empty. It is safe for concurrent use; its lock is held for nothing
// else.
type interned[T comparable] struct {
	mu      sync.RWMutex
	numbers map[T]uint32 // guarded by mu, as is all below
	all     []used[T]
	free    []uint32
}

type used[T comparable] struct {
	value T
	by    int
}

// take returns the number of v, for which drop must be called once.
func (i *interned[T]) take(v T) uint32 {
	i.mu.Lock()
	defer i.mu.Unlock()
	n, ok := i.numbers[v]
	if !ok {
		if i.numbers == nil {
			i.numbers = make(map[T]uint32)
		}
		if last := len(i.free) - 1; last >= 0 {
			n, i.free = i.free[last], i.free[:last]
		} else {
			n = uint32(len(i.all))
			i.all = append(i.all, used[T]{})
		}
		i.all[n].value = v
		i.numbers[v] = n
	}
	i.all[n].by++
	return n
}

// drop takes one take back.
func (i *interned[T]) drop(n uint32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	u := &i.all[n]
	if u.by--; u.by > 0 {
		return
	}
	delete(i.numbers, u.value)
	*u = used[T]{}
	if len(i.numbers) == 0 { // a map keeps the room it once had
		i.numbers, i.all, i.free = nil, nil, nil
		return
	}
	i.free = append(i.free, n)
}

// of returns the value of a number that is taken.
func (i *interned[T]) of(n uint32) T {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.all[n].value
}

// number returns the number of v, if somebody has taken it.
func (i *interned[T]) number(v T) (n uint32, ok bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	n, ok = i.numbers[v]
	return n, ok
}
