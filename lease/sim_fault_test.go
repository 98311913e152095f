package lease

import (
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// gossip gives a tracker a view: mostly what is so, as gossip would show it, and
// while there are faults now and then a wrong one.
func (t *simTracker) gossip() {
	s := t.s
	s.at(s.now+s.between(term/30, term/4), &t.process, t.gossip)
	for i, o := range s.trackers {
		if o == nil {
			continue
		}
		dead := !o.up && s.now-o.downAt > 4*time.Second || o.up && o.frozen > s.now && s.now-o.downAt > 4*time.Second
		if s.now < s.split && s.sides[i] != s.sides[t.index] && s.now-s.splitAt > 4*time.Second {
			dead = true
		}
		t.in[i], t.sees[i] = !dead, o.state
	}
	if !s.calm && s.r.Float64() < s.cfg.Flap {
		if i := s.r.IntN(len(t.in)); t.in[i] || s.trackers[i] != nil {
			t.in[i] = !t.in[i]
			if s.r.IntN(2) == 0 { // and back soon
				was := t.placed
				s.at(s.now+s.between(0, term/20), &t.process, func() {
					if was != nil && t.state == ring.Serving {
						for i := range t.in {
							m, ok := was.View().Member(memberID(i))
							t.in[i] = ok
							if ok {
								t.sees[i] = m.State
							}
						}
						t.adopt()
					}
				})
			}
		}
	}
	t.adopt()
}

// someTracker picks one that runs.
func (s *sim) someTracker() *simTracker {
	var l []*simTracker
	for _, t := range s.trackers {
		if t != nil && t.up && t.frozen <= s.now {
			l = append(l, t)
		}
	}
	if len(l) == 0 {
		return nil
	}
	return l[s.r.IntN(len(l))]
}

// running counts the trackers that serve.
func (s *sim) running() (n int) {
	for _, t := range s.trackers {
		if t != nil && t.up && t.state == ring.Serving {
			n++
		}
	}
	return n
}

// fault makes one thing go wrong.
func (s *sim) fault() {
	if s.calm {
		return
	}
	switch k := s.r.Float64(); {
	case k < s.cfg.Island:
		s.island()
		return
	case k < s.cfg.Island+s.cfg.Breaks:
		s.breakStreams()
		return
	}
	switch k := s.r.Float64(); {
	case k < .2:
		if t := s.someTracker(); t != nil && s.running() > 1 {
			s.crash(t)
			s.restartLater(t.index, s.between(0, 3*term))
		}
	case k < .34:
		if t := s.someTracker(); t != nil {
			s.freeze(&t.process)
		}
	case k < .38:
		if p := s.proxies[s.r.IntN(len(s.proxies))]; p.up && p.frozen <= s.now {
			s.freeze(&p.process)
		}
	case k < .56: // a link, one way or both
		a, b := s.r.IntN(s.cfg.Trackers), s.r.IntN(s.cfg.Trackers)
		if s.r.IntN(2) == 0 {
			a = s.cfg.Trackers + s.r.IntN(s.cfg.Proxies)
		}
		s.cut(a, b, s.between(0, 4*term))
		if s.r.IntN(2) == 0 {
			s.cut(b, a, s.between(0, 4*term))
		}
	case k < .59: // a proxy reaches one tracker alone
		d, p, only := s.between(0, 4*term), s.cfg.Trackers+s.r.IntN(s.cfg.Proxies), s.r.IntN(s.cfg.Trackers)
		for i := range s.cfg.Trackers {
			if i != only {
				s.cut(p, i, d)
			}
		}
	case k < .66: // streams break and are opened again
		s.breakStreams()
	case k < .76:
		s.endProxy(s.proxies[s.r.IntN(len(s.proxies))])
	case k < .82:
		s.leave()
	case k < .88: // all that never ran join at once
		for i, t := range s.trackers {
			if t == nil {
				s.joinNow(i)
			}
		}
	default:
		for i := range s.sides {
			s.sides[i] = s.r.IntN(2) == 0
		}
		s.splitAt, s.split = s.now, s.now+s.between(0, 4*term)
		s.tell("split until %v: %v", s.split, s.sides)
		s.severAll(func(st *stream) bool { return s.sides[st.a.link] != s.sides[st.b.link] && s.r.IntN(4) > 0 })
	}
}

// breakStreams breaks half of the streams of some process.
func (s *sim) breakStreams() {
	which := s.r.IntN(s.cfg.Trackers + s.cfg.Proxies)
	s.tell("streams of %d break", which)
	s.severAll(func(st *stream) bool { return (st.a.link == which || st.b.link == which) && s.r.IntN(2) == 0 })
}

// island cuts one tracker off, and with it a proxy that just ended one life and
// starts the next. Later the tracker may crash.
func (s *sim) island() {
	p, t := s.proxies[s.r.IntN(len(s.proxies))], s.someTracker()
	if t == nil || p.frozen > s.now || s.running() < 2 {
		return
	}
	s.tell("p-%d and t-%d are an island", p.index, t.index)
	s.goodbye(p)
	s.at(s.now+term/100, nil, func() {
		d := s.between(term, 4*term)
		for i := range s.cfg.Trackers {
			if i != t.index {
				s.cut(p.link, i, d)
				s.cut(t.index, i, d)
			}
		}
		if s.proxies[p.index] == p {
			s.startProxy(p.index, p.incarnation)
		}
	})
	if s.r.IntN(2) == 0 {
		s.at(s.now+s.between(term/2, 3*term/2), nil, func() {
			if t.up {
				s.crash(t)
				s.restartLater(t.index, s.between(0, 3*term))
			}
		})
	}
}

func (s *sim) goodbye(p *simProxy) {
	if !p.up {
		return
	}
	s.tell("p-%d says goodbye", p.index)
	for _, l := range p.links {
		if l.welcomed {
			p.send(l, func(t *simTracker, ss *simSession, _ uint64) { t.goodbye(ss) })
		}
	}
	p.stop()
}

func (s *sim) crash(t *simTracker) {
	s.tell("t-%d crashes", t.index)
	t.up, t.downAt = false, s.now
	s.custodySees(t)
	s.severAll(func(st *stream) bool { return st.a == &t.process || st.b == &t.process })
}

// restartLater starts a tracker again, with nothing.
func (s *sim) restartLater(i int, d time.Duration) {
	s.at(s.now+d, nil, func() {
		if t := s.trackers[i]; t == nil || !t.up {
			s.joinNow(i)
		}
	})
}

// joinNow starts a tracker that takes its first view from one that runs.
func (s *sim) joinNow(i int) {
	states := make([]ring.State, s.cfg.Trackers)
	if t := s.someTracker(); t != nil {
		for j := range states {
			if t.in[j] {
				states[j] = t.sees[j]
			}
		}
	}
	s.startTracker(i, states, false)
}

func (s *sim) freeze(p *process) {
	p.frozen, p.downAt = s.now+s.between(0, 5*term/2), s.now
	s.tell("%d freezes until %v", p.link, p.frozen)
	if p.frozen-s.now > 3*time.Second {
		s.at(s.now+3*time.Second, nil, func() {
			s.severAll(func(st *stream) bool { return (st.a == p || st.b == p) && s.r.IntN(4) > 0 })
		})
	}
}

func (s *sim) cut(a, b int, d time.Duration) {
	until := s.now + d
	s.tell("cut from %d to %d until %v", a, b, until)
	s.cuts[[2]int{a, b}] = until
	s.severAll(func(st *stream) bool {
		return (st.a.link == a && st.b.link == b || st.a.link == b && st.b.link == a) && s.r.IntN(3) > 0
	})
}

// endProxy ends a proxy, with or without a goodbye. Mostly it starts again.
func (s *sim) endProxy(p *simProxy) {
	if !p.up {
		s.startProxy(p.index, p.incarnation)
		return
	}
	if s.r.IntN(3) == 0 && p.frozen <= s.now {
		s.goodbye(p)
	} else {
		s.tell("p-%d dies", p.index)
		p.stop()
	}
	if s.r.IntN(4) > 0 {
		s.at(s.now+s.between(0, 2*term), nil, func() {
			if s.proxies[p.index] == p {
				s.startProxy(p.index, p.incarnation)
			}
		})
	}
}

// leave has a tracker leave the pool in order, and come again later.
func (s *sim) leave() {
	t := s.someTracker()
	if t == nil || s.running() < 3 || slices.ContainsFunc(s.trackers, func(o *simTracker) bool { return o != nil && o.up && o.state == ring.Leaving }) {
		return
	}
	s.tell("t-%d leaves", t.index)
	t.state = ring.Leaving
	t.adopt()
	s.at(s.now+s.between(term, 4*term), nil, func() {
		if t.up {
			s.crash(t)
			s.restartLater(t.index, s.between(0, 2*term))
		}
	})
}

// endFaults heals everything and starts what is down. What is frozen thaws in its time.
func (s *sim) endFaults() {
	s.tell("the faults end")
	clear(s.cuts)
	s.split = 0
	for i, t := range s.trackers {
		if t == nil || !t.up {
			s.joinNow(i)
		}
	}
}
