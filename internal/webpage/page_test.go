package webpage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/node"
)

func source() Source {
	return Source{
		Look: func() (State, *Placement) {
			return State{ID: "a", Pool: "demo"}, &Placement{View: "1", IDs: []string{"a"}, Owners: []int{0, 0}}
		},
		Explain: func(_ context.Context, id node.ID) ([]string, error) {
			if _, err := node.ParseID(id); err != nil {
				return nil, err
			}
			if id == "gone" {
				return nil, errors.New("no tracker answers")
			}
			return []string{"it is " + string(id)}, nil
		},
	}
}

func serve(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(Handler("/page/", source()))
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(text)
}

func TestEveryFileIsServedUnderThePolicy(t *testing.T) {
	s := serve(t)
	for path, want := range map[string]string{"": "text/html", "page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"} {
		r, text := get(t, s.URL+"/page/"+path)
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), want) || text == "" {
			t.Errorf("%q: got %s of type %q", path, r.Status, r.Header.Get("Content-Type"))
		}
		if got := r.Header.Get("Content-Security-Policy"); got != policy {
			t.Errorf("%q: policy %q", path, got)
		}
		for _, outside := range []string{"http://", "https://", "//cdn"} {
			if strings.Contains(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", ""), outside) {
				t.Errorf("%q names %s: the page must load nothing from elsewhere", path, outside)
			}
		}
	}
}

func TestExplain(t *testing.T) {
	s := serve(t)
	for name, tc := range map[string]struct {
		query string
		code  int
		text  string
	}{
		"steps":      {"?node=n-1", http.StatusOK, `{"steps":["it is n-1"]}`},
		"escaped":    {"?node=%3Cb%3E", http.StatusOK, "it is \\u003cb\\u003e"},
		"empty":      {"", http.StatusBadRequest, "node_id"},
		"too long":   {"?node=" + strings.Repeat("x", 300), http.StatusBadRequest, "255"},
		"none there": {"?node=gone", http.StatusServiceUnavailable, "no tracker answers"},
	} {
		t.Run(name, func(t *testing.T) {
			r, text := get(t, s.URL+"/page/explain"+tc.query)
			if r.StatusCode != tc.code || !strings.Contains(text, tc.text) {
				t.Errorf("got %d %q, want %d with %q", r.StatusCode, text, tc.code, tc.text)
			}
		})
	}
}

// A stream begins with the placement and the state, and ends with the server's
// context.
func TestEvents(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewUnstartedServer(Handler("/page/", source()))
	s.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	s.Start()
	t.Cleanup(s.Close)
	r, err := http.Get(s.URL + "/page/events")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	for _, want := range []string{"placement", "state"} {
		if !lines.Scan() || lines.Text() != "event: "+want {
			t.Fatalf("got %q, want event %s", lines.Text(), want)
		}
		if !lines.Scan() || !json.Valid([]byte(strings.TrimPrefix(lines.Text(), "data: "))) {
			t.Fatalf("data of %s: %q", want, lines.Text())
		}
		lines.Scan()
	}
	cancel()
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	p := &page{src: source(), streams: make(chan struct{}, mostStreams)}
	for range mostStreams {
		p.streams <- struct{}{}
	}
	w := httptest.NewRecorder()
	p.events(w, httptest.NewRequest(http.MethodGet, "/events", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %v, want 503 with Retry-After", w.Code, w.Header())
	}
}

func TestRuns(t *testing.T) {
	of := []int{0, 0, 3, 3, 3, 1}
	got := Runs(len(of), func(s int) int { return of[s] })
	if d := cmp.Diff([]Run{{0, 2}, {3, 3}, {1, 1}}, got); d != "" {
		t.Error(d)
	}
	if got := Runs(0, nil); got != nil {
		t.Errorf("no shards: %v", got)
	}
}
