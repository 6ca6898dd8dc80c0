package api

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
)

// GuardConfig says who may reach the centre over HTTP.
type GuardConfig struct {
	Auth auth.Authorizer
	// Hosts are the names under which the centre may be addressed, besides those
	// of loopback: what stops a page whose own name was made to resolve to this
	// machine. "*" allows every name.
	Hosts []string
	// Certificate, if set, allows the names it was made for.
	Certificate *tls.Certificate
}

// Guard lets a request through to next only under a known host name, not from
// another site's page, and with an actor in its context.
func Guard(cfg GuardConfig, next http.Handler) http.Handler {
	csrf := http.NewCrossOriginProtection()
	csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, ops.Errorf(ops.Denied, "the request comes from another site's page (%s): open the centre itself", r.Header.Get("Origin")))
	}))
	inner := csrf.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		actor, err := cfg.Auth.Authenticate(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="OPS Center", charset="UTF-8"`)
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(auth.WithActor(r.Context(), actor)))
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		if !hostAllowed(cfg, r.Host) {
			http.Error(w, "this centre does not go by the name "+strings.Trim(asciiOnly(r.Host), `"`)+": start it with --allow-host "+asciiOnly(hostname(r.Host))+" if it should", http.StatusMisdirectedRequest)
			return
		}
		inner.ServeHTTP(w, r)
	})
}

func hostAllowed(cfg GuardConfig, hostport string) bool {
	host := hostname(hostport)
	if strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback() {
		return true
	}
	for _, h := range cfg.Hosts {
		if h == "*" || strings.EqualFold(h, host) {
			return true
		}
	}
	return cfg.Certificate != nil && cfg.Certificate.Leaf != nil && host != "" && cfg.Certificate.Leaf.VerifyHostname(host) == nil
}

func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}

// asciiOnly keeps what a stranger sent harmless in a plain-text answer.
func asciiOnly(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
