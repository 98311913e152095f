package trackercmd

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

func TestNotNew(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000) // boots have milliseconds
	const term = 10 * time.Second
	for _, tt := range []struct {
		name   string
		ages   map[ring.MemberID]time.Duration
		known  uint64
		learns bool
		want   string // what the reason contains; empty for none
	}{
		{name: "alone", ages: map[ring.MemberID]time.Duration{"self": time.Hour}},
		{name: "with others as young", ages: map[ring.MemberID]time.Duration{"self": 0, "a": term, "b": 0}},
		{name: "with an older one", ages: map[ring.MemberID]time.Duration{"self": 0, "a": 0, "b": term + time.Second}, want: `"b" has run for 11s`},
		{name: "with one whose clock is ahead", ages: map[ring.MemberID]time.Duration{"self": 0, "a": -time.Hour}},
		{name: "known already", ages: map[ring.MemberID]time.Duration{"self": 0, "a": 0}, known: 7, want: "an earlier life"},
		{name: "with seats learnt", ages: map[ring.MemberID]time.Duration{"self": 0}, learns: true, want: "learnt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var members []ring.Member
			for id, age := range tt.ages {
				members = append(members, ring.Member{ID: id, Boot: membership.NewBoot(now.Add(-age), 0)})
			}
			v, err := ring.NewView(members...)
			if err != nil {
				t.Fatal(err)
			}
			got := notNew(now, term, v, "self", tt.known, tt.learns)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("reason %q, want one with %q", got, tt.want)
			}
		})
	}
}

func TestAdvertised(t *testing.T) {
	for _, tt := range []struct {
		name, advertise string
		bound           net.TCPAddr
		want            string
	}{
		{"what is bound", "", net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7}, "10.0.0.1:7"},
		{"IPv6", "", net.TCPAddr{IP: net.IPv6loopback, Port: 7}, "[::1]:7"},
		{"a host", "t-0.example.org", net.TCPAddr{IP: net.IPv6unspecified, Port: 7}, "t-0.example.org:7"},
		{"a host and a port", "t-0.example.org:443", net.TCPAddr{IP: net.IPv6unspecified, Port: 7}, "t-0.example.org:443"},
		{"an IPv6 address", "fd00::1", net.TCPAddr{IP: net.IPv6unspecified, Port: 7}, "[fd00::1]:7"},
		{"an IPv6 address and a port", "[fd00::1]:443", net.TCPAddr{IP: net.IPv4zero, Port: 7}, "[fd00::1]:443"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := advertised(&config{advertiseAddr: tt.advertise}, &tt.bound)
			if err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestAllowed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status node.Status
		want   ring.State
	}{
		{"well", node.Status{}, ring.Serving},
		{"cut off", node.Status{CutOff: true}, ring.Leaving},
		{"at fault itself", node.Status{Selfish: true}, ring.Leaving},
	} {
		got, why := allowed(tt.status)
		if got != tt.want || (why == "") != (tt.want == ring.Serving) {
			t.Errorf("%s: %v, %q; want %v and a reason for anything but serving", tt.name, got, why, tt.want)
		}
	}
}

func TestUnless(t *testing.T) {
	err, broken := errors.New("an error"), errors.New("broken")
	for _, tt := range []struct {
		name  string
		cause error
		want  error
	}{
		{"it goes on", nil, err},
		{"somebody wished the end", context.Canceled, nil},
		{"somebody wished it, and says why", errors.New("terminated"), nil},
		{"something broke", &failure{broken}, broken},
		{"it was killed", ErrKilled, ErrKilled},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		if tt.cause != nil {
			cancel(tt.cause)
		}
		if got := unless(ctx, err); !errors.Is(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		cancel(nil)
	}
}
