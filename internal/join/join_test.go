package join_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/ops"
)

// forUsers is what most tests join with.
var forUsers = join.TokenRequest{Project: "color-game", Service: "user-*", Uses: -1}

func TestATokenBuysACertificateAndTheCertificateATunnel(t *testing.T) {
	c := newCentre(t, nil)
	secret, token := c.token(forUsers)
	g := newGuest()
	if msg := g.join(c, join.ByToken, secret); msg != "" {
		t.Fatal(msg)
	}
	if msg := g.open(c); msg != "" {
		t.Error("the tunnel: " + msg)
	}
	if !c.ledger.has("agent.join color-game/user-service/boot-0001 ok") {
		t.Errorf("not on record: %v", c.ledger.rows)
	}
	got := c.gate.Tokens()
	if len(got) != 1 || got[0].ID != token.ID || got[0].Uses != 1 || got[0].LastFrom != "127.0.0.1" || got[0].LastUsed.IsZero() {
		t.Errorf("tokens %+v", got)
	}
	renewed := newGuest()
	renewed.cert = g.cert
	if renewed.key = g.key; renewed.join(c, join.ByRenewal, "") != "" {
		t.Error("it could not be renewed")
	}
	noSecret(t, c, secret)
}

// noSecret looks for a secret where none may be.
func noSecret(t *testing.T, c *centre, secret string) {
	t.Helper()
	part := secret[strings.LastIndex(secret, "_")+1:]
	files, err := filepath.Glob(filepath.Join(c.dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || strings.Contains(string(b), part) {
			t.Errorf("%s has the secret (%v)", f, err)
		}
		if i, err := os.Stat(f); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v", f, i.Mode())
		}
	}
	if strings.Contains(c.said.String(), part) || strings.Contains(c.ledger.text.String(), part) || strings.Contains(strings.Join(c.ledger.rows, ""), part) {
		t.Error("the log or the record has the secret")
	}
}

// Every way in that must be closed says why, and is on record.
func TestWhoMayNotJoin(t *testing.T) {
	cases := []struct {
		name  string
		token join.TokenRequest
		spoil func(c *centre, g *guest, secret *string, id string)
		want  string
	}{
		{"no token", forUsers, func(_ *centre, _ *guest, s *string, _ string) { *s = "" },
			"the join token is not one of this centre's: check the file that OPS_TOKEN_FILE names, or make a token with `ops join-token create`"},
		{"a wrong secret", forUsers, func(_ *centre, _ *guest, s *string, _ string) { *s += "x" },
			"the join token is not one of this centre's: check the file that OPS_TOKEN_FILE names, or make a token with `ops join-token create`"},
		{"another service", forUsers, func(_ *centre, g *guest, _ *string, _ string) { g.service = "wallet" },
			"the join token ID is for color-game/user-* and not for color-game/wallet: check OPS_PROJECT and OPS_SERVICE, or make a token for them with `ops join-token create`"},
		{"another project", forUsers, func(_ *centre, g *guest, _ *string, _ string) { g.project = "slots" },
			"the join token ID is for color-game/user-* and not for slots/user-service: check OPS_PROJECT and OPS_SERVICE, or make a token for them with `ops join-token create`"},
		{"another network", join.TokenRequest{Project: "*", Service: "*", CIDRs: []string{"10.0.0.0/8", "192.0.2.7"}}, nil,
			"the join token ID may not be used from 127.0.0.1: its networks are 10.0.0.0/8, 192.0.2.7/32"},
		{"revoked", forUsers, func(c *centre, _ *guest, _ *string, id string) { _ = c.gate.Revoke(c.t.Context(), "user:ann", id) },
			"the join token ID was revoked at TIME: give the service a new one, `ops join-token create`"},
		{"expired", forUsers, func(c *centre, _ *guest, _ *string, _ string) { c.clock.add(31 * time.Minute) },
			"the join token ID expired at TIME: make a new one with `ops join-token create`"},
		{"used up", join.TokenRequest{Project: "*", Service: "*"}, func(c *centre, _ *guest, s *string, _ string) {
			if msg := newGuest().join(c, join.ByToken, *s); msg != "" {
				c.t.Error(msg)
			}
		}, "the join token ID was for 1 processes and has been used by as many: make a new one with `ops join-token create`, with --uses for more"},
		{"a name that is none", forUsers, func(_ *centre, g *guest, _ *string, _ string) { g.instance = "../../etc" },
			"project, service or instance is no name: check OPS_PROJECT and OPS_SERVICE"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := newCentre(t, nil)
			secret, token := c.token(tc.token)
			whole, g := secret, newGuest()
			if tc.spoil != nil {
				tc.spoil(c, g, &secret, token.ID)
			}
			got := g.join(c, join.ByToken, secret)
			want := strings.ReplaceAll(tc.want, "ID", token.ID)
			for _, x := range c.gate.Tokens() {
				for _, at := range []time.Time{x.Revoked, x.Expires} {
					got = strings.Replace(got, at.UTC().Format("2006-01-02 15:04 UTC"), "TIME", 1)
				}
			}
			if got != want {
				t.Errorf("\ngot  %s\nwant %s", got, want)
			}
			if !c.ledger.has("agent.join.refused") {
				t.Errorf("not on record: %v", c.ledger.rows)
			}
			if msg := g.open(c); !strings.HasPrefix(msg, "this centre takes agents with a certificate only") {
				t.Errorf("the tunnel without a certificate: %q", msg)
			}
			noSecret(t, c, whole)
		})
	}
}

func TestARequestIsGoodForItsConnectionOnly(t *testing.T) {
	c := newCentre(t, nil)
	secret, _ := c.token(forUsers)
	g := newGuest()
	conn := g.dial(c)
	l := g.letter(c, conn, join.ByToken, secret)
	if code, body := send(c, conn, l); code != http.StatusOK {
		t.Fatal(code, string(body))
	}
	// The same bytes again, by whoever has them.
	code, body := send(c, g.dial(c), l)
	if want := "the certificate request was made for another connection: it cannot be used again\n"; code != http.StatusForbidden || string(body) != want {
		t.Errorf("%d %s", code, body)
	}
	if !c.ledger.has("agent.join.refused color-game/user-service/boot-0001 refused the certificate request was made for another connection") {
		t.Errorf("not on record: %v", c.ledger.rows)
	}
	// A request for another name than the letter says.
	other := newGuest()
	conn = other.dial(c)
	l = other.letter(c, conn, join.ByToken, secret)
	l.Instance = "boot-0002"
	if code, body := send(c, conn, l); code != http.StatusForbidden || string(body) != "the certificate request is for another name than color-game/user-service/boot-0002\n" {
		t.Errorf("%d %s", code, body)
	}
	// A key that is not the request's.
	conn = other.dial(c)
	l = other.letter(c, conn, join.ByToken, secret)
	l.Proof = newGuest().letter(c, conn, "", "").Proof
	if code, _ := send(c, conn, l); code != http.StatusForbidden {
		t.Errorf("a stranger's key: %d", code)
	}
}

func TestWhoMayNotOpenATunnel(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(c *centre, g *guest, id string)
		want  string
	}{
		{"a forged service", func(_ *centre, g *guest, _ string) { g.service = "user-admin" },
			"the agent says that it is color-game/user-admin/boot-0001 and its certificate that it is color-game/user-service/boot-0001"},
		{"a forged project", func(_ *centre, g *guest, _ string) { g.project = "slots" },
			"the agent says that it is slots/user-service/boot-0001 and its certificate that it is color-game/user-service/boot-0001"},
		{"another process", func(_ *centre, g *guest, _ string) { g.instance = "boot-0002" },
			"the agent says that it is color-game/user-service/boot-0002 and its certificate that it is color-game/user-service/boot-0001"},
		{"a name that is none", func(_ *centre, g *guest, _ string) { g.instance = "<script>" },
			"the agent says that it is a name that is none and its certificate that it is color-game/user-service/boot-0001"},
		{"expired", func(c *centre, _ *guest, _ string) { c.clock.add(24*time.Hour + time.Minute) },
			"the agent's certificate was good from"},
		{"revoked", func(c *centre, _ *guest, id string) { _ = c.gate.Revoke(c.t.Context(), "user:ann", id) }, "was revoked at"},
		{"of another centre", func(c *centre, g *guest, _ string) {
			other := newCentre(c.t, nil)
			secret, _ := other.token(forUsers)
			if msg := g.join(other, join.ByToken, secret); msg != "" {
				c.t.Error(msg)
			}
		}, "the agent's certificate was not made by this centre: let the service join again with a token of `ops join-token create`"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := newCentre(t, nil)
			secret, token := c.token(forUsers)
			g := newGuest()
			if msg := g.join(c, join.ByToken, secret); msg != "" {
				t.Fatal(msg)
			}
			tc.spoil(c, g, token.ID)
			if got := g.open(c); !strings.Contains(got, tc.want) {
				t.Errorf("\ngot  %s\nwant %s", got, tc.want)
			}
			if !c.ledger.has("agent.tunnel.refused") {
				t.Errorf("not on record: %v", c.ledger.rows)
			}
		})
	}
}

func TestWhatMayNotBeRenewed(t *testing.T) {
	c := newCentre(t, nil)
	secret, token := c.token(forUsers)
	g := newGuest()
	if msg := g.join(c, join.ByToken, secret); msg != "" {
		t.Fatal(msg)
	}
	g.service = "wallet"
	if msg := g.join(c, join.ByRenewal, ""); msg != "the certificate is of color-game/user-service and cannot be renewed for color-game/wallet" {
		t.Error(msg)
	}
	without := newGuest()
	if msg := without.join(c, join.ByRenewal, ""); msg != "a certificate is renewed with the certificate that it follows: the agent showed none" {
		t.Error(msg)
	}
	// A process that was started again has another name of its own.
	g.service, g.instance = "user-service", "boot-0002"
	if msg := g.join(c, join.ByRenewal, ""); msg != "" {
		t.Error(msg)
	}
	// The token's end does not end what it was for; being revoked does.
	c.clock.add(2 * time.Hour)
	if msg := g.join(c, join.ByRenewal, ""); msg != "" {
		t.Error(msg)
	}
	if err := c.gate.Revoke(t.Context(), "user:ann", token.ID); err != nil {
		t.Fatal(err)
	}
	if msg := g.join(c, join.ByRenewal, ""); !strings.Contains(msg, "was revoked at") {
		t.Error(msg)
	}
}

func TestRevokingDropsTheTunnels(t *testing.T) {
	var dropped []ops.InstanceID
	drop := func(c *join.Config) { c.Drop = func(ids []ops.InstanceID) { dropped = ids } }
	c := newCentre(t, drop)
	secret, token := c.token(forUsers)
	other, _ := c.token(forUsers)
	mine, theirs := newGuest(), newGuest()
	theirs.instance = "boot-0002"
	if msg := mine.join(c, join.ByToken, secret) + theirs.join(c, join.ByToken, other); msg != "" {
		t.Fatal(msg)
	}
	c.open(drop) // a centre that was started again knows them when they are back
	if msg := mine.open(c) + theirs.open(c); msg != "" {
		t.Fatal(msg)
	}
	if err := c.gate.Revoke(t.Context(), "user:ann", token.ID); err != nil || len(dropped) != 1 || dropped[0] != "boot-0001" {
		t.Errorf("%v, dropped %v", err, dropped)
	}
	if err := c.gate.Revoke(t.Context(), "user:ann", "nonesuch"); err == nil || err.Error() != "there is no join token \"nonesuch\": `ops join-token list` shows them" {
		t.Error(err)
	}
}

func TestAgentsSurviveTheAuthoritysReplacement(t *testing.T) {
	c := newCentre(t, nil)
	secret, _ := c.token(join.TokenRequest{Project: "*", Service: "*", Uses: -1, For: -1})
	g := newGuest()
	if msg := g.join(c, join.ByToken, secret); msg != "" {
		t.Fatal(msg)
	}
	// Just before half of the authority's life, and just after.
	c.clock.add(90*24*time.Hour - time.Minute)
	if msg := g.join(c, join.ByToken, secret); msg != "" {
		t.Fatal(msg)
	}
	c.clock.add(2 * time.Minute)
	next := newGuest()
	if msg := next.join(c, join.ByToken, secret); msg != "" {
		t.Fatal(msg)
	}
	if files, _ := filepath.Glob(filepath.Join(c.dir, "agents-ca-*.pem")); len(files) != 2 {
		t.Fatalf("authorities: %v", files)
	}
	c.open(nil) // and a restart in between
	for _, who := range []*guest{g, next} {
		if msg := who.open(c); msg != "" {
			t.Error(msg)
		}
	}
	if msg := g.join(c, join.ByRenewal, ""); msg != "" {
		t.Error("renewal by the older authority's certificate: " + msg)
	}
	c.clock.add(91 * 24 * time.Hour)
	c.open(nil)
	if msg := next.join(c, join.ByToken, secret); msg != "" {
		t.Error(msg)
	}
	if files, _ := filepath.Glob(filepath.Join(c.dir, "agents-ca-*.pem")); len(files) != 2 {
		t.Errorf("the oldest authority is still there: %v", files)
	}
}

func TestACentreThatWasStartedAgainKnowsItsAgentsAndTokens(t *testing.T) {
	c := newCentre(t, nil)
	once, _ := c.token(join.TokenRequest{Project: "*", Service: "*"})
	g := newGuest()
	if msg := g.join(c, join.ByToken, once); msg != "" {
		t.Fatal(msg)
	}
	c.open(nil) // as after kill -9: nothing was flushed
	if msg := g.open(c); msg != "" {
		t.Error(msg)
	}
	if msg := newGuest().join(c, join.ByToken, once); !strings.Contains(msg, "has been used by as many") {
		t.Errorf("a token for one was good for two: %q", msg)
	}
}

func TestClocksMayBeOffByAnHour(t *testing.T) {
	c := newCentre(t, nil)
	secret, _ := c.token(forUsers)
	g := newGuest()
	if msg := g.join(c, join.ByToken, secret); msg != "" {
		t.Fatal(msg)
	}
	c.clock.add(-59 * time.Minute) // the centre's clock was set right
	if msg := g.open(c); msg != "" {
		t.Error(msg)
	}
}

func TestNobodyJoinsUnrecorded(t *testing.T) {
	c := newCentre(t, nil)
	secret, _ := c.token(forUsers)
	c.ledger.full = true
	if msg := newGuest().join(c, join.ByToken, secret); msg != "nobody joins while it cannot be put on record: the disk is full" {
		t.Error(msg)
	}
	if _, _, err := c.gate.Create(t.Context(), "user:ann", forUsers); err == nil {
		t.Error("a token was made unrecorded")
	}
}

func TestWhoGuessesHasToWait(t *testing.T) {
	c := newCentre(t, nil)
	secret, _ := c.token(forUsers)
	for range 30 {
		newGuest().join(c, join.ByToken, "opsj_guess_guess")
	}
	if msg := newGuest().join(c, join.ByToken, secret); msg != "too many agents were refused from 127.0.0.1: try again in a minute" {
		t.Error(msg)
	}
	if n := len(c.ledger.rows); n != 11 { // the token's creation, and ten refusals
		t.Errorf("%d rows", n)
	}
	c.clock.add(2 * time.Minute)
	if msg := newGuest().join(c, join.ByToken, secret); msg != "" {
		t.Error(msg)
	}
}

func TestTokensThatCannotBeMade(t *testing.T) {
	c := newCentre(t, nil)
	for want, r := range map[string]join.TokenRequest{
		`the project "" is no name and no pattern: write one such as color-game, or with * such as user-*`:    {Service: "x"},
		`the service "a/b" is no name and no pattern: write one such as color-game, or with * such as user-*`: {Project: "x", Service: "a/b"},
		`the network "10.0.0.0/99" is none: write one such as 10.0.0.0/8, or an address`:                      {Project: "x", Service: "y", CIDRs: []string{"10.0.0.0/99"}},
		`33 networks are too many for a token: use at most 32`:                                                {Project: "x", Service: "y", CIDRs: make([]string, 33)},
	} {
		if _, _, err := c.gate.Create(t.Context(), "user:ann", r); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

func TestFilesThatAreNotWhole(t *testing.T) {
	for name, want := range map[string]string{"tokens.json": "put back a copy of the file", "agents-ca-x.pem": "put back a copy of the file, or delete it: agents then join again"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := join.Open(join.Config{Dir: dir, Record: &ledger{}}); ops.KindOf(err) != ops.Corrupt || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRequests(f *testing.F) {
	c := newCentre(f, nil)
	f.Add([]byte(`{"version":1,"method":"token","project":"p","service":"s","instance":"boot-1","csr":"MA==","proof":"MA=="}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		resp, err := c.server.Client().Post(c.server.URL+join.Path, "application/json", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusInternalServerError {
			t.Errorf("%d for %q", resp.StatusCode, body)
		}
	})
}
