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
	"strings"
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

// tlsConfig is the agent's side of TLS towards the centre. ALPN is HTTP/1.1, so
// that the tunnel's upgrade passes reverse proxies.
func tlsConfig(host string, pin []byte) *tls.Config {
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if pin != nil {
		// verifyPin does all of what is skipped here, with the pinned key as the
		// only root.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(s tls.ConnectionState) error {
			return verifyPin(s.PeerCertificates, host, pin)
		}
	}
	return c
}

// verifyPin accepts a chain that leads to a certificate with the pinned key. If
// that is the centre's own, holding the key is all the proof there is to ask
// for; if it is a CA's, the name and dates have to be right as usual.
func verifyPin(chain []*x509.Certificate, host string, pin []byte) error {
	if len(chain) == 0 {
		return errors.New("the centre sent no certificate")
	}
	for i, cert := range chain {
		sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		if subtle.ConstantTimeCompare(sum[:], pin) != 1 {
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
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
		return err
	}
	sum := sha256.Sum256(chain[len(chain)-1].RawSubjectPublicKeyInfo)
	return fmt.Errorf("no certificate of the centre has the pinned key: it sent %d, the last with key sha256:%s; check OPS_CA_PIN", len(chain), hex.EncodeToString(sum[:]))
}
