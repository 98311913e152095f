package trackercmd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// gossipProtocol tells gossip from gRPC in a handshake: none is taken for the other.
const gossipProtocol = "trackerpool-gossip"

// tlsFiles returns what to show and trust as a server, and as a client of other
// trackers.
func (r *runner) tlsFiles() (server, client rpc.TLSFiles) {
	c := r.cfg
	server = rpc.TLSFiles{KeyPairs: c.httpsKeypairs, CAFile: c.clientCAFile}
	client = rpc.TLSFiles{KeyPairs: c.httpsKeypairs, CAFile: c.caFile}
	if c.asksWho() {
		server.Own, client.Own, client.Identities = r.isOwn, r.isOwn, &r.identities
	}
	return server, client
}

// gossipTLS returns how trackers know each other in gossip, or nil where the key is
// all that they show.
func (r *runner) gossipTLS() (*membership.TLS, error) {
	if !r.cfg.asksWho() {
		return nil, nil
	}
	serverFiles, clientFiles := r.tlsFiles()
	server, err := rpc.ServerTLS(serverFiles, r.log, gossipProtocol)
	if err != nil {
		return nil, fmt.Errorf("https_keypairs, client_ca_file: %w", err)
	}
	client, err := rpc.ClientTLS(clientFiles, r.log, gossipProtocol)
	if err != nil {
		return nil, fmt.Errorf("https_keypairs, ca_file: %w", err)
	}
	return &membership.TLS{
		Server: func() *tls.Config { return server },
		Client: client,
		Who: func(cert *x509.Certificate) (ring.MemberID, error) {
			who, err := r.identities.Of(cert)
			if err == nil && who.Role != access.Tracker {
				err = &node.DeniedError{Field: "certificate", Value: who.From, Problem: fmt.Sprintf("it is of %v, and gossip is for trackers", who)}
			}
			return ring.MemberID(who.Name), err
		},
	}, nil
}

// credentials returns how to serve gRPC, and how to dial other trackers.
func (r *runner) credentials() ([]rpc.ServerOption, rpc.Credentials, error) {
	options := []rpc.ServerOption{rpc.WithLogger(r.log), rpc.WithLimits(r.cfg.limits.ofServer())}
	c := r.cfg
	if len(c.httpsKeypairs) == 0 {
		return options, rpc.Insecure(), nil
	}
	if c.asksWho() {
		var err error
		if r.identities, err = access.ParseIdentities(c.identities...); err != nil {
			return nil, nil, fmt.Errorf("identities: %w", err)
		}
		options = append(options, rpc.WithIdentities(r.identities))
	}
	server, client := r.tlsFiles()
	serving, err := rpc.ServerCredentials(server, r.log)
	if err != nil {
		return nil, nil, fmt.Errorf("https_keypairs, client_ca_file: %w", err)
	}
	dialing, err := rpc.ClientCredentials(client, r.log)
	if err != nil {
		return nil, nil, fmt.Errorf("https_keypairs, ca_file: %w", err)
	}
	return append(options, rpc.WithServerCredentials(serving)), dialing, nil
}

// isOwn returns an error unless a certificate makes this tracker what it says it is:
// with another one nobody would speak with it.
func (r *runner) isOwn(cert *x509.Certificate) error {
	who, err := r.identities.Of(cert)
	if err == nil && (who.Role != access.Tracker || who.Name != r.cfg.id) {
		err = &node.DeniedError{Field: "certificate", Value: who.From, Problem: fmt.Sprintf("it is of %v", who)}
	}
	if err != nil {
		return fmt.Errorf("%w; tracker %q needs one with the name %s", err, r.cfg.id, r.identities.Wanted(access.Tracker, r.cfg.id))
	}
	return nil
}

// adminTLS returns how to serve HTTP to operators, or nil for plain text.
func (r *runner) adminTLS() (*tls.Config, error) {
	c := r.cfg
	if !c.asksWho() || isLoopback(c.adminAddr) {
		return nil, nil
	}
	cfg, err := rpc.ServerTLS(rpc.TLSFiles{KeyPairs: c.httpsKeypairs, CAFile: c.clientCAFile, Own: r.isOwn}, r.log, "http/1.1")
	if err != nil {
		return nil, fmt.Errorf("admin_addr: %w", err)
	}
	return cfg, nil
}

// warnOfStrangers says at every start what is open to whoever reaches it.
func (r *runner) warnOfStrangers() {
	c := r.cfg
	var open []string
	for _, e := range c.exposed() {
		open = append(open, strings.ReplaceAll(e.option, "-", "_")+"="+e.addr)
	}
	switch {
	case len(open) > 0:
		r.log.Warn("insecure: whoever reaches these addresses can read where nodes are, and hijack their connections", "addresses", open)
	case len(c.httpsKeypairs) == 0:
		r.log.Warn("plain text on loopback: whoever has a process on this machine can read where nodes are, and hijack their connections")
	}
	if len(c.httpsKeypairs) > 0 && !c.asksWho() {
		r.log.Warn("identities are off: whoever has a certificate may do everything", "client_ca_file", c.clientCAFile)
	}
}
