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

// Nacos answers as the documents of Nacos' open API (v1) say: a login, lists of
// services and instances, registration and heartbeats. It is no Nacos, and no
// other was at hand to compare it with.
type Nacos struct {
	*Server

	mu        sync.Mutex // guards all below
	instances map[string][]NacosInstance
	garbage   bool
	user      string // wanted; "" = anybody
	password  string
	token     string
	logins    int
	urls      []string
}

// NacosInstance is one as its list shows it.
type NacosInstance struct {
	ID       string            `json:"instanceId"`
	IP       string            `json:"ip"`
	Port     int               `json:"port"`
	Weight   float64           `json:"weight"`
	Healthy  bool              `json:"healthy"`
	Enabled  bool              `json:"enabled"`
	Cluster  string            `json:"clusterName"`
	Service  string            `json:"serviceName"`
	Metadata map[string]string `json:"metadata"`

	until time.Time // of a heartbeat; zero = for ever
}

// StartNacos starts one that is empty.
func StartNacos(t testing.TB) *Nacos {
	t.Helper()
	n := &Nacos{instances: map[string][]NacosInstance{}}
	n.Server = StartServer(t, http.HandlerFunc(n.serve))
	return n
}

// Set makes it hold these targets and no other.
func (n *Nacos) Set(t testing.TB, targets []ops.Target) {
	t.Helper()
	all := map[string][]NacosInstance{}
	for _, tg := range targets {
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
		all[name] = append(all[name], NacosInstance{IP: u.Hostname(), Port: port, Weight: 1, Healthy: true, Enabled: true, Cluster: "DEFAULT", Service: "DEFAULT_GROUP@@" + name, Metadata: meta})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.instances, n.garbage = all, false
}

// SetInstances makes a service have these.
func (n *Nacos) SetInstances(service string, instances ...NacosInstance) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.instances[service] = instances
}

// Instances are those of a service.
func (n *Nacos) Instances(service string) []NacosInstance {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.expire()
	return slices.Clone(n.instances[service])
}

// Break makes its lists unreadable until the next Set.
func (n *Nacos) Break() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.garbage = true
}

// Guard makes it ask for this user, and ends all tokens.
func (n *Nacos) Guard(user, password string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.logins++
	n.user, n.password, n.token = user, password, fmt.Sprintf("token-%d", n.logins)
}

// Forget loses all instances, as a restart of all servers does.
func (n *Nacos) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.instances)
}

// URLs are those that were asked for, as an access log has them.
func (n *Nacos) URLs() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.urls)
}

func (n *Nacos) serve(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	if r.Method == http.MethodDelete || r.Method == http.MethodPut { // parameters are in the query
		r.Form = r.URL.Query()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.urls = append(n.urls, r.URL.String())
	n.expire()
	path, ours := strings.CutPrefix(r.URL.Path, "/nacos/v1")
	answer := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	switch {
	case !ours:
		http.NotFound(w, r)
		return
	case path == "/auth/login":
		if r.Method != http.MethodPost || r.PostForm.Get("username") != n.user || r.PostForm.Get("password") != n.password {
			http.Error(w, "unknown user!", http.StatusForbidden)
			return
		}
		answer(map[string]any{"accessToken": n.token, "tokenTtl": 18000, "globalAdmin": false})
		return
	case n.user != "" && r.Header.Get("Authorization") != "Bearer "+n.token:
		w.WriteHeader(http.StatusForbidden)
		answer(map[string]any{"status": 403, "error": "Forbidden", "message": "user not found!", "path": r.URL.Path})
		return
	case n.garbage:
		fmt.Fprint(w, `{"count": 1, "doms": [`)
		return
	}
	switch r.Method + " " + path {
	case "GET /ns/service/list":
		page, _ := strconv.Atoi(r.Form.Get("pageNo"))
		size, _ := strconv.Atoi(r.Form.Get("pageSize"))
		names := []string{}
		for name := range n.instances {
			names = append(names, name)
		}
		slices.Sort(names)
		from := min((page-1)*size, len(names))
		answer(map[string]any{"count": len(names), "doms": names[from:min(from+size, len(names))]})
	case "GET /ns/instance/list":
		hosts := n.instances[r.Form.Get("serviceName")]
		if hosts == nil {
			hosts = []NacosInstance{}
		}
		answer(map[string]any{"name": r.Form.Get("groupName") + "@@" + r.Form.Get("serviceName"), "cacheMillis": 10000, "hosts": hosts, "valid": true})
	case "POST /ns/instance":
		n.register(w, r)
	case "PUT /ns/instance/beat":
		n.beat(w, r)
	case "DELETE /ns/instance":
		at := n.find(r)
		service := r.Form.Get("serviceName")
		if at >= 0 {
			n.instances[service] = slices.Delete(n.instances[service], at, at+1)
		}
		fmt.Fprint(w, "ok")
	default:
		http.NotFound(w, r)
	}
}

// find is the index of the instance that a request is about; the caller holds n.mu.
func (n *Nacos) find(r *http.Request) int {
	port, _ := strconv.Atoi(r.Form.Get("port"))
	return slices.IndexFunc(n.instances[r.Form.Get("serviceName")], func(i NacosInstance) bool { return i.IP == r.Form.Get("ip") && i.Port == port })
}

func (n *Nacos) register(w http.ResponseWriter, r *http.Request) {
	in := NacosInstance{IP: r.Form.Get("ip"), Weight: 1, Healthy: true, Enabled: true, Cluster: "DEFAULT", Service: r.Form.Get("groupName") + "@@" + r.Form.Get("serviceName")}
	var err error
	if in.Port, err = strconv.Atoi(r.Form.Get("port")); err != nil || in.IP == "" || r.Form.Get("serviceName") == "" {
		http.Error(w, "caused: Param 'port' or 'ip' is required.", http.StatusBadRequest)
		return
	}
	if err := json.Unmarshal([]byte(r.Form.Get("metadata")), &in.Metadata); err != nil {
		http.Error(w, "caused: metadata: "+err.Error(), http.StatusBadRequest)
		return
	}
	in.until = time.Now().Add(kept(in))
	service := r.Form.Get("serviceName")
	if at := n.find(r); at >= 0 {
		n.instances[service][at] = in
	} else {
		n.instances[service] = append(n.instances[service], in)
	}
	fmt.Fprint(w, "ok")
}

func (n *Nacos) beat(w http.ResponseWriter, r *http.Request) {
	at := n.find(r)
	code := 20404
	if at >= 0 {
		code = 10200
		in := &n.instances[r.Form.Get("serviceName")][at]
		in.until = time.Now().Add(kept(*in))
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"clientBeatInterval": 5000, "code": code, "lightBeatEnabled": true})
}

// kept is how long an instance stays without a heartbeat.
func kept(in NacosInstance) time.Duration {
	if ms, err := strconv.Atoi(in.Metadata["preserved.ip.delete.timeout"]); err == nil {
		return time.Duration(ms) * time.Millisecond
	}
	return 30 * time.Second
}

// expire removes instances that have sent nothing for too long; the caller holds n.mu.
func (n *Nacos) expire() {
	for name, all := range n.instances {
		n.instances[name] = slices.DeleteFunc(all, func(i NacosInstance) bool { return !i.until.IsZero() && time.Now().After(i.until) })
	}
}
