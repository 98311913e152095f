package buildinfo

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

// Info says what a binary was built from.
type Info struct {
	Version  string // of the module: a tag, a pseudo-version of the revision, or (devel)
	Revision string // of the repository; empty where it was not known
	Modified bool   // there were changes beside the revision
	Time     string // of the revision, RFC 3339
	Go       string // the release of the toolchain
}

// Read returns what this binary was built from.
func Read() Info {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return Info{Version: "unknown", Go: runtime.Version()}
	}
	return from(b)
}

func from(b *debug.BuildInfo) Info {
	i := Info{Version: cmp.Or(b.Main.Version, "(devel)"), Go: b.GoVersion}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Revision = s.Value
		case "vcs.modified":
			i.Modified = s.Value == "true"
		case "vcs.time":
			i.Time = s.Value
		}
	}
	return i
}

// Line returns one line for people: the command, and what it was built from.
func (i Info) Line(command string) string {
	line := command + " " + i.Version
	if i.Revision != "" {
		line += ", revision " + i.Revision
		if i.Modified {
			line += " with changes"
		}
		line += " of " + i.Time
	}
	return line + ", " + i.Go
}
