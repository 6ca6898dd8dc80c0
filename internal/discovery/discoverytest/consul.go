package discoverytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Consul answers the calls that our source and agent/register make as Consul's
// HTTP API documents them: blocking queries with an index, ACL refusals, check
// filters, registration with TTL checks. It is no Consul.
type Consul struct {
	*Server

	mu       sync.Mutex // guards all below
	index    uint64
	changed  chan struct{}
	services map[string][]any
	until    map[string]time.Time // by service id: when its TTL check fails
	garbage  bool
	token    string // wanted; empty = any
	queries  []url.Values
}

// StartConsul starts one that is empty.
func StartConsul(t testing.TB) *Consul {
	t.Helper()
	c := &Consul{index: 7, changed: make(chan struct{}), services: map[string][]any{}, until: map[string]time.Time{}}
	c.Server = StartServer(t, http.HandlerFunc(c.serve))
	return c
}

// Start starts it again, with what it held.
func (c *Consul) Start(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	c.index = 3 // a leader restored from a copy counts from before
	c.mu.Unlock()
	c.Server.Start(t)
}

func (c *Consul) change(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
	c.wake()
}

// wake is called with c.mu held.
func (c *Consul) wake() {
	c.index++
	close(c.changed)
	c.changed = make(chan struct{})
}

// Set makes it hold these targets and no other.
func (c *Consul) Set(t testing.TB, targets []ops.Target) {
	t.Helper()
	services := map[string][]any{}
	for i, tg := range targets {
		u, err := url.Parse(tg.URL)
		if err != nil {
			t.Fatal(err)
		}
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			t.Fatal(err)
		}
		meta := map[string]string{"ops_project": string(tg.Project)}
		for k, v := range tg.Labels {
			meta[k] = v
		}
		name := string(tg.Service)
		services[name] = append(services[name], map[string]any{
			"Node":    map[string]any{"Node": "", "Address": "192.168.0.1"},
			"Service": map[string]any{"ID": fmt.Sprint(i), "Service": name, "Address": u.Hostname(), "Port": port, "Meta": meta},
		})
	}
	c.change(func() { c.services, c.garbage = services, false })
}

// Want makes it hold these targets and, of the first one's service, so many more
// which do not pass that there are n.
func (c *Consul) Want(t testing.TB, targets []ops.Target, n int) {
	t.Helper()
	c.Set(t, targets)
	c.change(func() {
		name := string(targets[0].Service)
		for i := len(targets); i < n; i++ {
			c.services[name] = append(c.services[name], map[string]any{
				"Service": map[string]any{"ID": fmt.Sprint(i), "Service": name, "Address": "10.9.0.1", "Port": 1000 + i, "Meta": map[string]string{"ops_project": string(targets[0].Project)}},
				"Checks":  []any{map[string]any{"CheckID": "service:x", "Status": "critical", "ServiceID": fmt.Sprint(i)}},
			})
		}
	})
}

// SetEntries makes a service have these, in the form of /v1/health/service/.
func (c *Consul) SetEntries(service string, entries []any) {
	c.change(func() { c.services[service] = entries })
}

// Break makes its answers unreadable until the next Set.
func (c *Consul) Break() { c.change(func() { c.garbage = true }) }

// Guard makes it want this token.
func (c *Consul) Guard(token string) { c.change(func() { c.token = token }) }

// Forget loses all services, as an agent without a data directory does.
func (c *Consul) Forget() { c.change(func() { clear(c.services); clear(c.until) }) }

// Queries are the parameters of what was asked.
func (c *Consul) Queries() []url.Values {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.queries)
}

func (c *Consul) serve(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	asked, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	wait, err := time.ParseDuration(q.Get("wait"))
	if err != nil {
		wait = time.Minute
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for held := r.Method == http.MethodGet; ; {
		c.queries = append(c.queries, q)
		if given := r.Header.Get("X-Consul-Token"); c.token != "" && given != c.token {
			c.refuse(w, r, given)
			return
		}
		next := c.expire()
		if !held || asked == 0 || c.index != asked {
			break
		}
		changed := c.changed
		c.mu.Unlock()
		critical := time.NewTimer(next)
		ended := false
		select {
		case <-changed:
		case <-critical.C:
		case <-timeout.C:
			held = false
		case <-r.Context().Done():
			ended = true
		}
		critical.Stop()
		c.mu.Lock()
		if ended {
			return
		}
	}
	if r.Method == http.MethodPut {
		c.put(w, r)
		return
	}
	c.answer(w, r)
}

// refuse does as Consul does: who shows no token may ask, and sees nothing.
func (c *Consul) refuse(w http.ResponseWriter, r *http.Request, given string) {
	switch {
	case given != "":
		http.Error(w, "ACL not found", http.StatusForbidden)
	case r.Method != http.MethodGet:
		http.Error(w, "Permission denied", http.StatusForbidden)
	default:
		c.head(w)
		fmt.Fprint(w, map[bool]string{true: "{}", false: "[]"}[r.URL.Path == "/v1/catalog/services"])
	}
}

// head says from when an answer is, and that it is a leader's.
func (c *Consul) head(w http.ResponseWriter) {
	for name, v := range map[string]string{"Index": fmt.Sprint(c.index), "Knownleader": "true", "Lastcontact": "0"} {
		w.Header().Set("X-Consul-"+name, v)
	}
}

// answer is called with c.mu held.
func (c *Consul) answer(w http.ResponseWriter, r *http.Request) {
	c.head(w)
	if c.garbage {
		fmt.Fprint(w, `[{"Service": {`)
		return
	}
	service, isHealth := strings.CutPrefix(r.URL.Path, "/v1/health/service/")
	switch {
	case r.URL.Path == "/v1/catalog/services":
		out := map[string][]string{"consul": {}}
		for name := range c.services {
			out[name] = []string{"game"}
		}
		_ = json.NewEncoder(w).Encode(out)
	case isHealth:
		out := []any{}
		for _, e := range c.services[service] {
			m, ok := e.(map[string]any)
			if ok && r.URL.Query().Has("passing") && strings.Contains(fmt.Sprint(m["Checks"]), "critical") {
				continue
			}
			out = append(out, e)
		}
		_ = json.NewEncoder(w).Encode(out)
	default:
		http.NotFound(w, r)
	}
}

// registered is what an agent's API is told of a service.
type registered struct {
	ID, Name, Address string
	Port              int
	Meta              map[string]string
	Tags              []string
	Check             struct {
		CheckID, TTL, Status string
	}
}

// put serves the agent's API; it is called with c.mu held.
func (c *Consul) put(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/agent/")
	switch {
	case path == "service/register":
		var s registered
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil || s.ID == "" || s.Name == "" {
			http.Error(w, "Request decode failed", http.StatusBadRequest)
			return
		}
		ttl, err := time.ParseDuration(s.Check.TTL)
		if err != nil {
			http.Error(w, "Invalid check: TTL must be > 0", http.StatusBadRequest)
			return
		}
		c.remove(s.ID)
		c.services[s.Name] = append(c.services[s.Name], map[string]any{
			"Node":    map[string]any{"Node": "node-a", "Address": "192.168.0.1"},
			"Service": map[string]any{"ID": s.ID, "Service": s.Name, "Address": s.Address, "Port": s.Port, "Meta": s.Meta, "Tags": s.Tags},
			"ttl":     ttl,
			"Checks":  []any{map[string]any{"CheckID": s.Check.CheckID, "Status": s.Check.Status, "ServiceID": s.ID}},
		})
		c.until[s.ID] = time.Now().Add(ttl)
	case strings.HasPrefix(path, "check/update/service:"):
		id := strings.TrimPrefix(path, "check/update/service:")
		if !c.pass(id) {
			http.Error(w, fmt.Sprintf("Unknown check ID %q", "service:"+id), http.StatusNotFound)
			return
		}
	case strings.HasPrefix(path, "service/deregister/"):
		c.remove(strings.TrimPrefix(path, "service/deregister/"))
	default:
		http.NotFound(w, r)
		return
	}
	c.wake()
}

func (c *Consul) each(fn func(name string, at int, entry map[string]any, id string) bool) {
	for name, all := range c.services {
		for i, e := range all {
			if m, ok := e.(map[string]any); ok {
				if s, ok := m["Service"].(map[string]any); ok && fn(name, i, m, fmt.Sprint(s["ID"])) {
					return
				}
			}
		}
	}
}

func (c *Consul) remove(id string) {
	c.each(func(name string, at int, _ map[string]any, is string) bool {
		if is == id {
			c.services[name] = slices.Delete(c.services[name], at, at+1)
		}
		return is == id
	})
	delete(c.until, id)
}

func (c *Consul) pass(id string) (known bool) {
	c.each(func(_ string, _ int, m map[string]any, is string) bool {
		if ttl, ok := m["ttl"].(time.Duration); ok && is == id {
			known = true
			c.until[id] = time.Now().Add(ttl)
			m["Checks"].([]any)[0].(map[string]any)["Status"] = "passing"
		}
		return is == id
	})
	return known
}

// expire lets checks fail whose time is over, and returns when the next one does.
func (c *Consul) expire() time.Duration {
	next := time.Hour
	for id, until := range c.until {
		left := time.Until(until)
		if left > 0 {
			next = min(next, left)
			continue
		}
		delete(c.until, id)
		c.each(func(_ string, _ int, m map[string]any, is string) bool {
			if is == id {
				check := m["Checks"].([]any)[0].(map[string]any)
				check["Status"], check["Output"] = "critical", "TTL expired"
			}
			return is == id
		})
		c.wake()
	}
	return next
}
