package pool

import "slices"

// A fifo is a queue in one slice. The zero fifo is empty.
type fifo[T any] struct {
	items []T // the first head of them are gone
	head  int
}

// keepCap is the capacity up to which an emptied fifo keeps its memory.
const keepCap = 4096

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) push(v T) {
	if len(f.items) == cap(f.items) && f.head > len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

// front is the oldest item. The fifo must not be empty.
func (f *fifo[T]) front() *T { return &f.items[f.head] }

// all returns the items, oldest first, until the next change.
func (f *fifo[T]) all() []T { return f.items[f.head:] }

// filter removes what drop says.
func (f *fifo[T]) filter(drop func(T) bool) {
	f.items = f.items[:f.head+len(slices.DeleteFunc(f.all(), drop))]
	f.pop(0)
}

// pop drops the n oldest items.
func (f *fifo[T]) pop(n int) {
	clear(f.items[f.head : f.head+n])
	f.head += n
	if f.head < len(f.items) {
		return
	}
	f.items, f.head = f.items[:0], 0
	if cap(f.items) > keepCap {
		f.items = nil
	}
}
