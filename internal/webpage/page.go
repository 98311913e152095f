package webpage

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

//go:embed static
var static embed.FS

const (
	// mostStreams is how many pages may be open at once: each costs a look at the
	// tracker's state every second.
	mostStreams = 32

	tick           = time.Second
	stuck          = 10 * tick // after so long a reader that takes nothing is dropped
	explainTimeout = 5 * time.Second

	// policy lets the page load and call nothing but what this handler serves.
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)

// A Source is the tracker that a page shows. Its functions are called from many
// goroutines.
type Source struct {
	Look    func() (State, *Placement)                              // of one moment; no Placement before the first view
	Explain func(ctx context.Context, id node.ID) ([]string, error) // one sentence a step; an *node.InvalidError for a bad ID
}

// A State is what changes from second to second.
type State struct {
	ID       string `json:"id"`
	Pool     string `json:"pool"`
	Zone     string `json:"zone"`
	Version  string `json:"version"`
	View     string `json:"view"`
	Ready    bool   `json:"ready"`
	Why      string `json:"why"` // it is not ready
	Replicas int    `json:"replicas"`

	Members []Member `json:"members"`
	Here    Here     `json:"here"`
	Counts  Counts   `json:"counts"`
	Proxies []Proxy  `json:"proxies"` // those with most claims
	Total   int      `json:"proxies_total"`
}

// A Member is a tracker of the pool.
type Member struct {
	ID    string `json:"id"`
	State string `json:"state"` // joining, serving, leaving
	Zone  string `json:"zone"`
	Addr  string `json:"addr"`
	Seat  bool   `json:"seat"`
	Held  int    `json:"held"` // shards
}

// Here is what the tracker holds, as numbers of shards, claims and processes.
type Here struct {
	Held        int     `json:"held"`
	InForce     int     `json:"in_force"`
	Open        int     `json:"open"`
	Claims      int     `json:"claims"`
	UnaryClaims int     `json:"unary_claims"`
	Sessions    int     `json:"sessions"`
	Proxies     int     `json:"proxies"`
	Stalled     int     `json:"stalled"`
	Seat        bool    `json:"seat"`
	Granting    bool    `json:"granting"`
	Silence     float64 `json:"silence"` // seconds until it grants
}

// Counts only grow while the tracker runs.
type Counts struct {
	Found   uint64 `json:"found"`
	Absent  uint64 `json:"absent"`
	Unknown uint64 `json:"unknown"`
	Ops     uint64 `json:"ops"`
	Differs uint64 `json:"differs"`
	Refused uint64 `json:"refused"`
}

// A Proxy is one that the tracker knows.
type Proxy struct {
	ID      string `json:"id"`
	Addr    string `json:"addr"`
	Claims  int    `json:"claims"`
	Session bool   `json:"session"`
}

// A Placement is who owns the shards, and what may be said of them at this tracker.
type Placement struct {
	View   string   `json:"view"`
	IDs    []string `json:"ids"`
	Owners []int    `json:"owners"` // by shard, an index of IDs
	Runs   []Run    `json:"runs"`   // over all shards, in order
}

// A Run is so many shards one after the other of which the same may be said.
type Run [2]int // one of the constants below, and how many

// What may be said of a shard at the tracker.
const (
	Elsewhere = iota // it is not held here
	Held             // its list is not in force
	InForce          // a miss is UNKNOWN
	Open             // a miss is ABSENT
)

// Runs returns the runs of a state by shard.
func Runs(shards int, of func(shard int) int) []Run {
	var runs []Run
	for s := range shards {
		now := of(s)
		if n := len(runs); n == 0 || runs[n-1][0] != now {
			runs = append(runs, Run{now, 0})
		}
		runs[len(runs)-1][1]++
	}
	return runs
}

// Handler serves the page below a prefix that ends in a slash. A stream of events
// ends with its request's context alone: end the server's contexts before it shuts
// down.
func Handler(prefix string, src Source) http.Handler {
	p := &page{src: src, streams: make(chan struct{}, mostStreams)}
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic("webpage: invariant: the page is embedded: " + err.Error())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /events", p.events)
	mux.HandleFunc("GET /explain", p.explain)
	return http.StripPrefix(prefix[:len(prefix)-1], headers(mux))
}

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// A page is safe for concurrent use.
type page struct {
	src     Source
	streams chan struct{} // one for each stream under way

	mu   sync.Mutex // guards the rest; what is shown is made under it, once for all streams
	at   time.Time
	seen shown
}

// shown is what the streams send: JSON.
type shown struct{ placement, state []byte }

// look returns what there is to be shown, at most half a tick old.
func (p *page) look(now time.Time) (shown, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.at) < tick/2 {
		return p.seen, nil
	}
	var seen shown
	var err error
	state, placement := p.src.Look()
	if placement != nil {
		if seen.placement, err = json.Marshal(placement); err != nil {
			return shown{}, err
		}
	}
	if seen.state, err = json.Marshal(state); err != nil {
		return shown{}, err
	}
	p.seen, p.at = seen, now
	return seen, nil
}

// events sends the state every second, and the placement when it differs from the
// one sent before.
func (p *page) events(w http.ResponseWriter, r *http.Request) {
	select {
	case p.streams <- struct{}{}:
		defer func() { <-p.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d pages are open at this tracker, the most: close one, or open another tracker's", mostStreams), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	c := http.NewResponseController(w)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var sent []byte
	for {
		seen, err := p.look(time.Now())
		if err != nil {
			return
		}
		_ = c.SetWriteDeadline(time.Now().Add(stuck)) // who does not read is dropped; a writer in a test has none
		if seen.placement != nil && !bytes.Equal(seen.placement, sent) {
			sent = seen.placement
			if err := send(w, "placement", sent); err != nil {
				return
			}
		}
		if send(w, "state", seen.state) != nil || c.Flush() != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

func send(w http.ResponseWriter, event string, data []byte) error {
	_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
	return err
}

func (p *page) explain(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), explainTimeout)
	defer cancel()
	steps, err := p.src.Explain(ctx, node.ID(r.FormValue("node")))
	var invalid *node.InvalidError
	switch {
	case errors.As(err, &invalid):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string][]string{"steps": steps}) // whoever asked has gone
	}
}
