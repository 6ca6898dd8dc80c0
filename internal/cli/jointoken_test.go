package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
)

// gate is a centre that has join tokens.
type gate struct {
	asked   *apiv1.CreateJoinTokenRequest
	tokens  []*apiv1.JoinToken
	revoked string
}

func (g *gate) CreateJoinToken(_ context.Context, r *connect.Request[apiv1.CreateJoinTokenRequest]) (*connect.Response[apiv1.CreateJoinTokenResponse], error) {
	g.asked = r.Msg
	return connect.NewResponse(&apiv1.CreateJoinTokenResponse{
		Secret: "opsj_abc_secret", Pin: strings.Repeat("ab", 32),
		Token: &apiv1.JoinToken{Id: "abc", ProjectPattern: r.Msg.GetProjectPattern(), ServicePattern: r.Msg.GetServicePattern()},
	}), nil
}

func (g *gate) ListJoinTokens(context.Context, *connect.Request[apiv1.ListJoinTokensRequest]) (*connect.Response[apiv1.ListJoinTokensResponse], error) {
	return connect.NewResponse(&apiv1.ListJoinTokensResponse{Tokens: g.tokens}), nil
}

func (g *gate) RevokeJoinToken(_ context.Context, r *connect.Request[apiv1.RevokeJoinTokenRequest]) (*connect.Response[apiv1.RevokeJoinTokenResponse], error) {
	g.revoked = r.Msg.GetId()
	return connect.NewResponse(&apiv1.RevokeJoinTokenResponse{}), nil
}

func newGate(t *testing.T, g *gate) *centre {
	mux := http.NewServeMux()
	mux.Handle(apiv1connect.NewJoinServiceHandler(g))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return &centre{url: srv.URL}
}

func TestAJoinTokenComesWithWhatAServiceNeeds(t *testing.T) {
	g := &gate{}
	c := newGate(t, g)
	out, errs, code := run{}.ops(t, c, "join-token", "create", "--project", "color-game", "--service", "user-*", "--cidr", "10.0.0.0/8", "--uses", "0", "--expires", "never")
	want := `# The token, in a file that only the service may read:
umask 077; echo opsj_abc_secret > ops-join.token
# The service's environment:
OPS_CENTER=` + c.url + `
OPS_CA_PIN=` + strings.Repeat("ab", 32) + `
OPS_TOKEN_FILE=ops-join.token
OPS_PROJECT=color-game
# OPS_SERVICE=a service that fits user-*
`
	if code != 0 || out != want {
		t.Errorf("%d %s\n%s\nwant\n%s", code, errs, out, want)
	}
	if !strings.Contains(errs, "join token abc lets as many processes as come of color-game/user-* join, for ever; this is the only time that it is shown") || strings.Contains(errs, "secret") {
		t.Error(errs)
	}
	if g.asked.GetUses() != -1 || g.asked.GetLife().AsDuration() >= 0 || len(g.asked.GetNetworks()) != 1 {
		t.Errorf("asked for %v", g.asked)
	}
	if _, _, code := (run{}).ops(t, c, "join-token", "create", "--project", "p", "--service", "s"); code != 0 || g.asked.GetUses() != 1 || g.asked.GetLife().AsDuration() != 30*time.Minute {
		t.Errorf("asked for %v", g.asked)
	}
	for want, args := range map[string][]string{
		"--project and --service say for whom the token is: give both; * stands for all":     {"create", "--service", "s"},
		"--uses -2 is no number of processes: give one, or 0 for as many as come":            {"create", "--project", "p", "--service", "s", "--uses", "-2"},
		"ops join-token does not know what to do with \"make\": see `ops join-token --help`": {"make"},
	} {
		if _, errs, code := (run{}).ops(t, c, append([]string{"join-token"}, args...)...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
}

func TestJoinTokensAreListed(t *testing.T) {
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(testNow.Add(d)) }
	g := &gate{tokens: []*apiv1.JoinToken{
		{Id: "good", ProjectPattern: "p", ServicePattern: "*", Uses: 7, Networks: []string{"10.0.0.0/8"}},
		{Id: "over", ProjectPattern: "p", ServicePattern: "s", Expires: at(-time.Hour), MaxUses: 2, Uses: 1},
		{Id: "used", ProjectPattern: "p", ServicePattern: "s", Expires: at(time.Hour), MaxUses: 1, Uses: 1},
		{Id: "gone", ProjectPattern: "p", ServicePattern: "s", Revoked: at(0)},
	}}
	c := newGate(t, g)
	out, _, code := run{}.ops(t, c, "join-token", "list")
	var got []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		got = append(got, f[0]+" "+f[len(f)-1])
	}
	if code != 0 || strings.Join(got, ", ") != "TOKEN STATE, good valid, over expired, used up, gone revoked" {
		t.Errorf("%d %s", code, out)
	}
	if _, _, code := (run{}).ops(t, c, "join-token", "revoke", "good"); code != 0 || g.revoked != "good" {
		t.Errorf("%d, revoked %q", code, g.revoked)
	}
}
