package devcerts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/trackerpool/trackerpool/access"
)

// names matches names that are the same as files, in URIs and on the command line.
func names() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`) }

// Loopback returns the hosts of a tracker on this machine.
func Loopback() []string { return []string{"localhost", "127.0.0.1", "::1"} }

// A Pair is the names of the files of a certificate and its key.
type Pair struct{ CertFile, KeyFile string }

// Issue writes a certificate that gives an identity, and its key, as ROLE-NAME.crt and
// ROLE-NAME.key. hosts are DNS names and IP addresses under which clients that know
// nothing of identities may dial it. It is an error that wraps fs.ErrExist if one of
// the files is there.
func (a *Authority) Issue(role access.Role, name string, hosts []string, valid time.Duration) (Pair, error) {
	base := role.String() + "-" + name
	if !names().MatchString(name) {
		return Pair{}, fmt.Errorf("%s %q: give a name of 1 to 63 letters, digits, '-', '_' and '.', that begins with a letter or a digit", role, name)
	}
	cert, err := template(base, valid)
	if err != nil {
		return Pair{}, err
	}
	if cert.NotAfter.After(a.cert.NotAfter) {
		cert.NotAfter = a.cert.NotAfter
	}
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if role == access.Tracker {
		cert.ExtKeyUsage = append(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if err := a.addNames(cert, role, name, hosts); err != nil {
		return Pair{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, err
	}
	if err := a.write(base, der, key); err != nil {
		return Pair{}, err
	}
	return Pair{CertFile: filepath.Join(a.dir, base+".crt"), KeyFile: filepath.Join(a.dir, base+".key")}, nil
}

// addNames adds the name that gives the identity, and the hosts.
func (a *Authority) addNames(cert *x509.Certificate, role access.Role, name string, hosts []string) error {
	wanted := a.identities.Wanted(role, name)
	switch dns, isDNS := strings.CutPrefix(wanted, "dns:"); {
	case wanted == "":
		return fmt.Errorf("%s %q: no rule of the identities (%v) can give it: choose another name, or add a rule", role, name, a.identities)
	case isDNS:
		cert.DNSNames = append(cert.DNSNames, dns)
	default:
		u, err := url.Parse(wanted)
		if err != nil {
			return fmt.Errorf("%s %q: %w", role, name, err)
		}
		cert.URIs = append(cert.URIs, u)
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else if !slices.Contains(cert.DNSNames, h) {
			cert.DNSNames = append(cert.DNSNames, h)
		}
	}
	if who, err := a.identities.Of(cert); err != nil {
		return fmt.Errorf("%s %q with hosts %v: %w", role, name, hosts, err)
	} else if who.Role != role {
		return fmt.Errorf("%s %q with hosts %v: the certificate would be of %v", role, name, hosts, who)
	}
	return nil
}
