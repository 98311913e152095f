// Package docker_test holds the images and the compose file to the constants of the program, and runs them where it is asked to.
package docker_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
)

var compose = flag.Bool("compose", false, "run the compose file, with images that are there: make compose")

const composeFile = "compose.yaml"

// A service is what the compose file says of one.
type service struct {
	Image           string
	Command         []string
	Hostname        string
	Ports           []string
	Networks        map[string]struct{ Aliases []string }
	Environment     map[string]string
	MemLimit        string        `yaml:"mem_limit"`
	ReadOnly        bool          `yaml:"read_only"`
	CapDrop         []string      `yaml:"cap_drop"`
	SecurityOpt     []string      `yaml:"security_opt"`
	StopGracePeriod time.Duration `yaml:"stop_grace_period"`
	Restart         string
	DependsOn       []string `yaml:"depends_on"`
}

func (s service) tracker() bool { return strings.HasPrefix(s.Image, "trackerpool/tracker:") }

func services(t *testing.T) map[string]service {
	t.Helper()
	text, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Version  string
		Services map[string]service
		Tracker  service `yaml:"x-tracker"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatalf("%s: %v", composeFile, err)
	}
	return file.Services
}

func trackers(t *testing.T) map[string]service {
	t.Helper()
	found := make(map[string]service)
	for name, s := range services(t) {
		if s.tracker() {
			found[name] = s
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s has no trackers", composeFile)
	}
	return found
}

func TestTrackers(t *testing.T) {
	published := make(map[string]string)
	for name, s := range trackers(t) {
		var stdout bytes.Buffer
		if err := trackercmd.Run(t.Context(), append([]string{"config", "--id=" + s.Hostname}, s.Command...), &stdout, &stdout); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got struct {
			Join          []string      `yaml:"join"`
			Seats         [][]string    `yaml:"seats"`
			NewPool       bool          `yaml:"new_pool"`
			DrainDeadline time.Duration `yaml:"drain_deadline"`
		}
		if err := yaml.Unmarshal(stdout.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if s.Hostname != name {
			t.Errorf("%s: its host, and so its ID, is %q", name, s.Hostname)
		}
		if len(got.Seats) != 1 || !slices.Contains(got.Seats[0], name) || len(got.Seats[0]) != len(trackers(t)) {
			t.Errorf("%s: seats %v, want all trackers", name, got.Seats)
		}
		if diff := cmp.Diff(got.Join, s.Networks["default"].Aliases); diff != "" {
			t.Errorf("%s: the name that it joins, and that all have (-want +got):\n%s", name, diff)
		}
		if got.NewPool {
			t.Errorf("%s: --new-pool would break a promise when the file is used again", name)
		}
		if least := got.DrainDeadline + trackercmd.StopTime; s.StopGracePeriod <= least {
			t.Errorf("%s: stop_grace_period %v, want more than drain deadline and stop, %v", name, s.StopGracePeriod, least)
		}
		var ports []string
		for _, p := range s.Ports {
			at, inside, _ := cutLast(p, ":")
			ports = append(ports, inside)
			if other, taken := published[at]; taken || !strings.HasPrefix(at, "127.0.0.1:") {
				t.Errorf("%s: publishes %s, want a port of loopback that no other (%s) has", name, at, other)
			}
			published[at] = name
		}
		if diff := cmp.Diff([]string{strconv.Itoa(trackercmd.GRPCPort), strconv.Itoa(trackercmd.AdminPort)}, ports); diff != "" {
			t.Errorf("%s: ports (-want +got):\n%s", name, diff)
		}
	}
}

func TestRestraints(t *testing.T) {
	for name, s := range services(t) {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.MemLimit == "" {
			t.Errorf("%s: want a read-only root, no capabilities, no new privileges and a limit of memory, got %+v", name, s)
		}
	}
	for name, s := range trackers(t) {
		limit, err := strconv.Atoi(strings.TrimSuffix(s.MemLimit, "m"))
		if want := fmt.Sprintf("%dMiB", limit*9/10); err != nil || s.Environment["GOMEMLIMIT"] != want {
			t.Errorf("%s: GOMEMLIMIT %q, want nine tenths of %s, %s", name, s.Environment["GOMEMLIMIT"], s.MemLimit, want)
		}
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("EXPOSE %d/tcp %d/tcp %d/udp %d/tcp %d/tcp",
		trackercmd.GRPCPort, trackercmd.GossipPort, trackercmd.GossipPort, trackercmd.AdminPort, trackercmd.ProbePort)
	if !bytes.Contains(text, []byte(want+"\n")) {
		t.Errorf("Dockerfile does not have %q", want)
	}
	stages := strings.Split(string(text), "\nFROM ")[1:]
	user := regexp.MustCompile(`(?m)^USER [1-9][0-9]{4,}:[1-9][0-9]{4,}$`) // a number, so that Kubernetes can tell that it is not root
	for _, stage := range stages {
		if !strings.HasPrefix(stage, "scratch AS ") || !user.MatchString(stage) {
			t.Errorf("stage %q: want it from scratch, and a user of more than four digits", stage)
		}
	}
	if len(stages) != 2 {
		t.Errorf("%d stages, want tracker and loadtest", len(stages))
	}
}

// TestCompose runs all of it: the load generator must be content, every tracker become ready, and each leave in order when asked to stop.
func TestCompose(t *testing.T) {
	if !*compose {
		t.Skip("only with -compose, and images that are there")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	project := fmt.Sprintf("trackerpool-test-%d", os.Getpid())
	do := func(ctx context.Context, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "docker-compose", append([]string{"--file", composeFile, "--project-name", project}, args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return out, fmt.Errorf("docker-compose %s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
		}
		return out, nil
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := do(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if t.Failed() {
			if logs, err := do(ctx, "logs", "--no-color", "--tail=60"); err == nil {
				t.Logf("logs:\n%s", logs)
			}
		}
		if _, err := do(ctx, "down", "--volumes", "--timeout", "1"); err != nil {
			t.Error(err)
		}
	})
	must("up", "--detach")

	// It starts again while the pool is not there yet; the last exit counts.
	load := strings.TrimSpace(must("ps", "--quiet", "load"))
	wait(ctx, t, "the load generator has ended well", func() error {
		state, err := exec.CommandContext(ctx, "docker", "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", load).Output()
		if got := strings.TrimSpace(string(state)); err != nil || got != "exited 0" {
			return fmt.Errorf("it is %q, %v", got, err)
		}
		return nil
	})
	if report := must("logs", "--no-color", "load"); !strings.Contains(report, "3 trackers") {
		t.Errorf("the report does not tell of 3 trackers:\n%s", report)
	}
	for name, s := range trackers(t) {
		at, _, _ := cutLast(s.Ports[1], ":")
		wait(ctx, t, name+" is ready", func() error { return get(ctx, "http://"+at+trackercmd.ReadyPath) })
	}
	must("stop", "tracker-2")
	left := must("logs", "--no-color", "tracker-2")
	if !strings.Contains(left, "msg=drained") || !strings.Contains(left, "msg=left") {
		t.Errorf("tracker-2 did not leave in order:\n%s", left)
	}
}

// wait looks until a condition holds.
func wait(ctx context.Context, t *testing.T, what string, holds func() error) {
	t.Helper()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited for: %s: %v", what, err)
		}
	}
}

func get(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, answer.Status, text)
	}
	return err
}
