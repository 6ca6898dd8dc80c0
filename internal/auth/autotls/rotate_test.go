package autotls

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// believed reports whether somebody who trusts the certificate with this pin, as
// agents and ops login do, believes what the centre shows.
func believed(t *testing.T, ca *CA, pin string, now time.Time) bool {
	t.Helper()
	s, err := NewServer(ca, []string{"ops.example.com"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	shown, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range shown.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(c)
		if Pin(c) == pin && c.CheckSignatureFrom(c) == nil {
			roots.AddCert(c)
		}
	}
	_, err = shown.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: "ops.example.com", CurrentTime: now})
	return err == nil
}

func TestTheAuthorityIsReplacedWithoutCuttingAnybodyOff(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	refused := func(_ *CA, err error, want string) {
		t.Helper()
		if ops.KindOf(err) != ops.Conflict || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	before, err := OpenCA(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Finish(dir, now, true)
	refused(nil, err, "the authority is not being replaced: begin with `ops ca rotate`")
	both, err := Rotate(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	if both.Pin() != before.Pin() || both.Next == nil || both.Next.Pin() == before.Pin() || !before.Since().IsZero() || now.Sub(both.Since()).Abs() > time.Minute {
		t.Fatalf("%+v", both)
	}
	for _, pin := range both.Pins() {
		if !believed(t, both, pin, now) {
			t.Errorf("%s is not believed while both are", pin)
		}
	}
	_, err = Rotate(dir, now)
	refused(nil, err, "the authority is being replaced since ")
	_, err = Finish(dir, now.Add(time.Hour), false)
	refused(nil, err, "agents learn the new pin when they renew their certificates, which all of them have done in 23h0m0s: wait until then, or say --now")
	after, err := Finish(dir, now.Add(25*time.Hour), false)
	if err != nil {
		t.Fatal(err)
	}
	if after.Next != nil || after.Pin() != both.Next.Pin() || !believed(t, after, after.Pin(), now) || believed(t, after, before.Pin(), now) {
		t.Errorf("the new one is not the only one: %v", after.Pins())
	}
	// And once more: it is a habit, not an event.
	again, err := Rotate(dir, now)
	if err != nil || !believed(t, again, after.Pin(), now) || !believed(t, again, again.Next.Pin(), now) {
		t.Errorf("it is replaced once: %v", err)
	}
}

func TestACrashWhileTheAuthorityIsReplaced(t *testing.T) {
	for _, gone := range []int{0, 1} { // how many of the two last steps were made
		dir, now := t.TempDir(), time.Now()
		if _, err := OpenCA(dir, now); err != nil {
			t.Fatal(err)
		}
		both, err := Rotate(dir, now)
		if err != nil {
			t.Fatal(err)
		}
		in := func(name string) string { return filepath.Join(dir, "tls", name) }
		if err := os.Rename(in("ca.crt"), in("ca.old-x.crt")); err != nil {
			t.Fatal(err)
		}
		if gone == 1 {
			if err := os.Rename(in("next.key"), in("ca.key")); err != nil {
				t.Fatal(err)
			}
		}
		after, err := OpenCA(dir, now)
		if err != nil || after.Pin() != both.Next.Pin() || after.Next != nil {
			t.Errorf("after %d steps: %v, %v", gone, after, err)
		}
	}
}
