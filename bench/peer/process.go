package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/trackerpool/trackerpool/internal/freeport"
)

// readyTime is within which a server that was started answers.
const readyTime = 30 * time.Second

// A Process is a server that runs. It ends with the process that started it.
type Process struct {
	cmd   *exec.Cmd
	log   *os.File
	ended chan struct{}
}

// start starts a program in a directory that has its log. Nothing in the environment
// configures it.
func start(dir string, program string, args ...string) (*Process, error) {
	log, err := os.OpenFile(filepath.Join(dir, filepath.Base(program)+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{cmd: cmd, log: log, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel kills the child when the thread that made it ends: keep it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return p, nil
}

// A server is what all peers have in common.
type server struct {
	ids  []string // of the nodes
	dir  string   // its own
	port int
	proc *Process
}

func (s *server) Process() *Process { return s.proc }
func (s *server) Stop()             { s.proc.kill(); s.proc = nil }

// run starts a program on a free port and waits until it takes connections.
func (s *server) run(ctx context.Context, program string, args func(port string) []string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%s: %w", program, ErrMissing)
	}
	ports, err := freeport.Ports(1)
	if err != nil {
		return err
	}
	s.port = ports[0]
	if s.proc, err = start(s.dir, path, args(strconv.Itoa(s.port))...); err != nil {
		return err
	}
	return s.proc.ready(ctx, func() error {
		conn, err := net.Dial("tcp", loopback(s.port))
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// kill ends the process and returns when it is gone.
func (p *Process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
	_ = p.log.Close() // what is lost is of no use
}

// ready returns when check returns nil.
func (p *Process) ready(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready; its log ends: %s", p.cmd.Path, tail(p.log.Name()))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; its log ends: %s", p.cmd.Path, err, tail(p.log.Name()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func tail(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// tick is the unit of /proc/PID/stat on every architecture that Go runs Linux on.
const tick = 10 * time.Millisecond

// CPU returns the time that the process has used, user and system together, to 10 ms.
func (p *Process) CPU() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses, which may have blanks.
	_, rest, _ := bytes.Cut(text[bytes.LastIndexByte(text, ')'):], []byte(" "))
	fields := strings.Fields(string(rest)) // from the third on
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat of process %d has only %d fields", p.cmd.Process.Pid, len(fields)+2)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// Resident returns how much of the process is in memory, and the most that was, in
// bytes.
func (p *Process) Resident() (now, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			peak = kib << 10
		}
	}
	if now == 0 {
		return 0, 0, fmt.Errorf("process %d does not tell its memory", p.cmd.Process.Pid)
	}
	return now, peak, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// get returns what an HTTP server says.
func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, resp.Status, text)
	}
	return string(text), err
}

// figure returns the number that follows a name at the beginning of a line.
func figure(text, name string) (int64, error) {
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `[: ]+([0-9.e+]+)`).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%s is not in what the server told", name)
	}
	f, err := strconv.ParseFloat(m[1], 64)
	return int64(f), err
}

// firstLine returns the first line that a program prints.
func firstLine(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return filepath.Base(program) + " of an unknown version"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
