package app

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/opscenter/opscenter/agent"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/config"
)

// requireCertificates is a configuration that requires certificates of agents.
func requireCertificates(sections []config.Section) (cli.ServeOptions, error) {
	for _, s := range sections {
		if set, ok := s.Into.(*joinSection); ok {
			set.RequireCertificate = true
		}
	}
	return cli.ServeOptions{}, nil
}

// joining starts an agent of color-game/user-service with what the file holds.
func joining(t *testing.T, url, pin, token string) *agent.Agent {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := agent.Start(agent.Config{Center: url, Project: "color-game", Service: "user-service", TokenFile: file, CAPin: pin, SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func TestAgentsJoinByToken(t *testing.T) {
	url, _ := serve(t, cli.ServeOptions{TLS: "auto", Load: requireCertificates})
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the pin is what the agents check
	t.Cleanup(hc.CloseIdleConnections)
	tokens := apiv1connect.NewJoinServiceClient(hc, url)
	made, err := tokens.CreateJoinToken(t.Context(), connect.NewRequest(&apiv1.CreateJoinTokenRequest{ProjectPattern: "color-game", ServicePattern: "user-*", Uses: -1}))
	if err != nil {
		t.Fatal(err)
	}
	instances(t, hc, url, 1) // the centre's own agent needs no token
	a := joining(t, url, made.Msg.GetPin(), made.Msg.GetSecret())
	found := func() *apiv1.Instance {
		for _, i := range instances(t, hc, url, 2) {
			if i.GetId() == a.BootID() {
				return i
			}
		}
		return nil
	}
	if found() == nil {
		t.Fatal("it did not join")
	}
	list, err := tokens.ListJoinTokens(t.Context(), connect.NewRequest(&apiv1.ListJoinTokensRequest{}))
	if err != nil || len(list.Msg.GetTokens()) != 1 || list.Msg.GetTokens()[0].GetUses() != 1 || list.Msg.GetTokens()[0].GetLastFrom() != "127.0.0.1" {
		t.Errorf("%v, %v", list, err)
	}
	// Without a certificate nobody comes in, though the centre is on loopback.
	joining(t, url, made.Msg.GetPin(), "just a token")
	if _, err := tokens.RevokeJoinToken(t.Context(), connect.NewRequest(&apiv1.RevokeJoinTokenRequest{Id: made.Msg.GetToken().GetId()})); err != nil {
		t.Fatal(err)
	}
	// The tunnel that the certificate opened is closed, and not opened again.
	for end := time.Now().Add(time.Minute); found().GetState() == apiv1.InstanceState_INSTANCE_STATE_UP; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is still up after its token was revoked")
		}
	}
	if n := len(instances(t, hc, url, 2)); n != 2 {
		t.Errorf("%d instances: who may have come?", n)
	}
}

func TestACentreInTheClearHasNoJoinTokens(t *testing.T) {
	url, _ := serve(t, cli.ServeOptions{})
	const why = "this centre speaks no TLS, so agents join it without a token: start it with --tls auto"
	tokens := apiv1connect.NewJoinServiceClient(http.DefaultClient, url)
	if list, err := tokens.ListJoinTokens(t.Context(), connect.NewRequest(&apiv1.ListJoinTokensRequest{})); err != nil || !strings.Contains(list.Msg.GetNoneBecause(), why) {
		t.Errorf("%v, %v", list, err)
	}
	_, err := tokens.CreateJoinToken(t.Context(), connect.NewRequest(&apiv1.CreateJoinTokenRequest{ProjectPattern: "color-game", ServicePattern: "user-*"}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), why) {
		t.Error(err)
	}
	if err := Serve(context.Background(), cli.ServeOptions{Listen: "127.0.0.1:0", DataDir: t.TempDir(), Load: requireCertificates}); err == nil || err.Error() != "join.require_certificate needs TLS: start the centre with --tls auto, or with --tls-cert and --tls-key" {
		t.Error(err)
	}
}
