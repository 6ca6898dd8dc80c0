package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// authorityLife is how long an authority is believed. At half of it the next one
// signs, and both are believed until the older one ends.
const authorityLife = 180 * 24 * time.Hour

// authority signs agents' certificates. Only the centre believes it, so that a
// new one needs nobody's consent: agents know the centre by its own certificate.
type authority struct {
	dir string

	mu  sync.Mutex // guards all
	all []signer   // the newest is last
}

// signer is one key of the authority, in a file with its certificate.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func openAuthority(dir string, now time.Time) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, ops.Errorf(ops.Exhausted, "the directory for joining agents: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "agents-ca-*.pem"))
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir}
	for _, f := range files {
		s, err := readSigner(f)
		if err != nil {
			return nil, ops.Errorf(ops.Corrupt, "the agents' certificate authority %s: %w: put back a copy of the file, or delete it: agents then join again", f, err)
		}
		a.all = append(a.all, s)
	}
	slices.SortFunc(a.all, func(x, y signer) int { return x.cert.NotBefore.Compare(y.cert.NotBefore) })
	_, err = a.signer(now)
	return a, err
}

func readSigner(file string) (signer, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return signer{}, err
	}
	s := signer{file: file}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			s.cert, err = x509.ParseCertificate(block.Bytes)
		case "EC PRIVATE KEY":
			s.key, err = x509.ParseECPrivateKey(block.Bytes)
		}
		if err != nil {
			return s, err
		}
	}
	if s.cert == nil || s.key == nil || !s.cert.IsCA || !s.key.PublicKey.Equal(s.cert.PublicKey) {
		return s, errors.New("it does not hold a certificate and its key")
	}
	return s, nil
}

// signer returns the key that signs now, made if it is time for the next one.
func (a *authority) signer(now time.Time) (signer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.all); n > 0 && now.Before(a.all[n-1].cert.NotAfter.Add(-authorityLife/2)) {
		return a.all[n-1], nil
	}
	s, err := a.make(now)
	if err != nil {
		return s, ops.Errorf(ops.Exhausted, "no certificate authority for agents could be made in %s: %w", a.dir, err)
	}
	a.all = append(slices.DeleteFunc(a.all, func(s signer) bool {
		// One that has ended vouches for nobody.
		return now.After(s.cert.NotAfter) && os.Remove(s.file) == nil
	}), s)
	return s, nil
}

func (a *authority) make(now time.Time) (signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signer{}, err
	}
	number := serial()
	template := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: "OPS Center agents"},
		NotBefore: now.Add(-skew), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return signer{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return signer{}, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return signer{}, err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	file := filepath.Join(a.dir, "agents-ca-"+number.Text(36)[:8]+".pem")
	return signer{cert, key, file}, writeFile(file, text)
}

// certificate signs one for the key of id. by says how it joined.
func (a *authority) certificate(id Identity, by string, key *ecdsa.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	s, err := a.signer(now)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: string(id.Instance), SerialNumber: by},
		NotBefore: now.Add(-skew), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	template.URIs = append(template.URIs, id.uri())
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, key, s.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// verify says whom a certificate is of and how it joined. The error is for both
// ends to read.
func (a *authority) verify(cert *x509.Certificate, now time.Time) (id Identity, by string, err error) {
	a.mu.Lock()
	all := slices.Clone(a.all)
	a.mu.Unlock()
	if !slices.ContainsFunc(all, func(s signer) bool {
		return !now.After(s.cert.NotAfter) && cert.CheckSignatureFrom(s.cert) == nil
	}) {
		return id, "", ops.Errorf(ops.Denied, "the agent's certificate was not made by this centre: let the service join again with a token of `ops join-token create`")
	}
	id, ok := identityOf(cert.URIs)
	if !ok || cert.IsCA || !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return id, "", ops.Errorf(ops.Denied, "the certificate is not an agent's: let the service join with a token of `ops join-token create`")
	}
	if now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
		return id, "", ops.Errorf(ops.Denied, "the agent's certificate was good from %s to %s and the centre's clock says %s: the agent joins again if its token still allows it",
			stamp(cert.NotBefore), stamp(cert.NotAfter), stamp(now))
	}
	return id, cert.Subject.SerialNumber, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x7f | 0x40 // positive, and always as long
	return new(big.Int).SetBytes(b)
}

// writeFile puts a secret where it is to be, whole and on the disk.
func writeFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+strings.TrimPrefix(filepath.Base(name), ".")) // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it has its other name by then
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// syncDir makes names durable; file systems that cannot are left as they are.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) {
		return errors.Join(err, d.Close())
	}
	return d.Close()
}
