package app

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/ops"
)

// access is who may reach the centre, and how.
type access struct {
	auth auth.Authorizer
	cert *tls.Certificate // nil = plain
}

// newAccess applies the one rule: beyond loopback only with TLS and a token.
func newAccess(o cli.ServeOptions) (access, error) {
	var a access
	if o.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
		if err != nil {
			return a, ops.Errorf(ops.Invalid, "--tls-cert, --tls-key: %w", err)
		}
		if cert.Leaf == nil {
			if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
				return a, ops.Errorf(ops.Invalid, "--tls-cert %s: %w", o.TLSCert, err)
			}
		}
		a.cert = &cert
	}
	if o.TokenFile != "" {
		t, err := auth.NewToken(o.TokenFile)
		if err != nil {
			return a, err
		}
		a.auth = t
	}
	if loopback(o.Listen) {
		if a.auth == nil {
			a.auth = auth.NewLoopback()
		}
		return a, nil
	}
	if a.cert == nil || a.auth == nil {
		return a, ops.Errorf(ops.Invalid, `--listen %s would let the network in without TLS and a token, so the centre does not start. Make them once:
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=ops-center -addext subjectAltName=DNS:$(hostname) -keyout ops.key -out ops.crt
  openssl rand -hex 32 > ops.token
and start it with --listen %s --tls-cert ops.crt --tls-key ops.key --token-file ops.token`, o.Listen, o.Listen)
	}
	return a, nil
}

// loopback reports whether only this machine can reach the address.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// pin is what an agent needs to know of the certificate to trust it.
func (a access) pin() string {
	if a.cert == nil {
		return ""
	}
	sum := sha256.Sum256(a.cert.Leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
