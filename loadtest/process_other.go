//go:build !linux

package loadtest

import "syscall"

// childAttributes has nothing to say that all systems know.
func childAttributes() *syscall.SysProcAttr { return nil }

func (p *child) freeze() error { return errNoFreeze }
func (p *child) thaw() error   { return errNoFreeze }
