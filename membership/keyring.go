package membership

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	maxKeys = 16

	// maxKeyFile is the largest key file that is read, in bytes.
	maxKeyFile = 64 << 10

	// newKeyBytes selects AES-256.
	newKeyBytes = 32
)

// NewKey returns a random key, as a line of a key file without its end.
func NewKey() string {
	b := make([]byte, newKeyBytes)
	rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

// A KeyFingerprint tells keys apart without telling the key: 16 hex digits of a
// hash.
type KeyFingerprint string

func fingerprintOf(key []byte) KeyFingerprint {
	sum := sha256.Sum256(append([]byte("trackerpool gossip key\x00"), key...))
	return KeyFingerprint(hex.EncodeToString(sum[:8]))
}

// Fingerprints returns those of the keys in the text of a key file, the one that
// encrypts first.
func Fingerprints(text string) ([]KeyFingerprint, error) {
	keys, err := parseKeys(text)
	if err != nil {
		return nil, err
	}
	r, err := newKeyring(keys)
	if err != nil {
		return nil, err
	}
	return r.fingerprints(), nil
}

// A sealer is one key, ready for use. It is safe for concurrent use.
type sealer struct {
	cipher.AEAD
	fingerprint KeyFingerprint
}

// A keyring is what seals, first, and all that open. It is not changed: another
// one takes its place.
type keyring []sealer

// newKeyring returns the ring of valid keys.
func newKeyring(keys [][]byte) (keyring, error) {
	var r keyring
	for _, key := range keys {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		r = append(r, sealer{aead, fingerprintOf(key)})
	}
	return r, nil
}

func (r keyring) fingerprints() []KeyFingerprint {
	var all []KeyFingerprint
	for _, s := range r {
		all = append(all, s.fingerprint)
	}
	return all
}

// A keyChange is what differs between two keyrings.
type keyChange struct {
	added, removed []KeyFingerprint
	promoted       KeyFingerprint // empty: the same key seals as before
}

// none reports whether nothing differs that matters: the order of the keys after
// the first does not.
func (c keyChange) none() bool { return len(c.added) == 0 && len(c.removed) == 0 && c.promoted == "" }

// changeOf returns what differs between two keyrings, of which neither is empty.
func changeOf(before, after []KeyFingerprint) keyChange {
	without := func(all, others []KeyFingerprint) []KeyFingerprint {
		return slices.DeleteFunc(slices.Clone(all), func(f KeyFingerprint) bool { return slices.Contains(others, f) })
	}
	c := keyChange{added: without(after, before), removed: without(before, after)}
	if before[0] != after[0] {
		c.promoted = after[0]
	}
	return c
}

// readKeys returns the keys of the file, or none if name is empty.
func readKeys(name string) (keyring, error) {
	if name == "" {
		return nil, nil
	}
	text, err := readKeyFile(name)
	if err != nil {
		return nil, err
	}
	return loadKeys(name, text)
}

func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("key file: %w: is the secret mounted there, and may this user read it?", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return text, nil
}

func loadKeys(name string, text []byte) (keyring, error) {
	keys, err := parseKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", name, err)
	}
	return newKeyring(keys)
}

// parseKeys returns the keys of the lines that are neither blank nor begin with
// '#', or all faults, joined. No error shows a key.
func parseKeys(text string) ([][]byte, error) {
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("it has more than %d bytes: is it the right file?", maxKeyFile)
	}
	var keys [][]byte
	var lines []int
	var errs []error
	var number int
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d is not base64: give 16, 24 or 32 bytes in base64", number))
			continue
		}
		if n := len(key); n != 16 && n != 24 && n != 32 {
			errs = append(errs, fmt.Errorf("line %d: the key has %d bytes: give 16, 24 or 32", number, n))
			continue
		}
		if i := slices.IndexFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }); i >= 0 {
			errs = append(errs, fmt.Errorf("line %d has the key of line %d again: leave one out", number, lines[i]))
			continue
		}
		keys, lines = append(keys, key), append(lines, number)
	}
	if len(keys) > maxKeys || len(keys) == 0 && errs == nil {
		errs = append(errs, fmt.Errorf("%d keys: give 1 to %d, one a line, the one to encrypt with first", len(keys), maxKeys))
	}
	return keys, errors.Join(errs...)
}

// Keys returns the fingerprints of the keys in use, the one that encrypts first;
// none where gossip is not encrypted.
func (g *Gossip) Keys() []KeyFingerprint { return g.transport.keys().fingerprints() }

// watchKeys reads the key file again and again, until ctx ends. The content is
// compared, not the time: a mounted secret is a link to a link, and a file that
// is written within a tick of the clock shows none.
func (t *transport) watchKeys(ctx context.Context, name string, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var refused string // what was complained of last
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := t.reloadKeys(name)
		if err == nil {
			refused = ""
		} else if text := err.Error(); text != refused {
			refused = text
			t.log.Warn("the gossip keys cannot be read: going on with those that were read before",
				"err", err, "keys", t.keys().fingerprints())
		}
	}
}

// reloadKeys puts what the file has into use.
func (t *transport) reloadKeys(name string) error {
	after, err := readKeys(name)
	if err != nil {
		return err
	}
	c := changeOf(t.keys().fingerprints(), after.fingerprints())
	if c.none() {
		return nil
	}
	t.keyring.Store(&after)
	t.log.Info("gossip keys changed", "keys", len(after), "encrypts", after[0].fingerprint, "added", c.added, "removed", c.removed,
		"promoted", cmp.Or(c.promoted, "none"))
	return nil
}

// keys returns the keyring in use, empty where nothing is sealed.
func (t *transport) keys() keyring {
	if r := t.keyring.Load(); r != nil {
		return *r
	}
	return nil
}
