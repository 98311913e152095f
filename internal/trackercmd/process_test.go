package trackercmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
)

// patience bounds each wait for something that a healthy tracker does in less.
const patience = 30 * time.Second

// A builder builds cmd/tracker, once for all tests.
type builder struct {
	dir  string
	once sync.Once
	err  error
}

var tracker builder

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tracker-test-")
	if err != nil {
		panic(err)
	}
	tracker.dir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func (b *builder) binary(t *testing.T) string {
	t.Helper()
	name := filepath.Join(b.dir, "tracker")
	b.once.Do(func() {
		out, err := exec.Command("go", "build", "-o", name, "github.com/trackerpool/trackerpool/cmd/tracker").CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("build cmd/tracker: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return name
}

// A process is a tracker that runs on ports that it picked itself.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *lines
	done chan struct{} // closed when it has ended
	err  error         // of its end
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	all := append([]string{"--listen-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--log-format", "json"}, args...)
	p := &process{t: t, cmd: exec.Command(tracker.binary(t), all...), log: newLines(), done: make(chan struct{})}
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended, mostly
		<-p.done
		if t.Failed() {
			t.Logf("log of tracker %q:\n%s", args, p.log)
		}
	})
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end and returns the code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("the tracker still runs after %v", patience)
	}
	var status *exec.ExitError
	if p.err != nil && !errors.As(p.err, &status) {
		p.t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// logged waits for a line with that message.
func (p *process) logged(msg string) map[string]any {
	p.t.Helper()
	line, err := p.log.await(msg, p.done)
	if err != nil {
		p.t.Fatal(err)
	}
	return line
}

func (p *process) addr(kind string) string {
	p.t.Helper()
	return p.logged("tracker serving")[kind].(string)
}

// get asks the admin server.
func (p *process) get(path string) (status int, body string) {
	p.t.Helper()
	resp, err := http.Get("http://" + p.addr("admin_addr") + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

func (p *process) ready() {
	p.t.Helper()
	eventually(p.t, func() error {
		if status, body := p.get(trackercmd.ReadyPath); status != http.StatusOK {
			return fmt.Errorf("readyz: %d %s", status, body)
		}
		return nil
	})
}

// metric waits until a metric, labels included, has the value.
func (p *process) metric(name, want string) {
	p.t.Helper()
	eventually(p.t, func() error {
		_, body := p.get(trackercmd.MetricsPath)
		for line := range strings.Lines(body) {
			if got, ok := strings.CutPrefix(line, name+" "); ok {
				if got = strings.TrimSpace(got); got == want {
					return nil
				}
				return fmt.Errorf("%s is %s, want %s", name, got, want)
			}
		}
		return fmt.Errorf("no metric %s", name)
	})
}

// eventually tries until it is no error any more.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.After(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("after %v: %v", patience, err)
		}
	}
}

// lines is a log that can be waited on.
type lines struct {
	mu    sync.Mutex // guards the rest
	text  bytes.Buffer
	grown chan struct{} // closed, and made anew, when text has grown
}

func newLines() *lines { return &lines{grown: make(chan struct{})} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.grown)
	l.grown = make(chan struct{})
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) await(msg string, done <-chan struct{}) (map[string]any, error) {
	deadline := time.After(patience)
	for ended := false; ; {
		l.mu.Lock()
		text, grown := l.text.String(), l.grown
		l.mu.Unlock()
		for line := range strings.Lines(text) {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == msg {
				return fields, nil
			}
		}
		if ended {
			return nil, fmt.Errorf("the tracker ended without having logged %q:\n%s", msg, text)
		}
		select {
		case <-grown:
		case <-done:
			ended = true // and its whole log has been written
		case <-deadline:
			return nil, fmt.Errorf("no line %q after %v:\n%s", msg, patience, text)
		}
	}
}

// run runs a tracker in this process.
func run(ctx context.Context, args ...string) (stdout, stderr *lines, result <-chan error) {
	stdout, stderr = newLines(), newLines()
	end := make(chan error, 1)
	go func() { end <- trackercmd.Run(ctx, args, stdout, stderr) }()
	return stdout, stderr, end
}
