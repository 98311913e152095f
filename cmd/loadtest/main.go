// Command loadtest drives a pool of trackers with a seeded workload and measures it.
//
// Without --tracker it starts a pool of its own: three trackers on loopback, as
// processes of this same binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
	"github.com/trackerpool/trackerpool/loadtest"
)

// asTracker as the first argument makes this process a tracker with the rest of them.
const asTracker = "tracker"

func main() {
	if len(os.Args) > 1 && os.Args[1] == asTracker {
		exit(trackercmd.Run(context.Background(), os.Args[2:], os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal does not wait
	exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadtest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// errFailed says that the pool did not pass; the report on stdout says why.
var errFailed = errors.New("the pool did not pass")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stdout)
	if err != nil || c == nil {
		return err
	}
	if c.simulate {
		return simulate(ctx, c.out, stdout, stderr)
	}
	c.load.Progress = newProgress(stderr)
	report, err := loadtest.Run(ctx, c.load)
	if report.Register.Count == 0 {
		return err
	}
	if err == nil && len(report.Failures) > 0 {
		err = errFailed
	}
	return errors.Join(err, c.write(report, stdout))
}
