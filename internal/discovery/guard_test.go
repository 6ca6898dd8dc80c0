package discovery

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestGuardDial(t *testing.T) {
	const (
		linkLocal = "link-local, where clouds keep metadata and credentials"
		metadata  = "a cloud's metadata service"
		noHost    = "not the address of one host"
	)
	refused := map[string]string{
		"169.254.169.254:80":          linkLocal,
		"[::ffff:169.254.169.254]:80": linkLocal,
		"[fe80::1%eth0]:80":           linkLocal,
		"[fe80::1]:80":                linkLocal,
		"[fd00:ec2::254]:80":          metadata,
		"[fd20:ce::254]:80":           metadata,
		"100.100.100.200:80":          metadata,
		"168.63.129.16:80":            metadata,
		"224.0.0.1:80":                "multicast",
		"[ff02::1]:80":                "multicast",
		"0.0.0.0:80":                  noHost,
		"0.1.2.3:80":                  noHost,
		"[::]:80":                     noHost,
		"255.255.255.255:80":          noHost,
	}
	for address, why := range refused {
		err := GuardDial("tcp", address, nil)
		if got := forbidden(mustAddr(t, address)); got != why || ops.KindOf(err) != ops.Denied {
			t.Errorf("%s: %v (%q), want Denied as %s", address, err, got, why)
		}
	}
	for _, address := range []string{"127.0.0.1:1", "[::1]:1", "10.1.2.3:1", "192.168.0.1:1", "172.16.0.1:1", "[fd12::1]:1", "8.8.8.8:1"} {
		if err := GuardDial("tcp", address, nil); err != nil {
			t.Errorf("%s: %v, want it allowed", address, err)
		}
	}
	want := "address 169.254.169.254 is link-local, where clouds keep metadata and credentials: targets there are refused; list the address of the service itself"
	if err := GuardDial("tcp", "169.254.169.254:80", nil); err == nil || err.Error() != want {
		t.Errorf("%v\nwant: %s", err, want)
	}
	if err := GuardDial("unix", "/run/docker.sock", nil); ops.KindOf(err) != ops.Denied {
		t.Errorf("a path: %v, want Denied", err)
	}
}

func mustAddr(t *testing.T, address string) netip.Addr {
	t.Helper()
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return ap.Addr().Unmap().WithZone("")
}

func TestGuardDialIsAskedByTheDialer(t *testing.T) {
	d := net.Dialer{Control: GuardDial}
	_, err := d.DialContext(t.Context(), "tcp", "169.254.169.254:80")
	var oe *ops.Error
	if !errors.As(err, &oe) || oe.Kind != ops.Denied {
		t.Errorf("%v, want the refusal", err)
	}
}
