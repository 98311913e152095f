package membership

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"time"
)

const (
	// repeatAfter is how long a warning of one kind keeps the next ones quiet.
	repeatAfter = time.Minute

	// maxKinds is how many kinds of warning are told apart.
	maxKinds = 64
)

// logWriter takes the lines of memberlist's logger, which calls it one line at a
// time, to slog. Warnings stay warnings, once a minute of each kind, as many
// come with every packet; all else is for debugging.
type logWriter struct {
	log    *slog.Logger
	open   func() bool // false: what fails now fails because of the end
	warned seldom
}

func (w *logWriter) Write(line []byte) (int, error) {
	level, text := parseLine(string(bytes.TrimSpace(line)))
	if level == slog.LevelWarn && !(w.open() && w.warned.fresh(kindOf(text), time.Now())) {
		level = slog.LevelDebug
	}
	w.log.Log(context.Background(), level, text)
	return len(line), nil
}

// seldom has when a warning of each kind was given last.
type seldom map[string]time.Time

// fresh reports whether no warning of the kind was given lately, and notes this
// one.
func (s seldom) fresh(kind string, now time.Time) bool {
	if last, ok := s[kind]; ok && now.Sub(last) < repeatAfter {
		return false
	}
	if len(s) >= maxKinds {
		clear(s)
	}
	s[kind] = now
	return true
}

// parseLine splits "[LEVEL] memberlist: text".
func parseLine(line string) (slog.Level, string) {
	level := slog.LevelDebug
	if rest, ok := strings.CutPrefix(line, "["); ok {
		name, text, _ := strings.Cut(rest, "] ")
		line = text
		if name == "WARN" || strings.HasPrefix(name, "ERR") {
			level = slog.LevelWarn
		}
	}
	text := strings.TrimPrefix(line, "memberlist: ")
	for _, normal := range []string{
		"ignoring alive message",       // refused: logged by us, once
		"Failed push/pull merge",       // the same
		"Got ping for unexpected node", // each restart at an address that stays
		"Failed fallback TCP ping",     // each crash
		"failed to receive and remove", // a port scanner
	} {
		if strings.HasPrefix(text, normal) {
			return slog.LevelDebug, text
		}
	}
	return level, text
}

// kindOf returns the first words of a message: what differs between two of a
// kind comes later.
func kindOf(text string) string {
	words := strings.SplitN(text, " ", 4)
	return strings.Join(words[:min(len(words), 3)], " ")
}
