package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthcheck(t *testing.T) {
	serve := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/ops/healthz" || r.Header.Get("Authorization") != "" {
				status = http.StatusTeapot
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	for _, c := range []struct {
		name   string
		server *httptest.Server
		code   int
		says   string
	}{
		{"plain", httptest.NewServer(serve(200, "ok\n")), ExitOK, "ok\n"},
		{"TLS of its own", httptest.NewTLSServer(serve(200, "ok\n")), ExitOK, "ok\n"},
		{"trouble", httptest.NewServer(serve(503, "")), ExitUnavailable, "ops: the centre does not serve: URL/ops/healthz answers 503 Service Unavailable\n"},
		{"another program", httptest.NewServer(serve(200, "hello")), ExitUnavailable, "ops: the centre does not serve: URL/ops/healthz answers 200 OK\n"},
	} {
		stdout, stderr, code := run{}.ops(t, &centre{}, "healthcheck", "--server", c.server.URL+"/ops")
		if got := stdout + strings.ReplaceAll(stderr, c.server.URL, "URL"); code != c.code || got != c.says {
			t.Errorf("%s: %d %q, want %d %q", c.name, code, got, c.code, c.says)
		}
		c.server.Close()
	}
}
