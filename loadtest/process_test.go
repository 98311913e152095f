package loadtest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
)

// TestMain lets this test's binary be the process that a test starts, a tracker too.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "tracker":
		if err := trackercmd.Run(context.Background(), os.Args[2:], os.Stdout, os.Stderr); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	case len(os.Args) > 2 && os.Args[1] == "child" && os.Args[2] == "wait":
		os.Stdout.WriteString("waiting " + os.Getenv(trackerVariables+"POOL") + "\n")
		io.Copy(io.Discard, neverEnds())
	case len(os.Args) > 2 && os.Args[1] == "child":
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// neverEnds is what a child reads until it is killed.
func neverEnds() io.Reader {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	_ = w
	return r
}

func TestProcessIsKilled(t *testing.T) {
	t.Setenv(trackerVariables+"POOL", "of the user")
	r, w := io.Pipe()
	p, err := StartProcess(os.Args[0], "child")([]string{"wait"}, w)
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, err := r.Read(line)
	if got, want := string(line[:n]), "waiting \n"; got != want || err != nil {
		t.Errorf("the child wrote %q, %v, want %q", got, err, want)
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	<-p.Done()
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.Success() {
		t.Errorf("the child ended with %v, want killed", p.Err())
	}
	if err := p.Terminate(); err != nil {
		t.Errorf("a process that has ended: %v", err)
	}
}

func TestProcessEndsByItself(t *testing.T) {
	p, err := StartProcess(os.Args[0], "child")([]string{"fail"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if p.Err() == nil {
		t.Error("exit 3 is no error")
	}
	if _, err := StartProcess("/no/such/program")(nil, io.Discard); err == nil {
		t.Error("a program that does not exist was started")
	}
}

func TestInProcessEnds(t *testing.T) {
	errKilled := errors.New("killed")
	start := StartInProcess(func(ctx context.Context, args []string, stdout, _ io.Writer) error {
		if _, err := io.WriteString(stdout, strings.Join(args, " ")); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}, errKilled)
	var log strings.Builder
	p, err := start([]string{"--id", "t-0"}, &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	<-p.Done()
	if !errors.Is(p.Err(), errKilled) || log.String() != "--id t-0" {
		t.Errorf("ended with %v, wrote %q", p.Err(), log.String())
	}
}

func TestParseMetrics(t *testing.T) {
	const text = "# HELP a b\nprocess_resident_memory_bytes 1.5e+06\nprocess_resident_memory_bytes_other 7\n"
	got, err := parseMetrics(strings.NewReader(text), residentIn, "absent")
	if err != nil || len(got) != 1 || got[residentIn] != 1.5e6 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestCableCut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var c cable
	conn, err := c.dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c.cut()
	if _, err := other.Read(make([]byte, 1)); err == nil {
		t.Error("the other side reads on after the cut")
	}
	if _, err := conn.Write([]byte{1}); err == nil {
		t.Error("this side writes on after the cut")
	}
	if _, err := c.dial(t.Context(), l.Addr().String()); !errors.Is(err, errCut) {
		t.Errorf("dial after the cut: %v, want %v", err, errCut)
	}
}
