package cli

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// loginFor is what this machine's user has for a centre. What `ops login` is
// about to keep comes first.
func (p *program) loginFor(base string) (credential, error) {
	if p.loginNow != nil {
		return *p.loginNow, nil
	}
	all, err := p.credentials()
	if err != nil {
		return credential{}, err
	}
	c := all[base]
	if c.Pin == "" {
		c.Pin = strings.ToLower(p.Getenv("OPS_CA_PIN"))
	}
	return c, nil
}

var pinPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// pinned trusts a chain that leads to a certificate with the pinned key, and
// nothing else; without a pin the system's authorities are asked as ever.
func pinned(base, pin string) (*tls.Config, error) {
	u, err := url.Parse(base)
	if err != nil || pin == "" || u.Scheme != "https" {
		return nil, err
	}
	if !pinPattern.MatchString(pin) {
		return nil, ops.Errorf(ops.Invalid, "the pin %.80q is not the SHA-256 of a key in hex: use what the centre printed when it started", pin)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does it, against the pin
		VerifyConnection: func(s tls.ConnectionState) error {
			return verifyPin(s.PeerCertificates, u.Hostname(), pin)
		},
	}, nil
}

func verifyPin(chain []*x509.Certificate, host, pin string) error {
	for i, cert := range chain {
		sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		if hex.EncodeToString(sum[:]) != pin {
			continue
		}
		if i == 0 {
			return nil // holding the key is all the proof there is to ask for
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(cert)
		for _, c := range chain[1:] {
			between.AddCert(c)
		}
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
		return err
	}
	return errPin
}

var errPin = errors.New("the centre has another key than the one that was pinned: compare the pin with what it printed when it started")
