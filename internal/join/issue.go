package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/ops"
)

// Path is where agents ask for certificates.
const Path = "/opscenter.agent.v1/join"

// The ways to join, as a request names them.
const (
	ByToken      = "token"
	ByKubernetes = "kubernetes"
	ByRenewal    = "renewal"
)

// What a certificate says of how its agent joined: these and a name.
const (
	tokenMethod      = "token:"
	kubernetesMethod = "kubernetes:"
)

const (
	version      = 1
	maxRequest   = 64 << 10
	readRequest  = 10 * time.Second
	exporter     = "EXPORTER-opscenter-join"
	exporterSize = 32
)

// request is what an agent asks: a certificate for the key that signed CSR.
type request struct {
	Version  int    `json:"version"`
	Method   string `json:"method"`
	Project  string `json:"project"`
	Service  string `json:"service"`
	Instance string `json:"instance"`
	// Token is the join token or the service account's; none for a renewal, which
	// the present certificate stands for.
	Token string `json:"token,omitempty"`
	CSR   []byte `json:"csr"` // DER
	// Proof is the key's signature of a number that only this connection has, so
	// that a request which was overheard or kept is good for nothing.
	Proof []byte `json:"proof"`
}

// answer is what it gets.
type answer struct {
	Certificate []byte `json:"certificate"` // DER
	// LifeSeconds count from now, whatever the agent's clock says.
	LifeSeconds int64     `json:"life_seconds"`
	Now         time.Time `json:"now"`
	// Pins are what the centre is known by from now on; empty = as before. While its
	// authority is replaced they are those of both.
	Pins []string `json:"pins,omitempty"`
}

// ServeHTTP gives certificates.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// One request is all that an agent has; then the number of its connection is
	// used up as well.
	w.Header().Set("Connection", "close")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "this is where agents join: use POST", http.StatusMethodNotAllowed)
		return
	}
	from := remote(r)
	if wait := g.failures.blocked(from, g.now()); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		http.Error(w, "too many agents were refused from "+from.String()+": try again in a minute", http.StatusTooManyRequests)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readRequest)) // of a recorder in tests there is none
	var req request
	if err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&req); err != nil {
		g.refuse(w, r, Identity{}, ops.Errorf(ops.Invalid, "the request to join cannot be read: %w", err))
		return
	}
	id := Identity{ops.ProjectName(req.Project), ops.ServiceName(req.Service), ops.InstanceID(req.Instance)}
	out, err := g.issue(r, from, id, req)
	if err != nil {
		g.refuse(w, r, id, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // who has gone asks again
}

func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, id Identity, err error) {
	code, known := map[ops.ErrorKind]int{
		ops.Denied: http.StatusForbidden, ops.Invalid: http.StatusBadRequest, ops.Unavailable: http.StatusServiceUnavailable, ops.Exhausted: http.StatusServiceUnavailable,
	}[ops.KindOf(err)]
	if !known {
		g.log.Error("an agent could not join", "agent", id.String(), "err", err)
		http.Error(w, "the centre could not make a certificate: its log says why", http.StatusInternalServerError)
		return
	}
	if code < http.StatusInternalServerError {
		g.refused(r.Context(), actionRefused, id, remote(r), err)
	}
	http.Error(w, err.Error(), code)
}

func (g *Gate) issue(r *http.Request, from netip.Addr, id Identity, req request) (answer, error) {
	now := g.now()
	if req.Version != version {
		return answer{}, ops.Errorf(ops.Invalid, "the agent joins by version %d and this centre knows %d: update the older of them", req.Version, version)
	}
	if !id.valid() {
		return answer{}, ops.Errorf(ops.Invalid, "project, service or instance is no name: check OPS_PROJECT and OPS_SERVICE")
	}
	key, err := requestKey(r, id, req)
	if err != nil {
		return answer{}, err
	}
	by, err := g.vouch(r, from, id, req)
	if err != nil {
		return answer{}, err
	}
	cert, err := g.authority.certificate(id, by, key, now, g.cfg.Life)
	if err != nil {
		return answer{}, err
	}
	if req.Method != ByRenewal {
		in := id.intent(actionJoin, map[string]string{"address": from.String(), "by": by, "serial": cert.SerialNumber.Text(16)})
		if err := g.record(r.Context(), in, audit.Outcome{Result: audit.Succeeded}); err != nil {
			return answer{}, ops.Errorf(ops.Unavailable, "nobody joins while it cannot be put on record: %w", err)
		}
	}
	g.holders.put(id.Instance, by, cert.NotAfter)
	g.log.Info("agent joined", "agent", id.String(), "by", by, "renewal", req.Method == ByRenewal, "remote", from.String())
	return answer{Certificate: cert.Raw, LifeSeconds: int64(g.cfg.Life / time.Second), Now: now, Pins: g.cfg.Pins}, nil
}

// requestKey returns the key that asks for a certificate, which has signed both
// the request and this connection's number.
func requestKey(r *http.Request, id Identity, req request) (*ecdsa.PublicKey, error) {
	if r.TLS == nil {
		return nil, ops.Errorf(ops.Invalid, "agents join over TLS to the centre itself: behind a proxy that ends TLS they use the shared token")
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "the request to join has no certificate request: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() || csr.CheckSignature() != nil {
		return nil, ops.Errorf(ops.Denied, "the certificate request is not signed by a P-256 key of its own")
	}
	if named, ok := identityOf(csr.URIs); !ok || named != id {
		return nil, ops.Errorf(ops.Denied, "the certificate request is for another name than %s", id)
	}
	number, err := r.TLS.ExportKeyingMaterial(exporter, nil, exporterSize)
	if err != nil {
		return nil, ops.Errorf(ops.Denied, "the connection has no number to sign: agents join over TLS 1.3")
	}
	sum := sha256.Sum256(number)
	if !ecdsa.VerifyASN1(key, sum[:], req.Proof) {
		return nil, ops.Errorf(ops.Denied, "the certificate request was made for another connection: it cannot be used again")
	}
	return key, nil
}

// vouch returns who says that the agent may have its name.
func (g *Gate) vouch(r *http.Request, from netip.Addr, id Identity, req request) (string, error) {
	switch req.Method {
	case ByToken:
		t, err := g.tokens.use(req.Token, id, from, g.now())
		if err != nil {
			return "", err
		}
		return tokenMethod + t.ID, nil
	case ByKubernetes:
		if g.cluster == nil {
			return "", ops.Errorf(ops.Denied, "this centre knows no Kubernetes cluster: name it in its configuration under join.kubernetes, or join with a token")
		}
		return g.cluster.vouch(r.Context(), id, req.Token)
	case ByRenewal:
		if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0] == nil {
			return "", ops.Errorf(ops.Denied, "a certificate is renewed with the certificate that it follows: the agent showed none")
		}
		was, by, err := g.authority.verify(r.TLS.PeerCertificates[0], g.now())
		if err != nil {
			return "", err
		}
		// The process may be another: one that was started again and kept the key.
		if was.Project != id.Project || was.Service != id.Service {
			return "", ops.Errorf(ops.Denied, "the certificate is of %s/%s and cannot be renewed for %s/%s", was.Project, was.Service, id.Project, id.Service)
		}
		return by, g.still(by, id, from)
	}
	return "", ops.Errorf(ops.Invalid, "%.40q is no way to join: there are %s, %s and %s", req.Method, ByToken, ByKubernetes, ByRenewal)
}

// still is nil while what a certificate was given for is still good.
func (g *Gate) still(by string, id Identity, from netip.Addr) error {
	if name, ok := cutMethod(by, tokenMethod); ok {
		t, ok := g.tokens.get(name)
		if !ok {
			return ops.Errorf(ops.Denied, "the join token %.40s is not known any more: give the service a new one, `ops join-token create`", name)
		}
		return t.allows(id, from)
	}
	if account, ok := cutMethod(by, kubernetesMethod); ok && g.cluster != nil {
		return g.cluster.allows(account, id)
	}
	return ops.Errorf(ops.Denied, "what the agent joined with (%.80q) is not accepted here any more: let it join again", by)
}
