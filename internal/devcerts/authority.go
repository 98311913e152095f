package devcerts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/trackerpool/trackerpool/access"
)

const (
	// Validity is how long certificates hold by default, the authority's included.
	Validity = 365 * 24 * time.Hour

	// backdated is how far clocks may be behind that of whoever made a certificate.
	backdated = 5 * time.Minute

	caName = "ca"

	dirMode, keyMode, certMode = 0o700, 0o600, 0o644
)

// An Authority signs certificates into a directory, which it has a certificate and a
// key of its own in.
type Authority struct {
	dir        string
	identities access.Identities
	cert       *x509.Certificate
	key        *ecdsa.PrivateKey
}

// Open returns the authority of a directory. Where there is none it makes the
// directory, readable by its owner alone, and the authority, which holds for so long
// from now on. identities say which names certificates get.
func Open(dir string, identities access.Identities, valid time.Duration) (*Authority, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, err
	}
	a := &Authority{dir: dir, identities: identities}
	err := a.load()
	if errors.Is(err, fs.ErrNotExist) {
		if err = a.create(valid); errors.Is(err, fs.ErrExist) { // another one just has
			err = a.load()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("authority in %s: %w", dir, err)
	}
	return a, nil
}

// CAFile returns the name of the file with the authority's certificate.
func (a *Authority) CAFile() string { return filepath.Join(a.dir, caName+".crt") }

func (a *Authority) keyFile() string { return filepath.Join(a.dir, caName+".key") }

func (a *Authority) load() error {
	pair, err := tls.LoadX509KeyPair(a.CAFile(), a.keyFile())
	if errors.Is(err, fs.ErrNotExist) {
		if _, other := os.Stat(a.keyFile()); other == nil {
			return fmt.Errorf("%s is there, but %s is not: take another directory, or remove the former too", a.keyFile(), a.CAFile())
		}
		if _, other := os.Stat(a.CAFile()); other == nil {
			return fmt.Errorf("%s is there, but %s is not: take another directory, or bring the key", a.CAFile(), a.keyFile())
		}
	}
	if err != nil {
		return err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return fmt.Errorf("%s is no authority that was made here: take another directory", a.CAFile())
	}
	a.cert, a.key = pair.Leaf, key
	return nil
}

func (a *Authority) create(valid time.Duration) error {
	cert, err := template("trackerpool development CA", valid)
	if err != nil {
		return err
	}
	cert.IsCA, cert.BasicConstraintsValid, cert.MaxPathLenZero, cert.KeyUsage = true, true, true, x509.KeyUsageCertSign
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, a.key.Public(), a.key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	return a.write(caName, der, a.key)
}

// template is a certificate without what it is for.
func template(name string, valid time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-backdated), NotAfter: now.Add(valid),
	}, nil
}

// write writes a certificate and its key, and neither where one of them is there. The
// key comes first: whoever sees a certificate finds its key.
func (a *Authority) write(name string, der []byte, key *ecdsa.PrivateKey) error {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	keyFile, certFile := filepath.Join(a.dir, name+".key"), filepath.Join(a.dir, name+".crt")
	if _, err := os.Lstat(certFile); err == nil {
		return fmt.Errorf("%s: %w: remove it first, or take another name", certFile, fs.ErrExist)
	}
	if err := writeNew(keyFile, keyMode, &pem.Block{Type: "PRIVATE KEY", Bytes: secret}); err != nil {
		return err
	}
	if err := writeNew(certFile, certMode, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return errors.Join(err, os.Remove(keyFile))
	}
	return nil
}

func writeNew(name string, mode fs.FileMode, block *pem.Block) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err := errors.Join(pem.Encode(f, block), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
