package autotls

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheAuthorityStaysAndTheCertificateIsRenewed(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	ca, err := OpenCA(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenCA(dir, now)
	if err != nil || again.Pin() != ca.Pin() || len(ca.Pin()) != 64 {
		t.Fatalf("%v: %s, then %s", err, ca.Pin(), again.Pin())
	}
	if i, err := os.Stat(filepath.Join(dir, "tls", "ca.key")); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("the key may be read by others: %v %v", i.Mode(), err)
	}
	s, err := NewServer(ca, []string{"ops.example.com", "10.0.0.7", "*"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	verify := func() *x509.Certificate {
		t.Helper()
		cert, err := s.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca.Cert)
		for _, name := range []string{"ops.example.com", "10.0.0.7", "localhost", "127.0.0.1", "::1"} {
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "evil.example", CurrentTime: now}); err == nil {
			t.Error("it is good for any name")
		}
		if last, err := x509.ParseCertificate(cert.Certificate[1]); err != nil || Pin(last) != ca.Pin() {
			t.Error("the pinned key is not in the chain")
		}
		return cert.Leaf
	}
	first := verify()
	now = now.Add(59 * 24 * time.Hour)
	if verify() != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * 24 * time.Hour)
	if second := verify(); second == first || second.NotAfter.Before(now.Add(80*24*time.Hour)) {
		t.Error("not renewed in time")
	}
}

func TestFilesThatAreNoAuthoritySayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenCA(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tls", "ca.crt"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(dir, time.Now()); err == nil || !strings.Contains(err.Error(), "put back a copy, or delete both and hand out the new pin") {
		t.Errorf("%v", err)
	}
	dir = t.TempDir()
	if _, err := OpenCA(dir, time.Now().Add(-11*365*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(dir, time.Now()); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("%v", err)
	}
}
