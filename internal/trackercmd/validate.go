package trackercmd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

const (
	maxNameBytes = 63 // of IDs, zones and pools
	maxSeatSets  = 2  // the old and the new, while they are changed
	maxReplicas  = 15
	minTerm      = time.Second
	maxTerm      = 10 * time.Minute

	minSaveInterval = time.Second
)

// A fault is one thing that is wrong with a configuration.
type fault struct {
	key, value string
	where      string // the source of the value; empty for a default
	remedy     string
}

// Error names the key, the value, its source and the remedy.
func (f *fault) Error() string {
	if f.where == "" {
		return fmt.Sprintf("%s %q: %s", f.key, f.value, f.remedy)
	}
	return fmt.Sprintf("%s %q (%s): %s", f.key, f.value, f.where, f.remedy)
}

// validate returns all faults of values that are well formed.
func (l *loaded) validate() []*fault {
	v := validator{l: l}
	v.names()
	v.addresses()
	v.seatSets()
	v.ranges()
	v.files()
	v.traces()
	v.secrecy()
	v.limits()
	return v.faults
}

type validator struct {
	l      *loaded
	faults []*fault
}

// fault notes one, of the option of that name.
func (v *validator) fault(name string, value any, format string, args ...any) {
	key := strings.ReplaceAll(name, "-", "_")
	v.faults = append(v.faults, &fault{key, fmt.Sprint(value), v.l.where[name], fmt.Sprintf(format, args...)})
}

func (v *validator) names() {
	l := v.l
	if !validID(l.id) {
		v.fault("id", l.id, "give 1 to %d letters, digits, '-', '_' and '.', another at each tracker", maxNameBytes)
	}
	if n := len(l.pool); n == 0 || n > maxNameBytes {
		v.fault("pool", l.pool, "give the pool's name, 1 to %d bytes, the same at all its trackers", maxNameBytes)
	}
	if len(l.zone) > maxNameBytes {
		v.fault("zone", l.zone, "it has %d bytes: give at most %d", len(l.zone), maxNameBytes)
	}
}

// validID reports whether s can be a tracker's ID. IDs stand in lists with commas,
// in gossip names with '#', and in pods' names.
func validID(s string) bool {
	return 0 < len(s) && len(s) <= maxNameBytes && !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && !('0' <= r && r <= '9') && r != '-' && r != '_' && r != '.'
	})
}

func (v *validator) addresses() {
	l := v.l
	if err := checkListen(l.listenAddr); err != nil {
		v.fault("listen-addr", l.listenAddr, "%v", err)
	}
	if err := checkListen(l.adminAddr); err != nil {
		v.fault("admin-addr", l.adminAddr, "%v", err)
	}
	if l.probeAddr != "" {
		if err := checkListen(l.probeAddr); err != nil {
			v.fault("probe-addr", l.probeAddr, "%v", err)
		}
	}
	if err := checkListen(l.gossipAddr); err != nil {
		v.fault("gossip-addr", l.gossipAddr, "%v", err)
	} else if host, _, _ := net.SplitHostPort(l.gossipAddr); host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			v.fault("gossip-addr", l.gossipAddr, "give an IP address before the port, or none for all")
		}
	}
	if l.advertiseAddr != "" {
		if host, _, err := splitTarget(l.advertiseAddr); err != nil {
			v.fault("advertise-addr", l.advertiseAddr, "%v", err)
		} else if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
			v.fault("advertise-addr", l.advertiseAddr, "nobody can dial that: give an address of this machine")
		}
	}
	for _, target := range l.join {
		if _, _, err := splitTarget(target); err != nil {
			v.fault("join", target, "%v", err)
		}
	}
}

// checkListen returns what to give instead of s, if it is no host:port to listen at.
func checkListen(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("give host:port, or :port for all addresses")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("give a port of 0 to 65535, 0 to pick one")
	}
	return nil
}

// splitTarget splits host[:port] to dial; the port is empty where there is none.
// An IPv6 address needs brackets only where there is a port.
func splitTarget(s string) (host, port string, err error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if ip, err := netip.ParseAddr(bare); err == nil {
		return ip.String(), "", nil
	}
	if s != "" && !strings.ContainsAny(s, ":[]") {
		return s, "", nil
	}
	host, port, err = net.SplitHostPort(s)
	if err != nil || host == "" {
		return "", "", errors.New("give host or host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", errors.New("give a port of 1 to 65535")
	}
	return host, port, nil
}

func (v *validator) seatSets() {
	l := v.l
	if len(l.seats) > maxSeatSets {
		v.fault("seats", l.seats, "%d sets: give one, or the old and the new while they are changed", len(l.seats))
	}
	var all []ring.MemberID
	for _, set := range l.seats {
		if n := len(set); n != 1 && n != 3 && n != 5 {
			v.fault("seats", set, "%d trackers: name 1, 3 or 5", n)
		}
		for i, id := range set {
			switch {
			case slices.Contains(set[:i], id):
				v.fault("seats", set, "%q is named twice: leave one out", id)
			case !l.lone && !validID(string(id)):
				v.fault("seats", set, "%q is no tracker's ID", id)
			case !slices.Contains(all, id):
				all = append(all, id)
			}
		}
	}
	if len(all) > lease.MaxSeats {
		v.fault("seats", l.seats, "the sets name %d trackers: name at most %d", len(all), lease.MaxSeats)
	}
}

func (v *validator) ranges() {
	l := v.l
	if len(l.replicas) == 0 {
		v.fault("replicas", "", "give 1 to %d", maxReplicas)
	}
	for i, r := range l.replicas {
		if r < 1 || r > maxReplicas {
			v.fault("replicas", r, "give 1 to %d", maxReplicas)
		} else if slices.Contains(l.replicas[:i], r) {
			v.fault("replicas", r, "it is given twice: leave one out")
		}
	}
	if l.shards < 1 || l.shards > 1<<16 {
		v.fault("shards", l.shards, "give 1 to %d, what the pool was made with", 1<<16)
	}
	if l.term < minTerm || l.term > maxTerm || l.term%time.Millisecond != 0 {
		v.fault("term", l.term, "give whole milliseconds, %v to %v, the same in the whole pool", minTerm, maxTerm)
	}
	if l.proxyKeepAliveInterval < time.Second {
		v.fault("proxy-keep-alive-interval", l.proxyKeepAliveInterval, "give 1s or more")
	}
	if l.drainDeadline < 0 {
		v.fault("drain-deadline", l.drainDeadline, "give 0s or more")
	}
	if l.saveInterval < minSaveInterval {
		v.fault("save-interval", l.saveInterval, "give %v or more", minSaveInterval)
	}
	if l.logFormat != "text" && l.logFormat != "json" {
		v.fault("log-format", l.logFormat, "give text or json")
	}
}

func (v *validator) traces() {
	l := v.l
	if _, port, err := splitTarget(l.traceEndpoint); l.traceEndpoint != "" && (err != nil || port == "") {
		v.fault("trace-endpoint", l.traceEndpoint, "give host:port of a collector that takes OTLP over gRPC")
	}
	if !(l.traceSample >= 0 && l.traceSample <= 1) { // so that NaN is none
		v.fault("trace-sample", l.traceSample, "give 0 to 1")
	}
	if l.traceCAFile != "" && (l.traceEndpoint == "" || l.tracePlain) {
		v.fault("trace-ca-file", l.traceCAFile, "it is of no use without trace_endpoint, or with trace_plain: leave one out")
	}
}

func (v *validator) files() {
	l := v.l
	for _, p := range l.httpsKeypairs {
		if p.CertFile == "" || p.KeyFile == "" {
			v.fault("https-keypairs", p.CertFile+","+p.KeyFile, "give both %s and %s", certFileKey, keyFileKey)
		}
	}
	if len(l.httpsKeypairs) > 0 {
		return
	}
	for _, o := range []struct{ name, value string }{{"client-ca-file", l.clientCAFile}, {"ca-file", l.caFile}} {
		if o.value != "" {
			v.fault(o.name, o.value, "it is of no use in plain text: give https_keypairs too, or leave it out")
		}
	}
}

// secrecy finds what strangers could read or write.
func (v *validator) secrecy() {
	l := v.l
	off := slices.Contains(l.identities, identitiesOff)
	if _, err := access.ParseIdentities(l.identities...); err != nil && !off {
		v.fault("identities", strings.Join(l.identities, ","), "%v", err)
	}
	switch {
	case off && len(l.identities) > 1:
		v.fault("identities", strings.Join(l.identities, ","), "give rules, or %s alone", identitiesOff)
	case len(l.identities) == 0:
		v.fault("identities", "", "give rules, or %s to let whoever has a certificate do everything", identitiesOff)
	}
	if l.asksWho() {
		if l.clientCAFile == "" {
			v.fault("client-ca-file", "", "clients prove nothing without: give the authorities of their certificates, or identities: %s", identitiesOff)
		}
		if l.caFile == "" {
			v.fault("ca-file", "", "other trackers prove nothing by the system's authorities: give that of their certificates, or identities: %s", identitiesOff)
		}
	}
	for _, e := range l.exposed() {
		if !l.insecure {
			v.fault(e.option, e.addr, "%s", e.remedy)
		}
	}
}

// An exposure is an address that is not loopback and does not ask who calls.
type exposure struct{ option, addr, remedy string }

// exposed returns where strangers could read or write.
func (c *config) exposed() []exposure {
	var found []exposure
	plain := len(c.httpsKeypairs) == 0
	note := func(open bool, option, addr, remedy string) {
		if open && checkListen(addr) == nil && !isLoopback(addr) {
			found = append(found, exposure{option, addr, remedy + ", or an address of loopback, or insecure: true"})
		}
	}
	note(plain, "listen-addr", c.listenAddr, "it would serve strangers: give https_keypairs, ca_file and client_ca_file")
	note(plain || c.clientCAFile == "" || !c.asksWho(), "admin-addr", c.adminAddr,
		"it would serve strangers: give https_keypairs, client_ca_file and identities, and probe_addr for probes and metrics")
	note(c.gossipKeyFile == "" && !c.asksWho(), "gossip-addr", c.gossipAddr,
		"strangers could join the gossip: give gossip_key_file, or https_keypairs with identities")
	return found
}

// isLoopback reports whether a well formed address to listen at is of this machine
// alone.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
