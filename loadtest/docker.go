package loadtest

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// dockerfile makes an image of this program and nothing else.
const dockerfile = `FROM scratch
COPY loadtest /loadtest
USER 65534:65534
ENTRYPOINT ["/loadtest", "tracker"]
`

const (
	dockerTime  = time.Minute // within which a command of docker ends
	subnetTries = 20          // a subnet may be taken

	// Of trackers in containers, which have an address each.
	containerPort, containerGossip, containerAdmin = "7940", "7946", "7948"
)

// A docker is an image and a network, for one container a tracker. It is safe for
// concurrent use.
type docker struct {
	name   string // of image and network, and how the names of containers begin
	subnet string // 10.x.y
}

// newDocker makes the image and the network.
func newDocker(ctx context.Context) (_ *docker, err error) {
	d := &docker{name: fmt.Sprintf("trackerpool-chaos-%d", os.Getpid())}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.remove())
		}
	}()
	if err := d.build(ctx); err != nil {
		return nil, fmt.Errorf("build the image of the trackers: %w", err)
	}
	var errs []error
	for try := range subnetTries {
		subnet := fmt.Sprintf("10.%d.%d", 200+try, os.Getpid()%256)
		// The host has an address in an internal network too, the world has no way in.
		err := d.run(ctx, "network", "create", "--internal", "--subnet", subnet+".0/24", d.name)
		if err == nil {
			d.subnet = subnet
			return d, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("make a network for the trackers: %w", errors.Join(errs...))
}

func (d *docker) build(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if err := isStatic(program); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "loadtest-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, "loadtest"), text, 0o755), os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644))
	if err != nil {
		return err
	}
	return d.run(ctx, "build", "--quiet", "--tag", d.name, dir)
}

// isStatic returns an error unless a program runs without any other file.
func isStatic(program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically and cannot run FROM scratch: build it with CGO_ENABLED=0", program)
		}
	}
	return nil
}

// run runs one command of docker.
func (d *docker) run(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, dockerTime)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func (d *docker) container(id string) string { return d.name + "-" + id }

// ip returns the address of the n-th tracker; the first ones are the network's own.
func (d *docker) ip(n int) string { return fmt.Sprintf("%s.%d", d.subnet, 10+n) }

// addrs returns where the n-th tracker listens, gossips and is administered.
func (d *docker) addrs(n int) []string {
	var addrs []string
	for _, port := range []string{containerPort, containerGossip, containerAdmin} {
		addrs = append(addrs, net.JoinHostPort(d.ip(n), port))
	}
	return addrs
}

// start is a Start: the arguments have the tracker's --id and --listen-addr.
func (d *docker) start(args []string, log io.Writer) (Process, error) {
	after := func(flag string) string {
		for i, a := range args[:len(args)-1] {
			if a == flag {
				return args[i+1]
			}
		}
		return ""
	}
	name := d.container(after("--id"))
	host, _, err := net.SplitHostPort(after("--listen-addr"))
	if err != nil {
		return nil, fmt.Errorf("start container %s: --listen-addr: %w", name, err)
	}
	// The command ends with the container, after it was removed.
	run := StartProcess("docker", "run", "--rm", "--name", name, "--network", d.name, "--ip", host,
		"--read-only", "--cap-drop", "ALL", "--sig-proxy=false", d.name)
	attached, err := run(args, log)
	if err != nil {
		return nil, err
	}
	return &container{Process: attached, docker: d, name: name}, nil
}

// isolate takes the n-th tracker off the network.
func (d *docker) isolate(ctx context.Context, n int) error {
	return d.run(ctx, "network", "disconnect", d.name, d.container(fmt.Sprintf("t-%d", n)))
}

// reconnect takes the n-th tracker back, under its address.
func (d *docker) reconnect(ctx context.Context, n int) error {
	return d.run(ctx, "network", "connect", "--ip", d.ip(n), d.name, d.container(fmt.Sprintf("t-%d", n)))
}

// remove removes all that was made; the containers have ended, or it ends them.
func (d *docker) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), dockerTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", "ps", "--all", "--quiet", "--filter", "name="+d.name+"-").Output()
	errs := []error{err}
	if ids := strings.Fields(string(out)); len(ids) > 0 {
		errs = append(errs, d.run(ctx, append([]string{"rm", "--force"}, ids...)...))
	}
	for _, kind := range []string{"network", "image"} {
		err := d.run(ctx, kind, "rm", d.name)
		if err != nil && !strings.Contains(err.Error(), "No such") {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// A container is a tracker in one. Its Process is the command that is attached to it.
type container struct {
	Process
	docker *docker
	name   string
}

func (c *container) Terminate() error { return c.do("kill", "--signal", "TERM") }
func (c *container) Kill() error      { return c.do("kill") }
func (c *container) Freeze() error    { return c.do("pause") }
func (c *container) Thaw() error      { return c.do("unpause") }

// do does something to the container, unless it has ended.
func (c *container) do(args ...string) error {
	err := c.docker.run(context.Background(), append(args, c.name)...)
	if err == nil {
		return nil
	}
	select {
	case <-c.Done():
		return nil
	case <-time.After(time.Second):
		return err
	}
}
