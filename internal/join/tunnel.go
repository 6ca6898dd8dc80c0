package join

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Admit says who opens a tunnel with a certificate. shown is false where none was
// shown, which is for others to judge. An error is for both ends to read: the
// certificate is not good, or is not that of whom the headers name. Of who is
// admitted it lets the certificate go, which the connection would otherwise keep
// for as long as it lives: some 10 KiB for each agent.
func (g *Gate) Admit(r *http.Request) (id Identity, shown bool, err error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0] == nil {
		return id, false, nil
	}
	claimed := Identity{
		ops.ProjectName(r.Header.Get("Ops-Project")), ops.ServiceName(r.Header.Get("Ops-Service")), ops.InstanceID(r.Header.Get("Ops-Boot-Id")),
	}
	from := remote(r)
	id, by, err := g.authority.verify(r.TLS.PeerCertificates[0], g.now())
	if err == nil && claimed != id {
		err = ops.Errorf(ops.Denied, "the agent says that it is %s and its certificate that it is %s", printable(claimed), id)
	}
	if err == nil {
		err = g.still(by, id, from)
	}
	if err != nil {
		g.refused(r.Context(), actionTunnel, claimed, from, err)
		return id, true, err
	}
	g.holders.put(id.Instance, by, r.TLS.PeerCertificates[0].NotAfter)
	clear(r.TLS.PeerCertificates) // the connection's own slice
	return id, true, nil
}

// RefusedWithout puts on record that an agent without a certificate was sent away.
func (g *Gate) RefusedWithout(r *http.Request) error {
	err := ops.Errorf(ops.Denied, "this centre takes agents with a certificate only: give the service a token of `ops join-token create` in the file that OPS_TOKEN_FILE names")
	g.refused(r.Context(), actionTunnel, Identity{
		ops.ProjectName(r.Header.Get("Ops-Project")), ops.ServiceName(r.Header.Get("Ops-Service")), ops.InstanceID(r.Header.Get("Ops-Boot-Id")),
	}, remote(r), err)
	return err
}

// printable is what a stranger says of itself, if it could be true.
func printable(id Identity) string {
	if !id.valid() {
		return "a name that is none"
	}
	return id.String()
}

func cutMethod(by, method string) (string, bool) { return strings.CutPrefix(by, method) }

// holders is who has a certificate for what, to end their tunnels with it.
type holders struct {
	mu  sync.Mutex // guards all
	all map[ops.InstanceID]holder
}

type holder struct {
	by    string
	until time.Time
}

func (h *holders) put(id ops.InstanceID, by string, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = map[ops.InstanceID]holder{}
	}
	h.all[id] = holder{by, until}
}

func (h *holders) of(by string) (out []ops.InstanceID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, x := range h.all {
		if x.by == by {
			out = append(out, id)
		}
	}
	return out
}

func (h *holders) forget(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, x := range h.all {
		if now.After(x.until) {
			delete(h.all, id)
		}
	}
}

const (
	// maxFailures is how many agents of one address may be refused in a minute.
	maxFailures   = 10
	failureWindow = time.Minute
	maxAddresses  = 10_000
)

// failures counts refusals by address. Who is let in is not counted: a thousand
// pods may come from one address.
type failures struct {
	mu  sync.Mutex // guards all
	all map[netip.Prefix]*window
}

type window struct {
	began time.Time
	count int
}

func newFailures() *failures { return &failures{all: map[netip.Prefix]*window{}} }

// network is what one stranger has: an address, or an IPv6 subscriber's many.
func network(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // of no address it is the zero prefix
	return p
}

// note counts a refusal and reports whether it is to be written down.
func (f *failures) note(from netip.Addr, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := network(from)
	w := f.all[key]
	if w == nil || now.Sub(w.began) > failureWindow {
		if w == nil && len(f.all) >= maxAddresses {
			f.prune(now)
		}
		w = &window{began: now}
		f.all[key] = w
	}
	w.count++
	return w.count <= maxFailures
}

// prune forgets what is over; if everything is recent, all of it.
func (f *failures) prune(now time.Time) {
	for k, w := range f.all {
		if now.Sub(w.began) > failureWindow {
			delete(f.all, k)
		}
	}
	if len(f.all) >= maxAddresses {
		clear(f.all)
	}
}

// blocked returns how long the address has to wait; 0 = it may ask.
func (f *failures) blocked(from netip.Addr, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.all[network(from)]
	if w == nil || w.count < maxFailures {
		return 0
	}
	return max(failureWindow-now.Sub(w.began), 0)
}
