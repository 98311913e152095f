package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	// DefaultPort is the port to gossip on where BindAddr has none.
	DefaultPort = 7946

	maxPoolLen = 63
	maxTerm    = time.Hour
)

// Config is what [Join] needs to know besides the tracker itself. A zero field
// means the default that its comment gives.
type Config struct {
	// Pool is the pool's name, 1 to 63 bytes; mandatory. It labels every packet,
	// so that pools that come to share an address do not merge.
	Pool string

	// BindAddr is the host:port to gossip on, TCP and UDP; the host is an IP
	// address, or empty for all. Port 0 picks one. Default: ":7946".
	BindAddr string

	// AdvertiseAddr is the host[:port] that others gossip to; the host may be a
	// DNS name, looked up once. Default: what is bound; for all addresses, the
	// first private one, else the first that is not a loopback address.
	AdvertiseAddr string

	// Join has the host[:port] of members to join, literal or DNS names, of which
	// all addresses count and which are looked up at each try. Default port: that
	// of BindAddr.
	Join []string

	// KeyFile names a file of keys, one a line, base64 of 16, 24 or 32 bytes: the
	// first encrypts, all decrypt. It is read again every KeyInterval; while what
	// is there cannot be used, the keys that were read before stay. Default: no
	// encryption.
	KeyFile string

	// KeyInterval is how often KeyFile is read. Default: 5 s.
	KeyInterval time.Duration

	// TLS, where given, has trackers prove to each other who they are: who has no
	// tracker's certificate is not heard, and one that was not met is in no view.
	// All trackers of a pool have it, or none. Default: whoever has the key, or
	// without keys anybody, is a tracker.
	TLS *TLS

	Shards int           // of the pool, 1 to 65536; mandatory
	Term   time.Duration // of the pool, whole milliseconds, at most an hour; mandatory

	// Seats are the sets of seats given, the newest last. Default: not known
	// yet; see [Gossip.SetSeats].
	Seats [][]ring.MemberID

	// RejoinInterval is how long to wait, half as much more or less, before one
	// missing member or address of Join is tried again. While no other member
	// was ever reached it starts at a twentieth, and doubles. Default: 10 s.
	RejoinInterval time.Duration

	Logger *slog.Logger // default: slog.Default()

	// Sockets is the network; default: the machine's. A simulation gives its own.
	Sockets Sockets

	// Resolve looks up a host name. Default: net.DefaultResolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

func (c Config) withDefaults() Config {
	c.BindAddr = cmp.Or(c.BindAddr, net.JoinHostPort("", strconv.Itoa(DefaultPort)))
	c.RejoinInterval = cmp.Or(c.RejoinInterval, 10*time.Second)
	c.KeyInterval = cmp.Or(c.KeyInterval, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return c
}

// Validate returns all faults of the configuration, joined. It reads no file.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Pool) == 0 || len(c.Pool) > maxPoolLen {
		fault("pool: name %q has %d bytes: give it 1 to %d, the same at all trackers of the pool", c.Pool, len(c.Pool), maxPoolLen)
	}
	bind, err := parseBind(c.BindAddr)
	if err != nil {
		fault("bind address: %w", err)
	}
	if c.AdvertiseAddr != "" {
		if _, _, err := splitHostPort(c.AdvertiseAddr, 1); err != nil {
			fault("advertise address: %w", err)
		}
	} else if c.Sockets != nil && !bind.Addr().IsValid() {
		fault("bind address %q names no host, and of a network given as Sockets the addresses are not known: name the host", c.BindAddr)
	}
	for _, address := range c.Join {
		if _, _, err := splitHostPort(address, 1); err != nil {
			fault("join: %w", err)
		}
	}
	if c.Shards < 1 || c.Shards > maxShards {
		fault("shards %d: give what the pool was made with, 1 to %d", c.Shards, maxShards)
	}
	if c.Term < time.Millisecond || c.Term > maxTerm || c.Term%time.Millisecond != 0 {
		fault("term %v: give the pool's, whole milliseconds, at most %v", c.Term, maxTerm)
	}
	if c.RejoinInterval < time.Millisecond {
		fault("rejoin interval %v: give at least 1ms, or 0 for the default", c.RejoinInterval)
	}
	if c.KeyInterval < time.Millisecond {
		fault("key interval %v: give at least 1ms, or 0 for the default", c.KeyInterval)
	}
	return errors.Join(append(errs, validateSeats(c.Seats))...)
}

// validateSelf returns all faults of the member that is to join, joined.
func validateSelf(m ring.Member) error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(m.ID) == 0 || len(m.ID) > maxIDLen {
		fault("id: %q has %d bytes: give it 1 to %d", m.ID, len(m.ID), maxIDLen)
	}
	if m.Boot == 0 || m.Boot >= maxBoot {
		fault("boot %d is not in 1 to 2^63-1: take it from NewBoot, and check the clock", m.Boot)
	}
	if len(m.Addr) == 0 || len(m.Addr) > maxAddrLen {
		fault("addr: %q has %d bytes: give the host:port of the gRPC server, at most %d", m.Addr, len(m.Addr), maxAddrLen)
	}
	if len(m.Zone) > maxZoneLen {
		fault("zone: %q has %d bytes: give at most %d", m.Zone, len(m.Zone), maxZoneLen)
	}
	if m.State > ring.Leaving {
		fault("state: %v is none: give joining, serving or leaving", m.State)
	}
	if m.Algorithm == 0 || m.Algorithm > ring.Algorithm {
		fault("algorithm %d is not known here: give 1 to %d", m.Algorithm, ring.Algorithm)
	}
	if m.Replicas == 0 {
		fault("replicas: none given: give 1 to 15")
	}
	return errors.Join(errs...)
}

// parseBind returns the address to bind, which is not valid where all are meant.
func parseBind(s string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: give ip:port: %w", s, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: port %q: give a number, 0 to 65535", s, port)
	}
	var ip netip.Addr
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q: host %q: give an IP address, or none for all", s, host)
		}
	}
	if ip.IsUnspecified() {
		ip = netip.Addr{}
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), nil
}

// splitHostPort splits host[:port]. The host may be an IPv6 address, in
// brackets if there is a port.
func splitHostPort(s string, standard uint16) (string, uint16, error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if ip, err := netip.ParseAddr(bare); err == nil {
		return ip.Unmap().String(), standard, nil
	}
	if s != "" && !strings.ContainsAny(s, ":[]") {
		return s, standard, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("%q: give host or host:port", s)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", 0, fmt.Errorf("%q: port %q: give a number, 1 to 65535", s, port)
	}
	return host, uint16(number), nil
}

// lookup returns the addresses of a host, without repeats.
func (c Config) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap().WithZone("")}, nil
	}
	found, err := c.Resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", host, err)
	}
	var ips []netip.Addr
	for _, ip := range found {
		if ip = ip.Unmap().WithZone(""); !slices.Contains(ips, ip) {
			ips = append(ips, ip)
		}
	}
	return ips, nil
}

// advertised returns where others gossip to, if the given address is bound.
func (c Config) advertised(ctx context.Context, bound netip.AddrPort) (netip.AddrPort, error) {
	if c.AdvertiseAddr != "" {
		host, port, err := splitHostPort(c.AdvertiseAddr, bound.Port())
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("advertise address: %w", err)
		}
		ips, err := c.lookup(ctx, host)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("advertise address %q: %w", c.AdvertiseAddr, err)
		}
		if len(ips) == 0 {
			return netip.AddrPort{}, fmt.Errorf("advertise address %q: the name has no address: give another, or a literal one", c.AdvertiseAddr)
		}
		return netip.AddrPortFrom(ips[0], port), nil
	}
	if bound.Addr().IsValid() {
		return bound, nil
	}
	found, err := net.InterfaceAddrs()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("list this machine's addresses, to advertise one: %w", err)
	}
	var ips []netip.Addr
	for _, a := range found {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			ips = append(ips, prefix.Addr().Unmap())
		}
	}
	ip, ok := chooseAddr(ips)
	if !ok {
		return netip.AddrPort{}, errors.New("this machine has no address to advertise: give an advertise address")
	}
	return netip.AddrPortFrom(ip, bound.Port()), nil
}

// chooseAddr returns the best of a machine's addresses for others to use: a
// private one, else any that is routed, else a loopback address.
func chooseAddr(ips []netip.Addr) (netip.Addr, bool) {
	for _, fits := range []func(netip.Addr) bool{
		func(ip netip.Addr) bool { return ip.IsPrivate() && ip.Is4() },
		netip.Addr.IsPrivate,
		netip.Addr.IsGlobalUnicast,
		netip.Addr.IsLoopback,
	} {
		if i := slices.IndexFunc(ips, fits); i >= 0 {
			return ips[i], true
		}
	}
	return netip.Addr{}, false
}
