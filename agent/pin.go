package agent

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// parsePin reads a SHA-256 in hex (colons allowed) or base64, with or without a
// "sha256:" or "sha256//" in front. Empty is no pin.
func parsePin(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	v := s
	for _, prefix := range []string{"sha256//", "sha256:", "sha256/"} {
		v = strings.TrimPrefix(v, prefix)
	}
	if b, err := hex.DecodeString(strings.ReplaceAll(v, ":", "")); err == nil && len(b) == sha256.Size {
		return b, nil
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if b, err := enc.DecodeString(v); err == nil && len(b) == sha256.Size {
			return b, nil
		}
	}
	return nil, fmt.Errorf("agent: CA pin %.80q is not valid: give the SHA-256 of the certificate's public key (SubjectPublicKeyInfo) as 64 hex digits or as base64", s)
}

// parsePins reads pins with commas between them: while the centre's authority is
// being replaced there are two.
func parsePins(s string) (pins [][]byte, err error) {
	for part := range strings.SplitSeq(s, ",") {
		pin, err := parsePin(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if pin != nil {
			pins = append(pins, pin)
		}
	}
	return pins, nil
}

// tlsConfig is the agent's side of TLS towards the centre. ALPN is HTTP/1.1, so
// that the tunnel's upgrade passes reverse proxies.
func tlsConfig(host string, pins ...[]byte) *tls.Config {
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if len(pins) > 0 {
		// verifyPin does all of what is skipped here, with the pinned key as the
		// only root.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(s tls.ConnectionState) error {
			return verifyPin(s.PeerCertificates, host, pins)
		}
	}
	return c
}

// clockSkew is how far this machine's clock may be off for the centre to be
// believed: the pinned key has proved who it is.
const clockSkew = time.Hour

// withinSkew moves a time that is just outside of the certificates' dates to
// their edge.
func withinSkew(now time.Time, chain []*x509.Certificate) time.Time {
	for _, c := range chain {
		if now.Before(c.NotBefore) && c.NotBefore.Sub(now) <= clockSkew {
			now = c.NotBefore
		}
		if now.After(c.NotAfter) && now.Sub(c.NotAfter) <= clockSkew {
			now = c.NotAfter
		}
	}
	return now
}

// verifyPin accepts a chain that leads to a certificate with the pinned key. If
// that is the centre's own, holding the key is all the proof there is to ask
// for; if it is a CA's, the name and dates have to be right as usual.
func verifyPin(chain []*x509.Certificate, host string, pins [][]byte) error {
	if len(chain) == 0 {
		return errors.New("the centre sent no certificate")
	}
	for i, cert := range chain {
		sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		if !slices.ContainsFunc(pins, func(pin []byte) bool { return subtle.ConstantTimeCompare(sum[:], pin) == 1 }) {
			continue
		}
		if i == 0 {
			return nil
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(cert)
		for _, c := range chain[1:] {
			between.AddCert(c)
		}
		now := time.Now()
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host, CurrentTime: withinSkew(now, chain[:i+1])})
		if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return fmt.Errorf("%w; is this machine's clock right? It says %s", err, now.UTC().Format(time.RFC3339))
		}
		return err
	}
	sum := sha256.Sum256(chain[len(chain)-1].RawSubjectPublicKeyInfo)
	return fmt.Errorf("no certificate of the centre has the pinned key: it sent %d, the last with key sha256:%s; check OPS_CA_PIN", len(chain), hex.EncodeToString(sum[:]))
}
