package peer

import (
	"os"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/devcerts"
	"github.com/trackerpool/trackerpool/rpc"
)

// trackerID is the ID of the one tracker.
const trackerID = "t-0"

// A keyring is an authority with certificates of a tracker and of its clients. It is
// not safe for concurrent use.
type keyring struct {
	authority *devcerts.Authority
	ids       access.Identities
	server    devcerts.Pair
	clients   map[string]rpc.Credentials // by name
}

// makeKeys makes a keyring in a new directory below dir.
func makeKeys(dir string) (*keyring, error) {
	dir, err := os.MkdirTemp(dir, "keys-")
	if err != nil {
		return nil, err
	}
	k := &keyring{clients: make(map[string]rpc.Credentials)}
	if k.ids, err = access.ParseIdentities(access.DefaultRule); err != nil {
		return nil, err
	}
	if k.authority, err = devcerts.Open(dir, k.ids, devcerts.Validity); err != nil {
		return nil, err
	}
	k.server, err = k.authority.Issue(access.Tracker, trackerID, devcerts.Loopback(), devcerts.Validity)
	return k, err
}

// client returns credentials that show who speaks, the same each time.
func (k *keyring) client(role access.Role, name string) (rpc.Credentials, error) {
	if c, ok := k.clients[name]; ok {
		return c, nil
	}
	p, err := k.authority.Issue(role, name, nil, devcerts.Validity)
	if err != nil {
		return nil, err
	}
	c, err := rpc.ClientCredentials(rpc.TLSFiles{
		KeyPairs:   []rpc.KeyPair{{CertFile: p.CertFile, KeyFile: p.KeyFile}},
		CAFile:     k.authority.CAFile(),
		Identities: &k.ids,
	}, nil)
	if err == nil {
		k.clients[name] = c
	}
	return c, err
}
