package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/internal/memnet"
)

// A step is one line of a script: a time since the start, a verb and its words.
//
//	start|crash|poweroff|restart t...         of trackers; restart is crash and start
//	leave t 5s; upgrade 5s                    the latter is leave and start, one tracker after
//	                                          the other; each is to be drained within the time
//	back t... 1h                              its wall clock, from its next start on
//	spoil t...                                what it has saved
//	seats 5; replicas 3                       changes them, by two rolling restarts
//	open|close|crash|poweroff|restart p...    of proxies
//	freeze x... 12s                           of either
//	twin p; ahead p 1h                        a second process of its ID; one with a fast clock
//	forget p                                  RemoveProxy
//	cut a b 10s; cut a > b 10s                both directions or one, and heals it after
//	split a,b 10s                             these from all others
//	reset a b                                 all connections between two
//	slow a 300ms 10s                          each way
//	weather 10s delay=5ms jitter=20ms loss=.1 twice=.1
//	rest; work                                of nodes
//	heal                                      everything
//	expect open 2s                            all trackers have opened all they hold
//	expect settled 60s                        and all that is to be found is found everywhere
//
// A step does not wait for the one before, but on the same machine.
type step struct {
	at    time.Duration
	verb  string
	words []string
	wait  time.Duration // the duration at its end
}

// parse reads a script: a step a line, what is after # is ignored.
func parse(script string) ([]step, error) {
	var steps []step
	for i, line := range strings.Split(script, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		at, err := time.ParseDuration(words[0])
		if err != nil || len(words) < 2 {
			return nil, fmt.Errorf("line %d, %q: give a time and a verb: %w", i+1, line, err)
		}
		s := step{at: at, verb: words[1], words: words[2:]}
		if n := len(s.words); n > 0 {
			if d, err := time.ParseDuration(s.words[n-1]); err == nil {
				s.words, s.wait = s.words[:n-1], d
			}
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// Run runs a script to its end. What it finds wrong is in Violations.
func (p *Pool) Run(script string) error {
	steps, err := parse(script)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, s := range steps {
		p.sleep(time.Until(p.began.Add(s.at)))
		if s.verb == "expect" { // what comes after it is not to disturb it
			wg.Wait()
		}
		run, err := p.action(s)
		if err != nil {
			return fmt.Errorf("%v %s %s: %w", s.at, s.verb, strings.Join(s.words, " "), err)
		}
		p.note("%s %s %v", s.verb, strings.Join(s.words, " "), s.wait)
		if s.verb == "expect" {
			run()
			continue
		}
		p.counts.faults.Add(1)
		p.acting.Add(1)
		wg.Go(func() {
			run()
			p.disturbed.Store(time.Since(p.began).Nanoseconds())
			p.acting.Add(-1)
		})
	}
	return nil
}

// action returns what a step does.
func (p *Pool) action(s step) (func(), error) {
	switch s.verb {
	case "rest", "work":
		return func() { p.working.Store(s.verb == "work") }, nil
	case "heal":
		return p.healAll, nil
	case "upgrade":
		return func() { p.upgrade(s.wait) }, nil
	case "expect":
		return p.expectation(s)
	case "seats", "replicas":
		return p.change(s)
	case "weather":
		return p.weather(s)
	case "cut", "reset":
		return p.linkAction(s)
	case "split":
		if len(s.words) != 1 {
			return nil, fmt.Errorf("give one list of names, joined by commas")
		}
		return func() { p.split(strings.Split(s.words[0], ","), s.wait) }, nil
	case "slow":
		if len(s.words) != 2 {
			return nil, fmt.Errorf("give a name, by how much and for how long")
		}
		late, err := time.ParseDuration(s.words[1])
		return func() {
			p.slowDown(s.words[0], late)
			p.sleep(s.wait)
			p.slowDown(s.words[0], 0)
		}, err
	}
	return p.machineAction(s)
}

func (p *Pool) linkAction(s step) (func(), error) {
	w := slices.DeleteFunc(slices.Clone(s.words), func(w string) bool { return w == ">" })
	if len(w) != 2 {
		return nil, fmt.Errorf("give two names")
	}
	if s.verb == "reset" {
		return func() { p.reset(w[0], w[1]) }, nil
	}
	return func() {
		p.cut(w[0], w[1])
		if len(w) == len(s.words) {
			p.cut(w[1], w[0])
		}
		p.sleep(s.wait)
		p.heal(w[0], w[1])
	}, nil
}

// split cuts some machines off all others.
func (p *Pool) split(side []string, d time.Duration) {
	var other []string
	p.mu.Lock()
	for name := range p.machines {
		if !slices.Contains(side, name) {
			other = append(other, name)
		}
	}
	p.mu.Unlock()
	both := func(do func(a, b string)) {
		for _, a := range side {
			for _, b := range other {
				do(a, b)
				do(b, a)
			}
		}
	}
	both(p.cut)
	p.sleep(d)
	both(p.heal)
}

func (p *Pool) weather(s step) (func(), error) {
	// The duration is the first word; the last may look like one.
	if len(s.words) == 0 {
		return nil, fmt.Errorf("give for how long, and what")
	}
	d, err := time.ParseDuration(s.words[0])
	if err != nil {
		return nil, err
	}
	q := quality{Quality: memnet.Quality{Delay: time.Millisecond}}
	for _, w := range s.words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "delay":
			q.Delay, err = time.ParseDuration(value)
		case "jitter":
			q.Jitter, err = time.ParseDuration(value)
		case "loss":
			q.Drop, err = strconv.ParseFloat(value, 64)
		case "twice":
			q.twice, err = strconv.ParseFloat(value, 64)
		default:
			err = fmt.Errorf("%q: give delay, jitter, loss or twice", w)
		}
		if err != nil {
			return nil, err
		}
	}
	return func() {
		p.setQuality(q)
		p.sleep(d)
		p.setQuality(p.calm())
	}, nil
}

// change is of what all trackers are to be given.
func (p *Pool) change(s step) (func(), error) {
	if len(s.words) != 1 {
		return nil, fmt.Errorf("give how many")
	}
	n, err := strconv.Atoi(s.words[0])
	if err != nil || n < 1 || n > len(p.trackers) {
		return nil, fmt.Errorf("%q: give 1 to %d", s.words[0], len(p.trackers))
	}
	if s.verb == "seats" {
		return func() { p.reseat(n) }, nil
	}
	return func() { p.recopy(n) }, nil
}

// machineAction is of verbs that several machines may be named with.
func (p *Pool) machineAction(s step) (func(), error) {
	var actions []func()
	for _, name := range s.words {
		kind, number, _ := strings.Cut(name, "-")
		i, err := strconv.Atoi(number)
		var action func()
		switch {
		case err != nil || i < 0:
		case kind == "t" && i < len(p.trackers):
			action = p.trackerAction(s, p.trackers[i])
		case kind == "p" && i < len(p.proxies):
			action = p.proxyAction(s, p.proxies[i])
		}
		if action == nil {
			return nil, fmt.Errorf("%s %s: there is no such verb or machine", s.verb, name)
		}
		actions = append(actions, action)
	}
	return func() {
		var wg sync.WaitGroup
		for _, a := range actions {
			wg.Go(a)
		}
		wg.Wait()
	}, nil
}

func (p *Pool) trackerAction(s step, t *tracker) func() {
	switch s.verb {
	case "start":
		return func() { p.started(t) }
	case "leave":
		return func() { t.leave(s.wait) }
	case "crash":
		return func() { t.crash(false) }
	case "poweroff":
		return func() { t.crash(true) }
	case "restart":
		return func() {
			t.crash(false)
			p.started(t)
		}
	case "back":
		return func() { t.back.Store(int64(s.wait)) }
	case "spoil":
		return t.spoil
	case "freeze":
		return func() { t.freeze(s.wait) }
	}
	return nil
}

func (p *Pool) proxyAction(s step, x *proxy) func() {
	switch s.verb {
	case "open":
		return func() { x.open(false) }
	case "twin":
		return func() { x.open(true) }
	case "close":
		return x.close
	case "crash":
		return func() { x.crash(false) }
	case "poweroff":
		return func() { x.crash(true) }
	case "restart":
		return func() {
			x.crash(false)
			x.open(false)
		}
	case "ahead":
		return func() { x.ahead(s.wait) }
	case "forget":
		return x.forget
	case "freeze":
		return func() { x.freeze(s.wait) }
	}
	return nil
}
