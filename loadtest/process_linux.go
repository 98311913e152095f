package loadtest

import "syscall"

// childAttributes keep Ctrl-C on the terminal from a tracker, which the run ends
// itself, and let no tracker outlive the run.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func (p *child) freeze() error { return p.signal(syscall.SIGSTOP) }
func (p *child) thaw() error   { return p.signal(syscall.SIGCONT) }
