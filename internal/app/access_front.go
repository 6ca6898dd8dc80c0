package app

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/opscenter/opscenter/internal/api"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/auth/loginpage"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/toolui"
	"github.com/opscenter/opscenter/web"
)

// on says on what a route's permission has to be held.
type on int

const (
	theCentre on = iota // the whole of it
	something           // anything at all
	aCapture            // the one whose id is the path's second segment
	checked             // what is behind the route looks itself
	everyone            // nothing: the route is open to who reaches the centre
)

// route is a path and what it needs. Every path of the centre is a row of
// routes: there is no other way to be served.
type route struct {
	pattern string
	need    auth.Permission
	on      on
	handler http.Handler
}

// parts is what lies behind the routes.
type parts struct {
	calls, tunnel, metrics http.Handler
	tools                  *toolui.UI
	login                  *loginpage.Pages // nil = nobody logs in
	join                   http.Handler     // nil = agents get no certificates
	// mayCapture checks a caller's right to look at a capture.
	mayCapture func(*http.Request, ops.CaptureID) error
}

func routes(o cli.ServeOptions, p parts) []route {
	out := []route{
		{"/opscenter.agent.v1/tunnel", auth.Join, theCentre, p.tunnel},
		{"/api/", "", checked, p.calls},
		{"/pprof/", auth.View, aCapture, p.tools},
		{"/trace/", auth.View, aCapture, p.tools},
		{"GET /metrics", auth.View, theCentre, p.metrics}, // all projects' numbers
		{"GET /healthz", "", everyone, healthz},
		{"/", auth.View, something, web.Handler(web.Config{BasePath: o.BasePath})},
	}
	if p.join != nil {
		out = append(out, route{join.Path, "", everyone, p.join}) // it asks for a token itself
	}
	if p.login != nil {
		for _, pattern := range loginpage.Patterns() {
			out = append(out, route{pattern, "", everyone, p.login})
		}
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("opscenter.api.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			out = append(out, route{"/" + string(f.Services().Get(i).FullName()) + "/", "", checked, p.calls})
		}
		return true
	})
	return out
}

var healthz = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })

// allowed wraps a route's handler with what the route needs.
func (r route) allowed(a auth.Authorizer, p parts) http.Handler {
	if r.on == checked || r.on == everyone {
		return r.handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		actor := auth.ActorOf(req.Context())
		var err error
		switch r.on {
		case something:
			if !actor.Somewhere(r.need) {
				err = a.Authorize(actor, r.need)
			}
		case aCapture:
			at := strings.SplitN(strings.TrimPrefix(req.URL.Path, "/"), "/", 3)
			err = p.mayCapture(req, ops.CaptureID(append(at, "", "")[1]))
		default:
			err = a.Authorize(actor, r.need)
		}
		if err != nil {
			code := http.StatusForbidden
			if ops.KindOf(err) == ops.NotFound {
				code = http.StatusNotFound
			}
			http.Error(w, err.Error(), code)
			return
		}
		r.handler.ServeHTTP(w, req)
	})
}

// front puts everything on one port, under the base path, behind the guard.
func front(o cli.ServeOptions, who access, p parts) http.Handler {
	mux, unasked := http.NewServeMux(), http.NewServeMux()
	for _, r := range routes(o, p) {
		mux.Handle(r.pattern, r.allowed(who.auth, p))
		if r.on == everyone {
			unasked.Handle(r.pattern, r.handler)
		}
	}
	open := func(r *http.Request) bool {
		_, pattern := unasked.Handler(&http.Request{Method: r.Method, Host: r.Host, URL: &url.URL{Path: strings.TrimPrefix(r.URL.Path, o.BasePath)}})
		return pattern != ""
	}

	var inner http.Handler = mux
	if o.BasePath != "" {
		under := http.NewServeMux()
		under.Handle(o.BasePath+"/", http.StripPrefix(o.BasePath, mux))
		under.Handle("GET "+o.BasePath, http.RedirectHandler(o.BasePath+"/", http.StatusTemporaryRedirect))
		under.Handle("GET /healthz", healthz)
		under.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && r.URL.Path == "/" {
				http.Redirect(w, r, o.BasePath+"/", http.StatusTemporaryRedirect)
				return
			}
			http.Error(w, "this centre lives under "+o.BasePath+"/", http.StatusNotFound)
		})
		inner = under
	}
	cfg := api.GuardConfig{Auth: who.auth, Hosts: o.AllowHosts, Certificate: who.certificate(), Open: open}
	cfg.Limit = func(r *http.Request, actor auth.Actor) (func(), error) {
		if strings.HasPrefix(r.URL.Path, o.BasePath+"/opscenter.agent.v1/") {
			return func() {}, nil // thousands of agents are one actor; the fleet bounds them
		}
		return who.limiter.Enter(actor.Name)
	}
	if who.pages != nil {
		cfg.Welcome = who.pages.Welcome
	}
	if who.accounts != nil {
		cfg.Refused = func(r *http.Request, what string, err error) {
			who.accounts.Refused(r.Context(), "", who.address(r), "request.refused", what, err)
		}
	}
	guarded := api.Guard(cfg, inner)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A trace page is in a sandbox, from which the browser sends no
		// credentials: the secret in the address stands for them.
		if p.tools.Holds(r) {
			p.tools.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}
