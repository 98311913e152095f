package loadtest

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// A Start starts a tracker with the given arguments; all that it writes goes to log.
type Start func(args []string, log io.Writer) (Process, error)

// A Process is a tracker that was started. It is safe for concurrent use.
type Process interface {
	Terminate() error // asks it to leave, as SIGTERM does
	Kill() error      // ends it at once, as SIGKILL does
	Freeze() error    // stops it until Thaw, as SIGSTOP does
	Thaw() error
	Done() <-chan struct{} // closed when it has ended
	Err() error            // how it ended, after Done: nil for exit 0
}

// trackerVariables begin the names of environment variables that configure a
// tracker. The run's own trackers are configured by their arguments alone.
const trackerVariables = "TRACKERPOOL_"

// StartProcess starts trackers as processes: a program, with the given arguments
// before the tracker's own.
func StartProcess(program string, before ...string) Start {
	return func(args []string, log io.Writer) (Process, error) {
		cmd := exec.Command(program, append(before[:len(before):len(before)], args...)...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, trackerVariables) })
		cmd.SysProcAttr = childAttributes()
		p := &child{cmd: cmd, done: make(chan struct{})}
		started := make(chan error)
		go func() {
			// The kernel kills the child when the thread that made it ends, not the
			// process: keep the thread until the child is gone.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			err := cmd.Start()
			started <- err
			if err == nil {
				p.err = cmd.Wait()
				close(p.done)
			}
		}()
		if err := <-started; err != nil {
			return nil, err
		}
		return p, nil
	}
}

var errNoFreeze = errors.New("this kind of tracker cannot be frozen: run trackers as processes, on Linux")

type child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // written before done is closed
}

func (p *child) Terminate() error      { return p.signal(syscall.SIGTERM) }
func (p *child) Kill() error           { return p.signal(syscall.SIGKILL) }
func (p *child) Freeze() error         { return p.freeze() }
func (p *child) Thaw() error           { return p.thaw() }
func (p *child) Done() <-chan struct{} { return p.done }
func (p *child) Err() error            { return p.err }

func (p *child) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// StartInProcess starts trackers as goroutines that call run. The end of its context
// asks run to leave, or where the cause is killed to stop at once, which is not quite
// a kill: what is closed is closed in some order.
func StartInProcess(run func(ctx context.Context, args []string, stdout, stderr io.Writer) error, killed error) Start {
	return func(args []string, log io.Writer) (Process, error) {
		ctx, cancel := context.WithCancelCause(context.Background())
		p := &inProcess{cancel: cancel, killed: killed, done: make(chan struct{})}
		go func() {
			defer close(p.done)
			p.err = run(ctx, args, log, log)
		}()
		return p, nil
	}
}

type inProcess struct {
	cancel context.CancelCauseFunc
	killed error
	done   chan struct{}
	err    error // written before done is closed
}

func (p *inProcess) Terminate() error      { p.cancel(nil); return nil }
func (p *inProcess) Kill() error           { p.cancel(p.killed); return nil }
func (p *inProcess) Freeze() error         { return errNoFreeze }
func (p *inProcess) Thaw() error           { return errNoFreeze }
func (p *inProcess) Done() <-chan struct{} { return p.done }
func (p *inProcess) Err() error            { return p.err }
