package kubernetes

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
)

var record = flag.Bool("record", false, "record what the API server of OPS_BACKENDS says into testdata anew")

// played is a source of what an API server says, or once said.
type played struct {
	*testing.T
	tape  *discoverytest.Tape
	real  *discoverytest.RealKube // nil = its tape is played
	s     *Source
	lists chan string
}

// scenes is a test that is played with the tape of its name and, where OPS_BACKENDS
// has one, with a real API server too, which -record writes the tape from.
type scenes struct {
	cfg      Config
	token    string   // empty = the admin's
	server   []string // flags of the API server
	watchFor int
	play     func(p *played)
}

func (c scenes) run(t *testing.T) {
	file := filepath.Join("testdata", filepath.Base(t.Name())+".json")
	begin := func(t *testing.T, tape *discoverytest.Tape, server *discoverytest.RealKube) {
		cfg := c.cfg
		cfg.NoExpect = true // workloads are watched beside, in an order of their own
		cfg.Kubeconfig = kubeconfig(t, tape.Address)
		p := &played{T: t, tape: tape, real: server}
		p.s, p.lists = run(t, cfg)
		c.play(p)
	}
	if os.Getenv("OPS_BACKENDS") != "" {
		t.Run("real", func(t *testing.T) {
			k := discoverytest.StartRealKube(t, c.server...)
			k.Namespace(t, "games")
			o, to := k.Original(), ""
			o.Bearer = cmp.Or(c.token, discoverytest.KubeAdmin)
			if o.WatchFor = c.watchFor; *record {
				to = file
			}
			begin(t, discoverytest.RecordTape(t, to, o), k)
		})
	}
	t.Run("recorded", func(t *testing.T) {
		tape := discoverytest.PlayTape(t, file)
		tape.BuiltFrom(t, "../../../scripts/backends.sh", "kubernetes")
		begin(t, tape, nil)
	})
}

// kubeconfig leads to a tape.
func kubeconfig(t *testing.T, address string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: test,
clusters: [{name: test, cluster: {server: "http://%s"}}],
contexts: [{name: test, context: {cluster: test}}]}`, address)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (p *played) problem(want string) {
	p.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(p.s.Problem(), want) || want == "" && p.s.Problem() != ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("problem %q, want one with %q", p.s.Problem(), want)
		}
	}
}

func (p *played) post(path, object string) {
	p.real.Call(p, http.MethodPost, path, objects(p.T, object)["0"])
}
func (p *played) put(path, object string) {
	p.real.Call(p, http.MethodPut, path, objects(p.T, object)["0"])
}
func (p *played) remove(path string) { p.real.Call(p, http.MethodDelete, path, nil) }

// slice is one as its controller writes it; states are of its endpoints' conditions.
func slice(states ...string) string {
	var endpoints []string
	for i, state := range states {
		endpoints = append(endpoints, fmt.Sprintf(`{"addresses":["10.1.0.%d"],"nodeName":"node-a","zone":"a","conditions":{%s},"targetRef":{"kind":"Pod","name":"user-%d","namespace":"games"}}`, i+1, state, i+1))
	}
	return `{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv4","metadata":{"name":"user-x","labels":{"kubernetes.io/service-name":"user-service"}},
 "ports":[{"name":"ops-agent","port":7070}],"endpoints":[` + strings.Join(endpoints, ",") + `]}`
}

const (
	ready   = `"ready":true,"serving":true,"terminating":false`
	unready = `"ready":false,"serving":false,"terminating":false`
	leaving = `"ready":false,"serving":true,"terminating":true`
	first   = "default/user-service grpc://10.1.0.1:7070 pod=games/user-1 map[namespace:games node:node-a pod:user-1 zone:a]"
	second  = "default/user-service grpc://10.1.0.2:7070 pod=games/user-2 map[namespace:games node:node-a pod:user-2 zone:a]"
)

// life is that of a service's slice, and of the API server in between.
func life(p *played) {
	expect(p.T, p.lists, "")
	p.tape.Scene(func() { p.post(slicesPath, slice(ready, unready)) })
	expect(p.T, p.lists, first+"\n"+second+" not ready")
	p.tape.Scene(func() { p.put(slicesPath+"/user-x", slice(leaving, ready)) })
	expect(p.T, p.lists, first+" terminating\n"+second)
	p.tape.Down(func() { p.real.Kill(p) })
	p.problem("no answer from the API server")
	p.tape.Up(func() { p.real.Start(p) })
	p.problem("")
	p.tape.Scene(func() { p.put(slicesPath+"/user-x", slice(ready)) })
	expect(p.T, p.lists, first)
	p.tape.Scene(func() { p.remove(slicesPath + "/user-x") })
	expect(p.T, p.lists, "")
}

// What an API server said to the source, and what the source made of it.
func TestRecorded(t *testing.T) {
	games := []string{"games"}
	t.Run("streamed", scenes{cfg: Config{Namespaces: games}, play: life}.run)
	// As servers do that have no lists as a stream. Its watches end in between, each
	// after a bookmark, from which the next one goes on; of the last one the server
	// has forgotten what was before when it is back, and the list is asked for anew.
	t.Run("listed", scenes{cfg: Config{Namespaces: games}, server: []string{"--feature-gates=WatchList=false"}, watchFor: 5, play: func(p *played) {
		expect(p.T, p.lists, "")
		p.tape.Scene(func() { p.post(slicesPath, slice(ready, unready)) })
		expect(p.T, p.lists, first+"\n"+second+" not ready")
		p.tape.Scene(func() { time.Sleep(7 * time.Second) })
		p.tape.Down(func() { p.real.Kill(p); p.real.Elsewhere(p) })
		p.problem("no answer from the API server")
		p.tape.Up(func() { p.real.Start(p); p.put(slicesPath+"/user-x", slice(leaving, ready)) })
		expect(p.T, p.lists, first+" terminating\n"+second)
		p.problem("")
		p.tape.Scene(func() { p.remove(slicesPath + "/user-x") })
		expect(p.T, p.lists, "")
		if !p.tape.Said(`"type":"BOOKMARK"`) || !p.tape.Said(`"code":410`) {
			p.Error("there was no bookmark, or no 410: record it anew")
		}
	}}.run)
	const podsPath = "/api/v1/namespaces/games/pods"
	t.Run("pods", scenes{cfg: Config{Role: "pod", Namespaces: games}, play: func(p *played) {
		expect(p.T, p.lists, "")
		status := func(text string) string {
			return `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"pay-1","namespace":"games","annotations":{"opscenter.io/project":"color-game"},"labels":{"app":"pay"}},
 "spec":{"containers":[{"name":"pay","image":"pay","ports":[{"name":"pprof","containerPort":6060}]}]},"status":` + text + `}`
		}
		p.tape.Scene(func() { p.post(podsPath, status(`{}`)) })
		expect(p.T, p.lists, "color-game/pay  pod=games/pay-1 map[namespace:games pod:pay-1]")
		p.tape.Scene(func() {
			p.put(podsPath+"/pay-1/status", status(`{"phase":"Running","podIP":"10.1.0.4","podIPs":[{"ip":"10.1.0.4"}],"conditions":[{"type":"Ready","status":"True"}]}`))
		})
		expect(p.T, p.lists, "color-game/pay http://10.1.0.4:6060/debug/pprof pod=games/pay-1 map[namespace:games pod:pay-1]")
		p.tape.Scene(func() {
			p.put(podsPath+"/pay-1/status", status(`{"phase":"Running","podIP":"10.1.0.4","podIPs":[{"ip":"10.1.0.4"}],"containerStatuses":[{"name":"pay","image":"pay","imageID":"","ready":false,"restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff","message":"back-off 40s"}}}]}`))
		})
		expect(p.T, p.lists, "color-game/pay http://10.1.0.4:6060/debug/pprof pod=games/pay-1 map[namespace:games pod:pay-1] CrashLoopBackOff: back-off 40s")
		p.tape.Scene(func() { p.remove(podsPath + "/pay-1?gracePeriodSeconds=0") })
		expect(p.T, p.lists, "")
	}}.run)
}

// Who may not, and whom nobody knows; and what is granted counts without a restart.
func TestRecordedRefusals(t *testing.T) {
	const forbidden = "the API server refuses to list and watch endpointslices in all namespaces: give the centre's service account a role that may"
	t.Run("forbidden", scenes{token: discoverytest.KubeStranger, play: func(p *played) {
		p.problem(forbidden)
		p.tape.Scene(func() {
			p.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"reads"},"rules":[{"apiGroups":["discovery.k8s.io"],"resources":["endpointslices"],"verbs":["get","list","watch"]}]}`)
			p.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", `{"kind":"ClusterRoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"reads"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"reads"},"subjects":[{"kind":"User","name":"stranger"}]}`)
			p.post(slicesPath, slice(ready))
		})
		expect(p.T, p.lists, first)
		p.problem("")
	}}.run)
	t.Run("unknown", scenes{token: "nobodys-token", play: func(p *played) {
		p.problem("the API server does not know who asks: check the service account or the kubeconfig's credentials")
		select {
		case l := <-p.lists:
			p.Errorf("a list is told: %q", l)
		default:
		}
	}}.run)
}
