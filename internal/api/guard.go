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
	Certificate func() (*tls.Certificate, error)
	// Open says which requests need no actor; nil = none.
	Open func(*http.Request) bool
	// Welcome answers a browser that shows no login, and reports whether it did;
	// nil = it is told in a sentence, and asked for a password.
	Welcome func(http.ResponseWriter, *http.Request) bool
	// Limit is asked once the actor is known and says no when they ask too much;
	// nil = there is no limit. done is called when the request was answered.
	Limit func(*http.Request, auth.Actor) (done func(), err error)
	// Refused is told of requests that were turned away; nil = nobody is.
	Refused func(r *http.Request, what string, err error)
}

// Guard lets a request through to next only under a known host name, not from
// another site's page, and with an actor in its context.
func Guard(cfg GuardConfig, next http.Handler) http.Handler {
	csrf := http.NewCrossOriginProtection()
	csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, ops.Errorf(ops.Denied, "the request comes from another site's page (%s): open the centre itself", r.Header.Get("Origin")))
	}))
	inner := csrf.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strayed(r) {
			writeError(w, ops.Errorf(ops.Denied, "the request comes from another site's page (%s): open the centre itself", asciiOnly(r.Header.Get("Sec-Fetch-Site"))))
			return
		}
		if cfg.Open != nil && cfg.Open(r) {
			next.ServeHTTP(w, r)
			return
		}
		actor, err := cfg.Auth.Authenticate(r)
		if err != nil {
			turnAway(cfg, w, r, err)
			return
		}
		if cfg.Limit != nil {
			done, err := cfg.Limit(r, actor)
			if err != nil {
				writeError(w, err)
				return
			}
			defer done()
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

// strayed reports whether another site's page makes the browser ask: for an
// image, a script, a frame, by fetch. What it may do is let people follow a link.
// Reading changes nothing, but how long it takes and whether it works is told,
// and it costs the centre work.
func strayed(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	followed := r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	return !followed || r.Method != http.MethodGet && r.Method != http.MethodHead
}

// turnAway answers a request that has no actor.
func turnAway(cfg GuardConfig, w http.ResponseWriter, r *http.Request, err error) {
	if ops.KindOf(err) != ops.Denied {
		writeError(w, err)
		return
	}
	if cfg.Welcome != nil && cfg.Welcome(w, r) {
		return
	}
	// Nothing shown is not worth the record; something wrong is.
	if cfg.Refused != nil && (r.Header.Get("Authorization") != "") {
		cfg.Refused(r, "request", err)
	}
	if cfg.Welcome == nil {
		w.Header().Set("WWW-Authenticate", `Basic realm="OPS Center", charset="UTF-8"`)
	} else {
		w.Header().Set("WWW-Authenticate", `Bearer realm="OPS Center"`)
	}
	http.Error(w, err.Error(), http.StatusUnauthorized)
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
	if cfg.Certificate == nil || host == "" {
		return false
	}
	cert, err := cfg.Certificate()
	return err == nil && cert.Leaf != nil && cert.Leaf.VerifyHostname(host) == nil
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
