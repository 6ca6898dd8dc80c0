package etcd

import (
	"testing"
	"time"

	"github.com/opscenter/opscenter/agent/register"
	registeretcd "github.com/opscenter/opscenter/agent/register/etcd"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
)

// An etcd that wants certificates lets in who has one of its authority, and no one
// else; whom it refuses is told so, and who does not trust it tells nothing to it.
func TestTLS(t *testing.T) {
	ca, stranger := discoverytest.NewAuthority(t, "games"), discoverytest.NewAuthority(t, "stranger")
	cert, key := ca.Issue(t, "etcd")
	e := discoverytest.StartEtcd(t, "--cert-file="+cert, "--key-file="+key, "--trusted-ca-file="+ca.CAFile, "--client-cert-auth")
	mine := discovery.TLS{CAFile: ca.CAFile}
	mine.CertFile, mine.KeyFile = ca.Issue(t, "centre")
	config, err := mine.Load()
	if err != nil {
		t.Fatal(err)
	}
	registry, err := registeretcd.New(registeretcd.Config{Endpoints: []string{"https://" + e.Client}, TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	entry := register.Entry{Project: "color-game", Service: "user-service", ID: "boot-1", Host: "10.0.0.1", Port: 6060}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // its leader may not be chosen yet
		if err := registry.Enter(t.Context(), entry, time.Minute); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}

	_, lists := watched(t, Config{Endpoints: []string{"https://" + e.Client}, Prefix: prefix, TLS: mine})
	expect(t, lists, "color-game/user-service http://10.0.0.1:6060/debug/pprof map[]")

	foreign := discovery.TLS{CAFile: ca.CAFile}
	foreign.CertFile, foreign.KeyFile = stranger.Issue(t, "guest")
	for name, c := range map[string]struct {
		tls  discovery.TLS
		want string
	}{
		"no certificate":           {discovery.TLS{CAFile: ca.CAFile}, "certificate): set cert_file and key_file to one that its authority signed"},
		"a stranger's certificate": {foreign, "it refuses the centre's certificate ("},
		"an etcd that is not ours": {discovery.TLS{CAFile: stranger.CAFile}, "certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, lists := watched(t, Config{Endpoints: []string{"https://" + e.Client}, Prefix: prefix, TLS: c.tls})
			eventually(t, s, c.want)
			select {
			case l := <-lists:
				t.Error("it lists " + l)
			default:
			}
		})
	}
}
