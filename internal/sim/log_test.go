package sim

import (
	"flag"
	"log/slog"
	"os"
)

func testLogger() *slog.Logger {
	if !*trace {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

var trace = flag.Bool("log", false, "log all that happens to standard error")
