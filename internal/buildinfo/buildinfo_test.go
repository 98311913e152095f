package buildinfo

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestLine(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for _, c := range []struct {
		name string
		from debug.BuildInfo
		want string
	}{
		{"a release", debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"},
			Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.time", "2026-11-21T10:00:00Z"), setting("vcs.modified", "false")}},
			"tracker v1.2.3, revision abc of 2026-11-21T10:00:00Z, go1.26.8"},
		{"with changes", debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3+dirty"},
			Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.time", "2026-11-21T10:00:00Z"), setting("vcs.modified", "true")}},
			"tracker v1.2.3+dirty, revision abc with changes of 2026-11-21T10:00:00Z, go1.26.8"},
		{"without a repository", debug.BuildInfo{GoVersion: "go1.26.8"}, "tracker (devel), go1.26.8"},
	} {
		if got := from(&c.from).Line("tracker"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := Read(); got.Version == "" || got.Go != runtime.Version() {
		t.Errorf("of this test: %+v", got)
	}
}
