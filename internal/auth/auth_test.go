package auth

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
)

const secret = "0123456789abcdef0123"

func tokenFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTokenAuthenticates(t *testing.T) {
	a, err := NewToken(tokenFile(t, "\n"+secret+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set         func(*http.Request)
		actor, fail string
	}{
		"nothing":      {func(*http.Request) {}, "", "wants its token"},
		"bearer":       {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }, "token", ""},
		"wrong bearer": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret+"x") }, "", "not this centre's"},
		"empty bearer": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, "", "not this centre's"},
		"browser":      {func(r *http.Request) { r.SetBasicAuth("oncall", secret) }, "token:oncall", ""},
		"hostile name": {func(r *http.Request) { r.SetBasicAuth("a\nb", secret) }, `token:a\nb`, ""},
		"in the query": {func(r *http.Request) { r.URL.RawQuery = "token=" + secret }, "", "wants its token"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			c.set(r)
			actor, err := a.Authenticate(r)
			if c.fail != "" {
				if ops.KindOf(err) != ops.Denied || !strings.Contains(err.Error(), c.fail) {
					t.Fatalf("got %v, want a denial that says %q", err, c.fail)
				}
				if strings.Contains(err.Error(), secret) {
					t.Fatal("the message carries the token")
				}
				return
			}
			if err != nil || actor.Name != c.actor {
				t.Fatalf("actor %q, %v; want %q", actor.Name, err, c.actor)
			}
		})
	}
}

func TestShortTokenIsRefused(t *testing.T) {
	name := tokenFile(t, "short")
	_, err := NewToken(name)
	want := "--token-file " + name + ": the token has 5 characters and needs at least 16: make one with `openssl rand -hex 32 > " + name + "`"
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
}

func TestLoopbackServesThisMachineOnly(t *testing.T) {
	a := NewLoopback()
	for addr, ok := range map[string]bool{"127.0.0.1:4000": true, "[::1]:4000": true, "10.0.0.7:4000": false, "": false} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = addr
		if _, err := a.Authenticate(r); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestAuthorizeNamesWhatIsMissing(t *testing.T) {
	err := NewLoopback().Authorize(Actor{Name: "viewer", Permissions: []Permission{View}}, Delete)
	if want := `viewer may not do this: it needs the permission "delete"`; err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
}
