package membership

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/trackerpool/trackerpool/ring"
)

// An authority signs certificates that say in their common name who one is.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newECKey(t)}
	a.cert = a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, a.key)
	return a
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(t *testing.T, cert *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	parent := a.cert
	if parent == nil {
		parent = cert
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// tlsFor returns how the holder of a certificate of that name meets others.
func (a *authority) tlsFor(t *testing.T, name string) *TLS {
	t.Helper()
	key := newECKey(t)
	leaf := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key)
	own := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	server := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	client := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
			return err
		},
	}
	return &TLS{
		Server: func() *tls.Config { return server },
		Client: func() *tls.Config { return client },
		Who: func(c *x509.Certificate) (ring.MemberID, error) {
			id, ok := strings.CutPrefix(c.Subject.CommonName, "tracker/")
			if !ok {
				return "", fmt.Errorf("the certificate is of %s: get one of a tracker", c.Subject.CommonName)
			}
			return ring.MemberID(id), nil
		},
	}
}

// Trackers with certificates find each other, see states change, crash, come back
// and leave as those without do.
func TestMeet(t *testing.T) {
	ca := newAuthority(t)
	with := func(id string) Config {
		cfg := someConfig()
		cfg.TLS = ca.tlsFor(t, "tracker/"+id)
		return cfg
	}
	a := mustJoin(t, someSelf("a"), with("a"))
	b := mustJoin(t, someSelf("b"), with("b"), a)
	c := mustJoin(t, someSelf("c"), with("c"), b)
	awaitAll(t, "three members", a, b, c)
	for _, g := range []*Gossip{a, b, c} {
		if err := g.SetState(ring.Serving); err != nil {
			t.Fatal(err)
		}
	}
	awaitAll(t, "all serving", a, b, c)

	former := c.Self()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	self := someSelf("c")
	self.Boot = NewBoot(time.Now(), former.Boot)
	c = mustJoin(t, self, with("c"), a)
	awaitAll(t, "the second boot", a, b, c)

	if err := c.SetState(ring.Leaving); err != nil {
		t.Fatal(err)
	}
	awaitAll(t, "c leaving", a, b, c)
	if err := c.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitAll(t, "c gone", a, b)
	for _, g := range []*Gossip{a, b} {
		for reason, n := range g.Refused() {
			if n > 0 {
				t.Errorf("%q refused %d packets or streams: %s", g.Self().ID, n, reason)
			}
		}
	}
}

// Whoever has no certificate of a tracker, or of another one, is in no view and
// sees nobody, though it has the gossip key.
func TestStrangers(t *testing.T) {
	ca := newAuthority(t)
	key := newKeyFile(t, NewKey()).name
	var book logBook
	with := func(tls *TLS) Config {
		cfg := someConfig()
		cfg.TLS, cfg.KeyFile = tls, key
		return cfg
	}
	secure := with(ca.tlsFor(t, "tracker/a"))
	secure.Logger = book.logger()
	a := mustJoin(t, someSelf("a"), secure)
	b := mustJoin(t, someSelf("b"), with(ca.tlsFor(t, "tracker/b")), a)
	awaitAll(t, "two members", a, b)
	for _, c := range []struct {
		name string
		tls  *TLS
		want string // in the log
	}{
		{"no certificate", nil, "give all trackers https_keypairs, ca_file and client_ca_file"},
		{"a proxy's certificate", ca.tlsFor(t, "proxy/c"), "the certificate is of proxy/c: get one of a tracker"},
		{"another tracker's", ca.tlsFor(t, "tracker/d"), `it says that it is \"c\", and its certificate is of tracker \"d\"`},
		{"another authority's", newAuthority(t).tlsFor(t, "tracker/c"), "certificate"},
	} {
		before := a.Refused()[reasonTracker]
		g := mustJoin(t, someSelf("c"), with(c.tls), a, b)
		awaitTrue(t, "a refusal of "+c.name, func() bool { return a.Refused()[reasonTracker] > before })
		if g.Joined() || !sees(g)(g.View()) {
			t.Errorf("%s: joined %v, and sees %+v", c.name, g.Joined(), g.View().Members())
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if !sees(a, b)(a.View()) || !sees(a, b)(b.View()) {
			t.Errorf("%s: the views are %+v and %+v", c.name, a.View().Members(), b.View().Members())
		}
		// It is logged once a minute.
		a.transport.gate.mu.Lock()
		clear(a.transport.gate.warned)
		a.transport.gate.mu.Unlock()
		if !book.has("level=WARN", "reason=tracker", c.want) {
			t.Errorf("%s: the log does not say %q:\n%s", c.name, c.want, strings.Join(book.lines, ""))
		}
	}
}

// Who has the gossip key, and hears all that is sent, can neither forge a tracker
// nor kill one.
func TestKeyAloneForgesNothing(t *testing.T) {
	ca := newAuthority(t)
	key := bytes.Repeat([]byte{'k'}, 32)
	file := newKeyFile(t, base64.StdEncoding.EncodeToString(key)).name
	tap := &tapped{machine: machine{netip.MustParseAddr("127.0.0.1")}}
	with := func(id string) Config {
		cfg := someConfig()
		cfg.TLS, cfg.KeyFile = ca.tlsFor(t, "tracker/"+id), file
		return cfg
	}
	tapping := with("b")
	tapping.Sockets = tap
	a := mustJoin(t, someSelf("a"), with("a"))
	b := mustJoin(t, someSelf("b"), tapping, a)
	c := mustJoin(t, someSelf("c"), with("c"), a)
	all := []*Gossip{a, b, c}
	awaitAll(t, "three members", all...)

	ghost := someMeta()
	ghost.ID, ghost.shards, ghost.seats = "ghost", someConfig().Shards, Seats{}
	younger := ghost
	younger.Member = c.Self()
	younger.Boot++
	at := netip.MustParseAddrPort("127.0.0.1:9")
	forged := [][]byte{
		message(kindAlive, aliveFields(ghost, at, 1)...),
		message(kindAlive, aliveFields(younger, at, 1)...),
	}
	for _, kind := range []byte{kindSuspect, kindDead} {
		forged = append(forged, message(kind,
			field{"Incarnation", uint64(1 << 31)}, field{"Node", []byte(gossipName(c.Self().ID, c.Self().Boot))}, field{"From", []byte("x")}))
	}
	h := hostile{t: t, victim: a, keys: a.transport.keys(), tap: tap}
	before := a.Refused()
	for _, g := range all {
		select {
		case <-g.Views():
		default:
		}
	}
	packets := make(map[string][]byte)
	for i, b := range forged {
		packets[fmt.Sprint(i)] = b
	}
	for range 20 {
		h.sendAll(packets)
	}
	awaitTrue(t, "b to have sent something to a, and that to come again", func() bool {
		h.replay()
		return a.Refused()[reasonRepeated] > before[reasonRepeated]
	})
	// By a stream, and by one under TLS without a certificate.
	var rec recorder
	sealed := &sealedConn{Conn: &rec, keys: h.keys, pool: "test"}
	fields := aliveFields(ghost, at, 1)
	fields[1].name = "Name"
	state := message(kindPushPull, field{"Nodes", uint64(1)}, field{"UserStateLen", uint64(0)}, field{"Join", false})
	state = append(state, mapOf(append(fields, field{"State", uint64(0)})...)...)
	if _, err := sealed.Write(append([]byte(labelOf("test")), state...)); err != nil {
		t.Fatal(err)
	}
	h.stream("a push/pull", bytes.Join(rec.written, nil))
	if conn, err := tls.Dial("tcp", a.Addr(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		_, _ = conn.Write(bytes.Join(rec.written, nil))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("one without a certificate is answered")
		}
		conn.Close()
	}
	awaitTrue(t, "the refusals", func() bool { return a.Refused()[reasonTracker] > before[reasonTracker] })
	for _, g := range all {
		select {
		case v := <-g.Views():
			t.Errorf("the view of %q has changed: %+v", g.Self().ID, v.Members())
		default:
		}
	}
	for _, state := range []ring.State{ring.Serving, ring.Joining} {
		for _, g := range all {
			if err := g.SetState(state); err != nil {
				t.Fatal(err)
			}
		}
		for _, g := range all {
			await(t, g, "all three", func(v ring.View) bool {
				if v.Len() != len(all) {
					t.Errorf("%q sees %+v", g.Self().ID, v.Members())
				}
				return sees(all...)(v)
			})
		}
	}
	for _, g := range all {
		if err := g.Err(); err != nil {
			t.Errorf("%q is told %v", g.Self().ID, err)
		}
	}
}

// Who has a tracker's certificate is a tracker, and is believed when it tells of
// others; but those take no shard until they have shown certificates of their own.
func TestTrackerInventsNobody(t *testing.T) {
	ca := newAuthority(t)
	with := func(id string) Config {
		cfg := someConfig()
		cfg.TLS = ca.tlsFor(t, "tracker/"+id)
		return cfg
	}
	a := mustJoin(t, someSelf("a"), with("a"))
	b := mustJoin(t, someSelf("b"), with("b"), a)
	awaitAll(t, "two members", a, b)
	// Where the invented ones are said to be a listener waits for a's certificate in vain.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	ghost := someMeta()
	ghost.ID, ghost.seats = "ghost", Seats{}
	younger := ghost
	younger.Member = a.Self()
	younger.Boot++
	for _, m := range []meta{ghost, younger} {
		forged := append([]byte(labelOf("test")), message(kindAlive, aliveFields(m, at, 1)...)...)
		to := memberlist.Address{Addr: a.Addr(), Name: gossipName("a", a.Self().Boot)}
		if _, err := b.transport.WriteToAddress(forged, to); err != nil {
			t.Fatal(err)
		}
		awaitTrue(t, "the invented one to be heard of", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.table.knows(m.name())
		})
		c, err := l.Accept() // it is asked who it is
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if !sees(a, b)(a.View()) || a.Err() != nil {
		t.Errorf("the view is %+v, the error %v", a.View().Members(), a.Err())
	}
}
