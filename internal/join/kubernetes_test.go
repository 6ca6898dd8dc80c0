package join_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/ops"
)

// cluster answers TokenReviews as a Kubernetes API does.
func cluster(t *testing.T) join.Kubernetes {
	t.Helper()
	accounts := map[string]struct{ user, audience string }{
		"good":    {"system:serviceaccount:games:user", "ops-center"},
		"default": {"system:serviceaccount:games:user", "https://kubernetes.default.svc"},
		"other":   {"system:serviceaccount:billing:user", "ops-center"},
		"person":  {"ann@example.com", "ops-center"},
	}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Header.Get("Authorization") != "Bearer centre" {
			http.Error(w, "who are you?", http.StatusForbidden)
			return
		}
		var in struct {
			APIVersion, Kind string
			Spec             struct {
				Token     string
				Audiences []string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Kind != "TokenReview" || in.APIVersion != "authentication.k8s.io/v1" || len(in.Spec.Audiences) != 1 {
			t.Errorf("review %+v, %v", in, err)
		}
		a, known := accounts[in.Spec.Token]
		status := map[string]any{"authenticated": false, "error": "[invalid bearer token, token audiences do not match]"}
		switch {
		case in.Spec.Token == "old":
			// An API from before audiences: it confirms and names none.
			status = map[string]any{"authenticated": true, "user": map[string]string{"username": "system:serviceaccount:games:user"}}
		case known && a.audience == in.Spec.Audiences[0]:
			status = map[string]any{"authenticated": true, "audiences": []string{a.audience}, "user": map[string]string{"username": a.user}}
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "TokenReview", "status": status})
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	k := join.Kubernetes{
		API: s.URL, CAFile: filepath.Join(dir, "ca.crt"), TokenFile: filepath.Join(dir, "token"),
		Rules: []join.KubernetesRule{{Namespace: "games", Project: "color-game", Service: "user-*"}},
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for name, b := range map[string][]byte{k.CAFile: ca, k.TokenFile: []byte("centre\n")} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func TestPodsJoinByTheirServiceAccount(t *testing.T) {
	k := cluster(t)
	c := newCentre(t, func(cfg *join.Config) { cfg.Kubernetes = &k })
	g := newGuest()
	if msg := g.join(c, join.ByKubernetes, "good"); msg != "" {
		t.Fatal(msg)
	}
	if msg := g.open(c) + g.join(c, join.ByRenewal, ""); msg != "" {
		t.Error(msg)
	}
	const audience = "the cluster does not confirm the service account's token for the audience \"ops-center\" ([invalid bearer token, token audiences do not match]): mount a projected token for that audience"
	for token, want := range map[string]string{
		"":        `the agent showed no service account's token: mount a projected one for the audience "ops-center" and name its file in OPS_TOKEN_FILE`,
		"forged":  audience,
		"default": audience,
		"old":     `the token is for [] and not for the audience "ops-center": mount a projected token for that audience`,
		"other":   "the service account user of the namespace billing may not be color-game/user-service: see the rules under join.kubernetes in the centre's configuration",
		"person":  `the token is of "ann@example.com" and not of a service account`,
	} {
		if msg := newGuest().join(c, join.ByKubernetes, token); msg != want {
			t.Errorf("%q\ngot  %s\nwant %s", token, msg, want)
		}
	}
	wallet := newGuest()
	wallet.service = "wallet"
	if msg := wallet.join(c, join.ByKubernetes, "good"); msg != "the service account user of the namespace games may not be color-game/wallet: see the rules under join.kubernetes in the centre's configuration" {
		t.Error(msg)
	}
	// The rule is taken away: so is what it allowed.
	k.Rules[0].Namespace = "elsewhere"
	c.open(func(cfg *join.Config) { cfg.Kubernetes = &k })
	if msg := g.open(c); !strings.Contains(msg, "the service account user of the namespace games may not be") {
		t.Error(msg)
	}
}

func TestAClusterThatDoesNotAnswer(t *testing.T) {
	k := cluster(t)
	c := newCentre(t, func(cfg *join.Config) { cfg.Kubernetes = &k })
	if err := os.WriteFile(k.TokenFile, []byte("somebody"), 0o600); err != nil {
		t.Fatal(err)
	}
	if msg := newGuest().join(c, join.ByKubernetes, "good"); msg != "the cluster's API answered 403 Forbidden when it was asked whose token it is: the centre's account needs the role system:auth-delegator" {
		t.Error(msg)
	}
	if c.ledger.has("refused") {
		t.Error("the agent is on record for what the centre may not do")
	}
	if msg := newGuest().join(newCentre(t, nil), join.ByKubernetes, "good"); !strings.HasPrefix(msg, "this centre knows no Kubernetes cluster") {
		t.Error(msg)
	}
}

func TestKubernetesSettings(t *testing.T) {
	rule := []join.KubernetesRule{{Namespace: "*", Project: "p"}}
	for want, k := range map[string]*join.Kubernetes{
		`api "http://x" is not the https address of a cluster`:                                                            {API: "http://x", Rules: rule},
		"without rules nobody may join: write one such as {namespace: games, service_account: game, project: color-game}": {},
		`a rule's project "" is no name and no pattern`:                                                                   {Rules: []join.KubernetesRule{{Namespace: "games"}}},
	} {
		if err := k.Validate(); ops.KindOf(err) != ops.Invalid || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}
