package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
)

// apiServer lists and watches objects as the Kubernetes API documents it:
// resource versions, bookmarks, and 410 Gone for a version that is compacted. It
// is no API server.
type apiServer struct {
	*discoverytest.Server

	mu      sync.Mutex
	version int
	from    int // versions before are compacted
	objects map[string]map[string]any
	events  []event
	changed chan struct{}
	garbage bool
	refuse  int // an HTTP status; 0 = nobody
	// forbid refuses to tell of this resource: "deployments".
	forbid   string
	lists    int
	gone     int
	bookmark time.Duration
}

type event struct {
	version int
	kind    string
	object  map[string]any
}

func newAPIServer(t *testing.T) *apiServer {
	a := &apiServer{version: 10, objects: map[string]map[string]any{}, changed: make(chan struct{}), bookmark: 100 * time.Millisecond}
	a.Server = discoverytest.StartServer(t, http.HandlerFunc(a.serve))
	return a
}

func (a *apiServer) start(t *testing.T) {
	a.mu.Lock()
	a.compact()
	a.mu.Unlock()
	a.Start(t)
}

// compact forgets what happened; the caller holds a.mu.
func (a *apiServer) compact() {
	a.version++
	a.events, a.from = nil, a.version
}

func (a *apiServer) wake() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// set makes the server hold these objects, by name.
func (a *apiServer) set(objects map[string]map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.garbage = false
	for name, o := range a.objects {
		if objects[name] == nil {
			a.happened("DELETED", o)
			delete(a.objects, name)
		}
	}
	for name, o := range objects {
		kind := "ADDED"
		if a.objects[name] != nil {
			kind = "MODIFIED"
		}
		a.objects[name] = o
		a.happened(kind, o)
	}
	a.wake()
}

func (a *apiServer) happened(kind string, o map[string]any) {
	a.version++
	o["metadata"].(map[string]any)["resourceVersion"] = fmt.Sprint(a.version)
	a.events = append(a.events, event{a.version, kind, o})
}

func (a *apiServer) breakIt() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.garbage = true
	a.compact()
	a.wake()
}

func status(code int, reason string) map[string]any {
	return map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": strings.ToLower(reason)}
}

func (a *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	a.mu.Lock()
	defer a.mu.Unlock()
	q := r.URL.Query()
	kind := kinds[path.Base(r.URL.Path)]
	switch {
	case a.forbid != "" && path.Base(r.URL.Path) == a.forbid:
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(status(http.StatusForbidden, "Forbidden"))
	case a.refuse != 0:
		w.WriteHeader(a.refuse)
		_ = json.NewEncoder(w).Encode(status(a.refuse, map[int]string{403: "Forbidden", 401: "Unauthorized"}[a.refuse]))
	case q.Get("sendInitialEvents") != "": // an older server
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(status(422, "Invalid"))
	case q.Get("watch") != "":
		from, _ := strconv.Atoi(q.Get("resourceVersion"))
		a.watch(w, r, kind, from)
	case a.garbage:
		fmt.Fprintf(w, `{"kind": "%sList", "items": [{`, kind)
	default:
		a.lists++
		items := []any{}
		for _, o := range a.objects {
			if o["kind"] == kind {
				items = append(items, o)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind + "List", "apiVersion": groups[kind], "metadata": map[string]any{"resourceVersion": fmt.Sprint(a.version)}, "items": items})
	}
}

// kinds of the resources, and the groups of these.
var (
	kinds  = map[string]string{"endpointslices": "EndpointSlice", "pods": "Pod", "deployments": "Deployment", "statefulsets": "StatefulSet"}
	groups = map[string]string{"EndpointSlice": "discovery.k8s.io/v1", "Pod": "v1", "Deployment": "apps/v1", "StatefulSet": "apps/v1"}
)

// watch is called and returns with a.mu held.
func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, kind string, from int) {
	out := json.NewEncoder(w)
	flush := func() { _ = http.NewResponseController(w).Flush() }
	flush()
	due := false // a bookmark: after what happened until it is sent
	for r.Context().Err() == nil {
		if from < a.from {
			a.gone++
			_ = out.Encode(map[string]any{"type": "ERROR", "object": status(410, "Expired")})
			return
		}
		for _, e := range a.events {
			if e.version > from {
				if from = e.version; e.object["kind"] == kind {
					_ = out.Encode(map[string]any{"type": e.kind, "object": e.object})
				}
			}
		}
		if due {
			due, from = false, a.version
			_ = out.Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{"kind": kind, "apiVersion": groups[kind], "metadata": map[string]any{"resourceVersion": fmt.Sprint(from)}}})
		}
		flush()
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
			a.mu.Lock()
		case <-time.After(a.bookmark):
			due = true
			a.mu.Lock()
		case <-r.Context().Done():
			a.mu.Lock()
		}
	}
}

// kubeconfig writes the file that leads to the server.
func (a *apiServer) kubeconfig(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: test,
clusters: [{name: test, cluster: {server: "http://%s"}}],
users: [{name: centre, user: {token: secret-token}}],
contexts: [{name: test, context: {cluster: test, user: centre}}]}`, a.Address)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
