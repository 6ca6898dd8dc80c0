package join

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Kubernetes says which pods may join: those whose service account's token the
// cluster's API confirms (TokenReview). The zero value of all but Rules is right
// for a centre that runs in the cluster.
type Kubernetes struct {
	// API is the cluster's address; empty = https://kubernetes.default.svc.
	API string `yaml:"api"`
	// CAFile is what its certificate is verified by, and TokenFile what the centre
	// shows it; empty = those of the pod that the centre runs in.
	CAFile    string `yaml:"ca_file"`
	TokenFile string `yaml:"token_file"`
	// Audience is whom agents' tokens have to be made for; empty = ops-center.
	Audience string `yaml:"audience"`
	// Rules say which service account may be which service. The first that fits
	// decides; without one nobody joins.
	Rules []KubernetesRule `yaml:"rules"`
}

// KubernetesRule lets pods of a service account be a service. All are names or
// patterns with * and ?.
type KubernetesRule struct {
	Namespace string `yaml:"namespace"`
	// ServiceAccount; empty = every one of the namespace.
	ServiceAccount string `yaml:"service_account"`
	Project        string `yaml:"project"`
	// Service; empty = every one of the project.
	Service string `yaml:"service"`
}

const (
	podFiles     = "/var/run/secrets/kubernetes.io/serviceaccount/"
	reviewPath   = "/apis/authentication.k8s.io/v1/tokenreviews"
	reviewWithin = 10 * time.Second
	maxReview    = 1 << 20
	accountName  = "system:serviceaccount:"
)

// Validate says what New would.
func (k *Kubernetes) Validate() error {
	if k == nil {
		return nil
	}
	if k.API != "" {
		if u, err := url.Parse(k.API); err != nil || u.Scheme != "https" || u.Host == "" {
			return ops.Errorf(ops.Invalid, "api %.80q is not the https address of a cluster", k.API)
		}
	}
	if len(k.Rules) == 0 {
		return ops.Errorf(ops.Invalid, "without rules nobody may join: write one such as {namespace: games, service_account: game, project: color-game}")
	}
	for _, r := range k.Rules {
		for what, p := range map[string]string{"namespace": r.Namespace, "service_account": cmp.Or(r.ServiceAccount, "*"), "project": r.Project, "service": cmp.Or(r.Service, "*")} {
			if !validPattern(p) {
				return ops.Errorf(ops.Invalid, "a rule's %s %.80q is no name and no pattern", what, p)
			}
		}
	}
	return nil
}

// cluster asks a Kubernetes API whose token it is.
type cluster struct {
	cfg    Kubernetes
	client *http.Client
}

func newCluster(cfg Kubernetes) (*cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, ops.Errorf(ops.Invalid, "join.kubernetes: %w", err)
	}
	cfg.API = strings.TrimRight(cmp.Or(cfg.API, "https://kubernetes.default.svc"), "/")
	cfg.CAFile, cfg.TokenFile = cmp.Or(cfg.CAFile, podFiles+"ca.crt"), cmp.Or(cfg.TokenFile, podFiles+"token")
	cfg.Audience = cmp.Or(cfg.Audience, "ops-center")
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "join.kubernetes: ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, ops.Errorf(ops.Invalid, "join.kubernetes: ca_file %s holds no certificate", cfg.CAFile)
	}
	return &cluster{cfg: cfg, client: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: reviewWithin, MaxConnsPerHost: 8, IdleConnTimeout: time.Minute,
		},
		// A token is not carried on to where somebody points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (c *cluster) close() {
	if c != nil {
		c.client.CloseIdleConnections()
	}
}

// review is a TokenReview, as far as it is used.
type review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Token     string   `json:"token,omitempty"`
		Audiences []string `json:"audiences"`
	} `json:"spec"`
	Status struct {
		Authenticated bool     `json:"authenticated"`
		Audiences     []string `json:"audiences"`
		Error         string   `json:"error"`
		User          struct {
			Username string `json:"username"`
		} `json:"user"`
	} `json:"status,omitzero"`
}

// vouch asks whose token it is and looks whether they may have the name.
func (c *cluster) vouch(ctx context.Context, id Identity, token string) (string, error) {
	if token == "" {
		return "", ops.Errorf(ops.Denied, "the agent showed no service account's token: mount a projected one for the audience %q and name its file in OPS_TOKEN_FILE", c.cfg.Audience)
	}
	got, err := c.ask(ctx, token)
	if err != nil {
		return "", err
	}
	account, is := strings.CutPrefix(got.Status.User.Username, accountName)
	switch {
	case !got.Status.Authenticated:
		return "", ops.Errorf(ops.Denied, "the cluster does not confirm the service account's token for the audience %q (%.200s): mount a projected token for that audience", c.cfg.Audience, cmp.Or(got.Status.Error, "it gives no reason"))
	case !slices.Contains(got.Status.Audiences, c.cfg.Audience):
		// An API that knows no audiences would confirm any token of the cluster.
		return "", ops.Errorf(ops.Denied, "the token is for %.200q and not for the audience %q: mount a projected token for that audience", got.Status.Audiences, c.cfg.Audience)
	case !is:
		return "", ops.Errorf(ops.Denied, "the token is of %.100q and not of a service account", got.Status.User.Username)
	}
	return kubernetesMethod + account, c.allows(account, id)
}

// allows is nil if a rule lets the account, "namespace:name", have the name.
func (c *cluster) allows(account string, id Identity) error {
	namespace, name, _ := strings.Cut(account, ":")
	for _, r := range c.cfg.Rules {
		if matches(r.Namespace, namespace) && matches(cmp.Or(r.ServiceAccount, "*"), name) &&
			matches(r.Project, string(id.Project)) && matches(cmp.Or(r.Service, "*"), string(id.Service)) {
			return nil
		}
	}
	return ops.Errorf(ops.Denied, "the service account %.80s of the namespace %.80s may not be %s/%s: see the rules under join.kubernetes in the centre's configuration", name, namespace, id.Project, id.Service)
}

func (c *cluster) ask(ctx context.Context, token string) (review, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewWithin)
	defer cancel()
	own, err := os.ReadFile(c.cfg.TokenFile) // the cluster replaces it now and then
	if err != nil {
		return review{}, ops.Errorf(ops.Unavailable, "the centre cannot ask the cluster, for its own token cannot be read: %w", err)
	}
	q := review{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"}
	q.Spec.Token, q.Spec.Audiences = token, []string{c.cfg.Audience}
	body, err := json.Marshal(q)
	if err != nil {
		return review{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.API+reviewPath, bytes.NewReader(body))
	if err != nil {
		return review{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(own)))
	resp, err := c.client.Do(req)
	if err != nil {
		return review{}, ops.Errorf(ops.Unavailable, "the cluster's API did not answer whose token it is: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReview))
	if err != nil {
		return review{}, ops.Errorf(ops.Unavailable, "the cluster's API did not answer whose token it is: %w", err)
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return review{}, ops.Errorf(ops.Unavailable, "the cluster's API answered %s when it was asked whose token it is: the centre's account needs the role system:auth-delegator", resp.Status)
	}
	var got review
	if err := json.Unmarshal(b, &got); err != nil {
		return review{}, ops.Errorf(ops.Unavailable, "the cluster's API answered something that is no TokenReview: %w", err)
	}
	return got, nil
}
