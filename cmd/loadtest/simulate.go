package main

import (
	"context"
	"io"

	"github.com/trackerpool/trackerpool/internal/scale"
)

// simulate shows how a pool grows: tables on stdout, curves in out if it is given.
func simulate(ctx context.Context, out string, stdout, stderr io.Writer) error {
	progress := newProgress(stderr)
	report, err := scale.Run(ctx, scale.Config{Progress: func(what string) { progress.Note("measure " + what) }})
	if err != nil {
		return err
	}
	if out != "" {
		if err := report.Write(out); err != nil {
			return err
		}
	}
	return report.WriteTables(stdout)
}
