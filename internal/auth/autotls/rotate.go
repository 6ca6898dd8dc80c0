package autotls

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// The next authority, while the present one is being replaced.
const (
	nextCertName = "next.crt"
	nextKeyName  = "next.key"
)

// overlap is the least time for which both authorities are believed: as long as an
// agent's certificate lives, so that every agent that is there asks for the next
// one in between, and learns the new pin with it.
const overlap = 24 * time.Hour

// Rotate makes the next authority of a data directory. From the next start on the
// centre is believed by who pins either, and Finish ends the time of the present
// one. Conflict if one is being replaced already.
func Rotate(dataDir string, now time.Time) (*CA, error) {
	ca, err := OpenCA(dataDir, now)
	if err != nil {
		return nil, err
	}
	if ca.Next != nil {
		return nil, ops.Errorf(ops.Conflict, "the authority is being replaced since %s: end that first with `ops ca finish`", ca.Next.since().Format(time.RFC3339))
	}
	dir := filepath.Join(dataDir, dirName)
	if err := makeCA(dir, nextCertName, nextKeyName, now); err != nil {
		return nil, ops.Errorf(ops.Exhausted, "no certificate authority could be made in %s: %w", dir, err)
	}
	return OpenCA(dataDir, now)
}

// Finish makes the next authority the only one, from the next start on. The
// certificate of the old one is kept beside it, its key is deleted. Conflict if
// there is none, or, unless it must be now, while agents may not know it yet.
func Finish(dataDir string, now time.Time, must bool) (*CA, error) {
	ca, err := OpenCA(dataDir, now)
	if err != nil {
		return nil, err
	}
	if ca.Next == nil {
		return nil, ops.Errorf(ops.Conflict, "the authority is not being replaced: begin with `ops ca rotate`")
	}
	if wait := overlap - now.Sub(ca.Next.since()); wait > 0 && !must {
		return nil, ops.Errorf(ops.Conflict, "agents learn the new pin when they renew their certificates, which all of them have done in %v: wait until then, or say --now", wait.Round(time.Minute))
	}
	dir := filepath.Join(dataDir, dirName)
	// Without its certificate the present one is over; OpenCA does the rest, also
	// after a crash.
	if err := os.Rename(filepath.Join(dir, certName), filepath.Join(dir, "ca.old-"+ca.Pin()[:8]+".crt")); err != nil {
		return nil, ops.Errorf(ops.Exhausted, "the present authority could not be put aside: %w", err)
	}
	return OpenCA(dataDir, now)
}

// succeed lets the next authority take the place of one that was put aside.
func succeed(dir string) error {
	in := func(name string) string { return filepath.Join(dir, name) }
	if _, err := os.Stat(in(certName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(in(nextCertName)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Rename(in(nextKeyName), in(keyName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(in(nextCertName), in(certName))
}

// since is when an authority was made.
func (ca *CA) since() time.Time { return ca.Cert.NotBefore.Add(skew) }

// Since is when the next authority was made; zero = there is none.
func (ca *CA) Since() time.Time {
	if ca.Next == nil {
		return time.Time{}
	}
	return ca.Next.since()
}

// Pins are what the centre is known by: of the present authority, and of the next
// one.
func (ca *CA) Pins() []string {
	if ca.Next == nil {
		return []string{ca.Pin()}
	}
	return []string{ca.Pin(), ca.Next.Pin()}
}

// openNext returns the next authority; nil = there is none.
func openNext(dir string) (*CA, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, nextCertName), filepath.Join(dir, nextKeyName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // none, and that is no error
	}
	if err != nil {
		return nil, ops.Errorf(ops.Corrupt, "--tls auto: %s and %s cannot be read (%w): put back a copy, or delete both and begin again with `ops ca rotate`", filepath.Join(dir, nextCertName), filepath.Join(dir, nextKeyName), err)
	}
	return caOf(pair, filepath.Join(dir, nextCertName))
}

// bridge is the present authority's key, vouched for by the next one: with it,
// what the present one signed leads to both.
func (ca *CA) bridge() ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: ca.Cert.Subject, SubjectKeyId: ca.Cert.SubjectKeyId,
		NotBefore: ca.Next.Cert.NotBefore, NotAfter: ca.Cert.NotAfter,
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	return x509.CreateCertificate(rand.Reader, template, ca.Next.Cert, ca.Cert.PublicKey, ca.Next.Key)
}
