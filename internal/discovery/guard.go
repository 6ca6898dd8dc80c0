package discovery

import (
	"net/netip"
	"syscall"

	"github.com/opscenter/opscenter/internal/ops"
)

// GuardDial is a net.Dialer.Control that refuses the addresses no target has any
// business at: link-local ones, where clouds keep their credentials, other
// metadata services, multicast and the unspecified address. It sees the address
// after the name was resolved, so no trick with DNS gets past it. Loopback and
// private networks are where targets live.
func GuardDial(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return ops.Errorf(ops.Denied, "address %q is not an IP address and a port: it is not dialled", address)
	}
	if why := forbidden(ap.Addr().Unmap().WithZone("")); why != "" {
		return ops.Errorf(ops.Denied, "address %s is %s: targets there are refused; list the address of the service itself", ap.Addr(), why)
	}
	return nil
}

func forbidden(a netip.Addr) string {
	switch {
	case a.IsLinkLocalUnicast():
		return "link-local, where clouds keep metadata and credentials"
	case a == netip.MustParseAddr("fd00:ec2::254"), a == netip.MustParseAddr("fd20:ce::254"), a == netip.MustParseAddr("100.100.100.200"), a == netip.MustParseAddr("168.63.129.16"):
		return "a cloud's metadata service"
	case a.IsMulticast():
		return "multicast"
	case a.IsUnspecified(), a.Is4() && a.As4()[0] == 0, a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "not the address of one host"
	}
	return ""
}
