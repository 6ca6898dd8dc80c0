// Package autotls makes the centre's certificates: a certificate authority of its
// own in the data directory, and from it, in memory, a server certificate that
// is renewed while the centre runs; or it reads certificates that somebody else
// renews. It knows nothing of who logs in.
package autotls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

const (
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 90 * 24 * time.Hour
	// renewAt is when a server certificate gives way: as Let's Encrypt's do.
	renewAt = serverLife * 2 / 3
	// skew lets in peers whose clocks are behind.
	skew = time.Hour
)

// The files in the data directory.
const (
	dirName  = "tls"
	certName = "ca.crt"
	keyName  = "ca.key"
)

// CA is a certificate authority in a data directory.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	File string // of the certificate, for those who want to trust it
	// Next is the authority that replaces this one; nil = none does.
	Next *CA
}

// OpenCA opens the data directory's authority, or makes it.
func OpenCA(dataDir string, now time.Time) (*CA, error) {
	dir := filepath.Join(dataDir, dirName)
	certFile, keyFile := filepath.Join(dir, certName), filepath.Join(dir, keyName)
	if err := succeed(dir); err != nil {
		return nil, ops.Errorf(ops.Exhausted, "--tls auto: the next authority in %s could not take its place: %w", dir, err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeCA(dir, certName, keyName, now); err != nil {
			return nil, ops.Errorf(ops.Exhausted, "--tls auto: no certificate authority could be made in %s: %w", dir, err)
		}
		pair, err = tls.LoadX509KeyPair(certFile, keyFile)
	}
	if err != nil {
		return nil, ops.Errorf(ops.Corrupt, "--tls auto: %s and %s cannot be read (%w): put back a copy, or delete both and hand out the new pin", certFile, keyFile, err)
	}
	ca, err := caOf(pair, certFile)
	if err != nil {
		return nil, err
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, ops.Errorf(ops.Invalid, "--tls auto: %s has expired: delete it and %s and hand out the new pin", certFile, keyFile)
	}
	ca.Next, err = openNext(dir)
	return ca, err
}

func caOf(pair tls.Certificate, certFile string) (*CA, error) {
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, ops.Errorf(ops.Corrupt, "--tls auto: %s is not a certificate authority: put back a copy, or delete it and its key and hand out the new pin", certFile)
	}
	return &CA{Cert: pair.Leaf, Key: key, File: certFile}, nil
}

// makeCA writes key, then certificate: what is found is whole.
func makeCA(dir, certName, keyName string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "OPS Center CA of " + now.UTC().Format(time.RFC3339)},
		NotBefore: now.Add(-skew), NotAfter: now.Add(caLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
		MaxPathLen: 1, // vouches for the one that it replaces; see bridge
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := write(filepath.Join(dir, keyName), "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	return write(filepath.Join(dir, certName), "CERTIFICATE", der, 0o644)
}

// write puts a file where it is to be, whole and on the disk.
func write(name, typ string, der []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it has another name by then
	err = errors.Join(f.Chmod(mode), pem.Encode(f, &pem.Block{Type: typ, Bytes: der}), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

// Pin is how agents and the command line know the authority: the SHA-256 of its
// key, in hex. It stays when certificates are renewed.
func (ca *CA) Pin() string { return Pin(ca.Cert) }

// Pin is the SHA-256 of a certificate's key.
func Pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Server issues the centre's own certificates.
type Server struct {
	ca    *CA
	names []string
	now   func() time.Time

	mu   sync.Mutex // guards cert
	cert *tls.Certificate
}

// NewServer returns what serves under these names and addresses, and those of
// this machine. Now is the clock; nil = time.Now.
func NewServer(ca *CA, names []string, now func() time.Time) (*Server, error) {
	if now == nil {
		now = time.Now
	}
	s := &Server{ca: ca, names: slices.Concat(names, thisMachine()), now: now}
	_, err := s.Certificate()
	return s, err
}

// thisMachine is what the machine is called and where it is.
func thisMachine() []string {
	out := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil {
		out = append(out, name)
	}
	addrs, _ := net.InterfaceAddrs() // a certificate with fewer names is one too
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// Certificate returns the present certificate, renewed if it is time.
func (s *Server) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.cert != nil && now.Before(s.cert.Leaf.NotBefore.Add(skew+renewAt)) {
		return s.cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "OPS Center"},
		NotBefore: now.Add(-skew), NotAfter: now.Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range s.names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if n != "*" {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca.Cert, &key.PublicKey, s.ca.Key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The authority's certificate goes along, for those who pin its key.
	cert := &tls.Certificate{Certificate: [][]byte{der, s.ca.Cert.Raw}, PrivateKey: key, Leaf: leaf}
	if s.ca.Next != nil {
		bridge, err := s.ca.bridge()
		if err != nil {
			return nil, err
		}
		cert.Certificate = append(cert.Certificate, bridge, s.ca.Next.Cert.Raw)
	}
	s.cert = cert
	return s.cert, nil
}

// lookEvery is how often Files are looked at for a renewed certificate.
const lookEvery = time.Minute

// Files is a certificate that somebody else renews in its files.
type Files struct {
	cert, key string

	mu      sync.Mutex // guards what follows
	loaded  *tls.Certificate
	changed time.Time // the newer of both files
	looked  time.Time
}

// OpenFiles reads a certificate chain and its key (PEM).
func OpenFiles(cert, key string) (*Files, error) {
	f := &Files{cert: cert, key: key}
	if _, err := f.Certificate(); err != nil {
		return nil, err
	}
	return f, nil
}

// Certificate returns what the files held when they were last whole.
func (f *Files) Certificate() (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.loaded != nil && now.Sub(f.looked) < lookEvery {
		return f.loaded, nil
	}
	f.looked = now
	changed := newest(f.cert, f.key)
	if f.loaded != nil && changed.Equal(f.changed) {
		return f.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		if f.loaded != nil {
			return f.loaded, nil // half of a renewal is there: the other half comes
		}
		return nil, ops.Errorf(ops.Invalid, "--tls-cert, --tls-key: %w", err)
	}
	f.loaded, f.changed = &pair, changed
	return f.loaded, nil
}

func newest(names ...string) (t time.Time) {
	for _, n := range names {
		if i, err := os.Stat(n); err == nil && i.ModTime().After(t) {
			t = i.ModTime()
		}
	}
	return t
}
