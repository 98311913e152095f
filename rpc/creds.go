package rpc

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/node"
)

// Credentials say how a connection is secured.
type Credentials = credentials.TransportCredentials

// Insecure returns credentials for plain text, which anybody on the network can
// read and write.
func Insecure() Credentials { return insecure.NewCredentials() }

// A KeyPair is the files, in PEM, of a certificate with its chain and of its
// private key.
type KeyPair struct {
	CertFile, KeyFile string
}

// TLSFiles are what an end of a connection proves itself with and what it trusts,
// in PEM.
type TLSFiles struct {
	// KeyPairs are this end's certificates; of several the first that suits the
	// other end is used. A server needs one; a client does where the server asks.
	KeyPairs []KeyPair
	// CAFile has the authorities that the other end's certificate must come from. A
	// server with one demands certificates of its clients (mutual TLS), and without
	// one asks for none. A client without one trusts the system's authorities.
	CAFile string
	// ServerName is whom a client expects instead of the host that it dials. Unused
	// by a server.
	ServerName string
	// Identities, where given, has a client look who the server is, and not where:
	// its certificate must be a tracker's by these rules, whatever address it has;
	// see also WithTracker. It needs a CAFile, since anybody may have a name that some
	// authority of the system signs. Unused by a server; see WithIdentities.
	Identities *access.Identities
	// Own, where given, says of each certificate of KeyPairs whether it will do, at
	// the start and whenever the files change.
	Own func(*x509.Certificate) error `json:"-"` // so that the rest can be told to other processes
}

// ServerCredentials returns credentials for a server: TLS 1.3. The files are read
// now, and again at the first handshake after one changed; while those that are
// there cannot be used, what was read before stays, and log says so; nil is
// slog.Default. Sessions are resumed, until a file changes.
func ServerCredentials(files TLSFiles, log *slog.Logger) (Credentials, error) {
	if len(files.KeyPairs) == 0 {
		return nil, errNoKeyPair
	}
	return newFileCredentials(files, log, true)
}

// ServerTLS returns a configuration for a server of other protocols, of a key pair and
// a CAFile like those of ServerCredentials.
func ServerTLS(files TLSFiles, log *slog.Logger, protocols ...string) (*tls.Config, error) {
	if len(files.KeyPairs) == 0 {
		return nil, errNoKeyPair
	}
	c, err := newFileCredentials(files, log, true, protocols...)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.present().config, nil },
	}, nil
}

// ClientTLS returns what returns the configuration for a client of other protocols, of
// files like those of ClientCredentials: of the files as they are then.
func ClientTLS(files TLSFiles, log *slog.Logger, protocols ...string) (func() *tls.Config, error) {
	c, err := newClient(files, log, protocols...)
	if err != nil {
		return nil, err
	}
	return func() *tls.Config { return c.present().config }, nil
}

var errNoKeyPair = errors.New("server credentials: no key pair is given; name the file of a certificate and that of its key")

// ClientCredentials returns credentials for Dial, as ServerCredentials does for a
// server.
func ClientCredentials(files TLSFiles, log *slog.Logger) (Credentials, error) {
	return newClient(files, log)
}

func newClient(files TLSFiles, log *slog.Logger, protocols ...string) (*fileCredentials, error) {
	if files.Identities != nil && files.CAFile == "" {
		return nil, errors.New("client credentials: trackers are to be known by their identities, but no CA file is named; name that of the trackers' authority")
	}
	return newFileCredentials(files, log, false, protocols...)
}

// fileCredentials hands each handshake on to the credentials of what the files
// say. It is safe for concurrent use.
type fileCredentials struct {
	files     TLSFiles
	server    bool
	protocols []string // besides gRPC's
	log       *slog.Logger

	mu     sync.Mutex // guards the rest
	loaded []stamp    // of the files that now was made of
	failed []stamp    // of the files that were complained of last
	now    loadedFiles
}

// loadedFiles are credentials, and what they were made of.
type loadedFiles struct {
	Credentials
	config *tls.Config
}

func newFileCredentials(files TLSFiles, log *slog.Logger, server bool, protocols ...string) (*fileCredentials, error) {
	c := &fileCredentials{files: files, server: server, protocols: protocols, log: cmp.Or(log, slog.Default())}
	// Stamps before contents: a file that changes in between is read once more.
	stamps := c.stamps()
	now, err := c.load()
	if err != nil {
		return nil, err
	}
	c.loaded, c.now = stamps, now
	return c, nil
}

// A stamp tells whether a file changed. The name of a mounted secret is a link to
// a link: os.Stat follows both, so that a swap shows too.
type stamp struct {
	modified time.Time
	size     int64
}

func (c *fileCredentials) stamps() []stamp {
	names := []string{c.files.CAFile}
	for _, p := range c.files.KeyPairs {
		names = append(names, p.CertFile, p.KeyFile)
	}
	stamps := make([]stamp, len(names))
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			stamps[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return stamps
}

// present returns the credentials of the files as they are now, or as they were
// when they were last fit for use.
func (c *fileCredentials) present() loadedFiles {
	stamps := c.stamps()
	c.mu.Lock()
	now, current, told := c.now, slices.Equal(stamps, c.loaded), slices.Equal(stamps, c.failed)
	c.mu.Unlock()
	if current {
		return now
	}
	fresh, err := c.load()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed = stamps
		if !told {
			c.log.Warn("TLS files changed and cannot be used: going on with what was read before", "error", err)
		}
		return c.now
	}
	c.loaded, c.failed, c.now = stamps, nil, fresh
	return fresh
}

// load reads the files. What it returns has tickets of its own: none outlives the
// files that it was given under.
func (c *fileCredentials) load() (loadedFiles, error) {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: c.files.ServerName,
		NextProtos: c.protocols,
	}
	if !c.server {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(resumable)
	}
	for _, p := range c.files.KeyPairs {
		pair, err := loadKeyPair(p)
		if err != nil {
			return loadedFiles{}, err
		}
		if c.files.Own != nil {
			if err := c.files.Own(pair.Leaf); err != nil {
				return loadedFiles{}, fmt.Errorf("certificate file %s: %w", p.CertFile, err)
			}
		}
		cfg.Certificates = append(cfg.Certificates, pair)
	}
	if c.files.CAFile != "" {
		pool, err := loadCAs(c.files.CAFile)
		if err != nil {
			return loadedFiles{}, err
		}
		if c.server {
			cfg.ClientCAs, cfg.ClientAuth = pool, tls.RequireAndVerifyClientCert
		} else {
			cfg.RootCAs = pool
		}
	}
	if ids := c.files.Identities; ids != nil && !c.server {
		// Not "do not verify": without a name to compare, verifyTracker does the rest.
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = func(s tls.ConnectionState) error { return verifyTracker(s, cfg.RootCAs, *ids) }
	}
	return loadedFiles{credentials.NewTLS(cfg), cfg}, nil
}

// resumable is how many servers' sessions a client can resume.
const resumable = 64

// verifyTracker returns an error unless the server is a tracker that an authority of
// roots vouches for. It runs at resumed handshakes too.
func verifyTracker(s tls.ConnectionState, roots *x509.CertPool, ids access.Identities) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, cert := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := s.PeerCertificates[0].Verify(opts); err != nil {
		return err
	}
	who, err := ids.Of(s.PeerCertificates[0])
	if err == nil && who.Role != access.Tracker {
		err = &node.DeniedError{Field: "certificate", Value: who.From, Problem: fmt.Sprintf("what was dialed is %v, and no tracker; look at the address", who)}
	}
	return err
}

// only are credentials of a client for the tracker of one ID alone.
type only struct {
	Credentials
	identities access.Identities
	tracker    string
}

func (o only) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, auth, err := o.Credentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	info, _ := auth.(credentials.TLSInfo)
	var who access.Identity
	if len(info.State.PeerCertificates) > 0 { // verifyTracker has verified it
		who, err = o.identities.Of(info.State.PeerCertificates[0])
	}
	if err == nil && who.Name != o.tracker {
		err = &node.DeniedError{Field: "certificate", Value: who.From, Problem: fmt.Sprintf("what was dialed is %v, and not tracker %q", who, o.tracker)}
	}
	if err != nil {
		_ = conn.Close() // the error says why
		return nil, nil, err
	}
	return conn, auth, nil
}

func (o only) Clone() Credentials { return only{o.Credentials.Clone(), o.identities, o.tracker} }

// forTracker returns creds that are good for one tracker alone, where they look who
// it is.
func forTracker(creds Credentials, tracker string) Credentials {
	if c, ok := creds.(*fileCredentials); ok && c.files.Identities != nil && tracker != "" {
		return only{c, *c.files.Identities, tracker}
	}
	return creds
}

func loadKeyPair(p KeyPair) (tls.Certificate, error) {
	cert, err := readPEM("certificate", p.CertFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readPEM("private key", p.KeyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate file %s with key file %s: %w; give a PEM certificate and the PEM key that it was made for",
			p.CertFile, p.KeyFile, err)
	}
	return pair, nil
}

func loadCAs(name string) (*x509.CertPool, error) {
	text, err := readPEM("CA", name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("CA file %s has no certificate: give one or more in PEM", name)
	}
	return pool, nil
}

func readPEM(what, name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	switch {
	case name == "":
		return nil, fmt.Errorf("no %s file is named: give certificate and key together", what)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s file %s does not exist: is the secret mounted there?", what, name)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s file %s may not be read by user %d: change its owner or mode", what, name, os.Getuid())
	case err != nil:
		return nil, fmt.Errorf("%s file: %w", what, err)
	}
	return text, nil
}

func (c *fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.present().ClientHandshake(ctx, authority, conn)
}

func (c *fileCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.present().ServerHandshake(conn)
}

func (c *fileCredentials) Info() credentials.ProtocolInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now.Info()
}

// Clone returns c, which nobody can change.
func (c *fileCredentials) Clone() Credentials { return c }

// OverrideServerName refuses: TLSFiles.ServerName is the way.
func (c *fileCredentials) OverrideServerName(string) error {
	return errors.New("the server name is fixed: set TLSFiles.ServerName")
}
