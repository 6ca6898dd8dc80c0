package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/opscenter/opscenter/internal/auth"
)

func TestGuard(t *testing.T) {
	var actor string
	h := Guard(GuardConfig{Auth: auth.NewLoopback(), Hosts: []string{"ops.example.com"}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		actor = auth.ActorOf(r.Context()).Name
	}))
	type header map[string]string
	for _, c := range []struct {
		name, method, host string
		header             header
		code               int
		says               string
	}{
		{"this machine", "GET", "127.0.0.1:8080", nil, 200, ""},
		{"by name", "GET", "localhost:8080", nil, 200, ""},
		{"by name, shouted", "GET", "LOCALHOST:8080", nil, 200, ""},
		{"over IPv6", "GET", "[::1]:8080", nil, 200, ""},
		{"an allowed name", "POST", "ops.example.com", nil, 200, ""},
		{"a name that was made to resolve here", "GET", "evil.example.net", nil, 421, "--allow-host evil.example.net"},
		{"the same, trailing dot", "GET", "evil.example.net.", nil, 421, "does not go by the name"},
		{"no name", "GET", "", nil, 421, "does not go by the name"},
		{"a program", "POST", "127.0.0.1:8080", nil, 200, ""},
		{"our own page", "POST", "127.0.0.1:8080", header{"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8080"}, 200, ""},
		{"another site's page", "POST", "127.0.0.1:8080", header{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.net"}, 403, "another site's page"},
		{"a sibling's page", "POST", "127.0.0.1:8080", header{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9999"}, 403, "another site's page"},
		{"a sandboxed page", "POST", "127.0.0.1:8080", header{"Origin": "null"}, 403, "another site's page"},
	} {
		t.Run(c.name, func(t *testing.T) {
			actor = ""
			r := httptest.NewRequest(c.method, "/api/import", nil)
			r.Host, r.RemoteAddr = c.host, "127.0.0.1:50000"
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			body, _ := io.ReadAll(w.Body)
			if w.Code != c.code || !strings.Contains(string(body), c.says) {
				t.Fatalf("%d %s; want %d with %q", w.Code, body, c.code, c.says)
			}
			if (actor != "") != (c.code == 200) {
				t.Fatalf("actor %q with code %d", actor, w.Code)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Error("the answer may be sniffed")
			}
		})
	}
}

func TestEveryCallDeclaresItsPermission(t *testing.T) {
	rules := declaredRules()
	for _, name := range procedures() {
		if _, ok := rules[name]; !ok {
			t.Errorf("%s declares no permission", name)
		}
	}
	if len(procedures()) < 13 {
		t.Fatalf("only %d procedures found", len(procedures()))
	}
}

// procedures lists every call there is, read from the schema.
// procedures are all there are; streams those of them that answer with a stream.
func procedures() []string { all, _ := declared(); return all }

func streams() []string { _, some := declared(); return some }

func declared() (names, streaming []string) {
	protoregistry.GlobalFiles.RangeFilesByPackage("opscenter.api.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			svc := f.Services().Get(i)
			for j := range svc.Methods().Len() {
				m := svc.Methods().Get(j)
				name := "/" + string(svc.FullName()) + "/" + string(m.Name())
				names = append(names, name)
				if m.IsStreamingServer() {
					streaming = append(streaming, name)
				}
			}
		}
		return true
	})
	return names, streaming
}
