package lease

import (
	"slices"
	"time"
)

// stream is an ordered stream between two processes: a dialled b.
type stream struct {
	a, b   *process
	broken bool
	lost   [2]bool          // by direction: the rest of what was on its way is lost
	last   [2]time.Duration // when the last message arrives
	ended  [2]func()        // what either side does when it notices the end
}

// connected reports whether a message gets from one process to another.
func (s *sim) connected(from, to *process) bool {
	if s.cfg.DeadLink && (s.dead == [2]int{from.link, to.link} || s.dead == [2]int{to.link, from.link}) {
		return false
	}
	if s.cuts[[2]int{from.link, to.link}] > s.now {
		return false
	}
	return s.now >= s.split || s.sides[from.link] == s.sides[to.link]
}

// dial opens a stream. It returns nil where the other side does not answer.
func (s *sim) dial(a, b *process, aEnded, bEnded func()) *stream {
	if !b.up || b.frozen > s.now || !s.connected(a, b) || !s.connected(b, a) {
		return nil
	}
	st := &stream{a: a, b: b, ended: [2]func(){aEnded, bEnded}}
	s.streams = append(s.streams, st)
	return st
}

// send has f happen at the other side, after all that was sent before. What is on
// its way when the stream breaks is lost from some message on; the rest comes late.
func (s *sim) send(st *stream, from *process, f func()) {
	if st == nil || st.broken {
		return
	}
	dir, to := 0, st.b
	if from == st.b {
		dir, to = 1, st.a
	}
	if !s.connected(from, to) {
		s.sever(st)
		return
	}
	d := s.between(simRoundTrip/8, simRoundTrip)
	if s.r.IntN(20) == 0 {
		d += s.between(0, term/30)
	}
	st.last[dir] = max(st.last[dir]+1, s.now+d)
	late := s.r.Float64()
	s.at(st.last[dir], to, func() {
		switch {
		case st.lost[dir]:
		case !st.broken:
			f()
		case late < .5:
			st.lost[dir] = true
		default:
			st.last[dir] = max(st.last[dir], s.now) + s.between(1, time.Duration((late-.5)*float64(term)))
			s.at(st.last[dir], to, f)
		}
	})
}

// sever breaks a stream. Either side notices in its own time.
func (s *sim) sever(st *stream) {
	if st.broken {
		return
	}
	st.broken = true
	for i, p := range []*process{st.a, st.b} {
		s.at(s.now+s.between(time.Millisecond, 3*time.Second), p, st.ended[i])
	}
}

// severAll breaks the streams for which f holds.
func (s *sim) severAll(f func(*stream) bool) {
	s.streams = slices.DeleteFunc(s.streams, func(st *stream) bool { return st.broken })
	for _, st := range s.streams {
		if f(st) {
			s.sever(st)
		}
	}
}
