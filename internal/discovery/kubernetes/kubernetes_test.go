package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slicesOf are the targets as a controller would write them, at most 100 a slice.
func slicesOf(t *testing.T, targets []ops.Target) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	n := 0
	for part := range slices.Chunk(targets, 100) {
		var endpoints []any
		for i, tg := range part {
			u, err := url.Parse(tg.URL)
			if err != nil {
				t.Fatal(err)
			}
			endpoints = append(endpoints, map[string]any{"addresses": []string{u.Hostname()}, "zone": tg.Labels["zone"], "conditions": map[string]any{"ready": i%2 == 0}})
		}
		name := fmt.Sprintf("slice-%d", n)
		n++
		out[name] = map[string]any{
			"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
			"metadata": map[string]any{"name": name, "namespace": "games", "labels": map[string]any{
				"kubernetes.io/service-name": string(part[0].Service), "opscenter.io/project": string(part[0].Project),
			}},
			"ports":     []any{map[string]any{"name": "grpc", "port": 9000}, map[string]any{"name": "pprof", "port": 6060}},
			"endpoints": endpoints,
		}
	}
	return out
}

// deploymentOf asks for n pods of the suite's service.
func deploymentOf(n int) map[string]any {
	app := map[string]any{"app": "user"}
	return map[string]any{
		"kind": "Deployment", "apiVersion": "apps/v1", "metadata": map[string]any{"name": "user", "namespace": "games"},
		"spec": map[string]any{"replicas": n, "selector": map[string]any{"matchLabels": app}, "template": map[string]any{
			"metadata": map[string]any{"labels": app, "annotations": map[string]any{"opscenter.io/project": "color-game", "opscenter.io/service": "user-service"}},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "user", "image": "user"}}},
		}},
	}
}

// bare is a source without the label that the suite's targets have not.
type bare struct{ *Source }

func (b bare) Run(ctx context.Context, update func([]ops.Target)) error {
	return b.Source.Run(ctx, func(list []ops.Target) {
		for i := range list {
			delete(list[i].Labels, "namespace")
		}
		update(list)
	})
}

func TestSource(t *testing.T) {
	opstest.TestSource(t, func(t *testing.T, initial []ops.Target) opstest.SourceBackend {
		a := newAPIServer(t)
		held := slicesOf(t, initial)
		set := func(t *testing.T, targets []ops.Target) { held = slicesOf(t, targets); a.set(held) }
		set(t, initial)
		s, err := New(Config{Kubeconfig: a.kubeconfig(t)})
		if err != nil {
			t.Fatal(err)
		}
		return opstest.SourceBackend{
			Source: bare{s.(*Source)}, Set: set,
			Break: func(*testing.T) { a.breakIt() },
			Stop:  func(t *testing.T) { a.Kill(t) }, Start: a.start,
			Refuse: func(*testing.T) string {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.refuse = 403
				return "the API server refuses to list and watch endpointslices in all namespaces: give the centre's service account a role that may"
			},
			Want: func(_ *testing.T, n int) {
				all := maps.Clone(held)
				all["user"] = deploymentOf(n)
				a.set(all)
			},
			Conceal: func(*testing.T) string {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.forbid = "deployments"
				return "the API server refuses to list and watch deployments in all namespaces: how many there should be is not known; give the centre's service account a role that may, or set no_expect"
			},
		}
	})
}

func run(t *testing.T, cfg Config) (*Source, chan string) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lists, ended := make(chan string, 100), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func(l []ops.Target) { lists <- text(l) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s.(*Source), lists
}

func text(l []ops.Target) string {
	var lines []string
	for _, tg := range l {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s/%s %s pod=%s %v %s", tg.Project, tg.Service, tg.URL, tg.Pod, tg.Labels, tg.Complaint)))
	}
	return strings.Join(lines, "\n")
}

func expect(t *testing.T, lists chan string, want string) {
	t.Helper()
	last := "(nothing)"
	for deadline := time.After(time.Minute); ; {
		select {
		case last = <-lists:
			if last == want {
				return
			}
		case <-deadline:
			t.Fatalf("the list is\n%s\nwant\n%s", last, want)
		}
	}
}

// objects reads JSON, one object a line.
func objects(t *testing.T, lines ...string) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for i, l := range lines {
		var o map[string]any
		if err := json.Unmarshal([]byte(l), &o); err != nil {
			t.Fatal(err)
		}
		out[strconv.Itoa(i)] = o
	}
	return out
}

const (
	sliceOfPods = `{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv4","metadata":{"name":"user-x","namespace":"games","labels":{"kubernetes.io/service-name":"user-service"}},
 "ports":[{"name":"ops-agent","port":7070}],"endpoints":[
 {"addresses":["10.0.0.1"],"nodeName":"node-a","conditions":{"ready":true},"targetRef":{"kind":"Pod","name":"user-1","namespace":"games"}},
 {"addresses":["10.0.0.2"],"conditions":{"ready":false,"terminating":true},"targetRef":{"kind":"Pod","name":"user-2","namespace":"games"}}]}`
	sameInIPv6 = `{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv6","metadata":{"name":"user-y","namespace":"games","labels":{"kubernetes.io/service-name":"user-service"}},
 "ports":[{"name":"ops-agent","port":7070}],"endpoints":[{"addresses":["fd00::1"],"targetRef":{"kind":"Pod","name":"user-1","namespace":"games"}}]}`
	foreign = `{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv4","metadata":{"name":"db","namespace":"games","labels":{"kubernetes.io/service-name":"postgres"}},
 "ports":[{"name":"pg","port":5432}],"endpoints":[{"addresses":["10.0.0.9"]}]}`
	annotated = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"game-5d-abc","namespace":"games","annotations":{"opscenter.io/pprof-port":"6061","opscenter.io/pprof-path":"/ops/pprof","opscenter.io/project":"color-game","opscenter.io/service":"game-service"}},
 "spec":{"nodeName":"node-a","containers":[{"name":"game"}]},"status":{"phase":"Running","podIP":"10.0.0.3","conditions":[{"type":"Ready","status":"True"}]}}`
	crashing = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"pay-7f-xyz","namespace":"games","labels":{"pod-template-hash":"7f","opscenter.io/project":"color-game"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"pay-7f","uid":"1","controller":true}]},
 "spec":{"containers":[{"name":"pay","ports":[{"name":"pprof","containerPort":6060}]}]},"status":{"phase":"Running","podIP":"10.0.0.4","containerStatuses":[{"name":"pay","state":{"waiting":{"reason":"CrashLoopBackOff","message":"back-off 40s"}}}]}}`
	pending   = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"lobby-1","namespace":"games","labels":{"app":"lobby","opscenter.io/scheme":"http"}},"spec":{"containers":[]},"status":{"phase":"Pending","conditions":[{"type":"Ready","status":"False","reason":"ContainersNotReady"}]}}`
	completed = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"job-1","namespace":"games","labels":{"app":"job","opscenter.io/project":"color-game"}},"spec":{"containers":[]},"status":{"phase":"Succeeded"}}`
	stranger  = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"pg-0","namespace":"games","labels":{"app":"pg"}},"spec":{"containers":[]},"status":{"phase":"Running","podIP":"10.0.0.9"}}`
)

func TestEndpointSlices(t *testing.T) {
	a := newAPIServer(t)
	a.set(objects(t, sliceOfPods, sameInIPv6, foreign))
	_, lists := run(t, Config{Kubeconfig: a.kubeconfig(t), Namespaces: []string{"games"}})
	expect(t, lists, `default/user-service grpc://10.0.0.1:7070 pod=games/user-1 map[namespace:games node:node-a pod:user-1]
default/user-service grpc://10.0.0.2:7070 pod=games/user-2 map[namespace:games pod:user-2] terminating`)
}

func TestPodsThatAgentsDialFrom(t *testing.T) {
	a := newAPIServer(t)
	a.set(objects(t, foreign))
	_, lists := run(t, Config{Kubeconfig: a.kubeconfig(t), Selector: "game=color", Naming: discovery.Naming{Port: 6060}})
	expect(t, lists, "default/postgres http://10.0.0.9:6060/debug/pprof pod= map[namespace:games]")
}

func TestPods(t *testing.T) {
	a := newAPIServer(t)
	a.set(objects(t, annotated, crashing, pending, completed, stranger))
	_, lists := run(t, Config{Role: "pod", Kubeconfig: a.kubeconfig(t)})
	expect(t, lists, `color-game/game-service http://10.0.0.3:6061/ops/pprof pod=games/game-5d-abc map[namespace:games node:node-a pod:game-5d-abc]
default/lobby  pod=games/lobby-1 map[namespace:games pod:lobby-1] not ready: ContainersNotReady
color-game/pay http://10.0.0.4:6060/debug/pprof pod=games/pay-7f-xyz map[namespace:games pod:pay-7f-xyz] CrashLoopBackOff: back-off 40s`)
}

func TestARelistAfter410(t *testing.T) {
	a := newAPIServer(t)
	a.set(objects(t, sliceOfPods))
	s, lists := run(t, Config{Kubeconfig: a.kubeconfig(t)})
	<-lists
	a.mu.Lock()
	a.compact() // what happens next is in no watch's past
	a.objects = objects(t, sameInIPv6)
	a.wake()
	a.mu.Unlock()
	expect(t, lists, "default/user-service grpc://[fd00::1]:7070 pod=games/user-1 map[namespace:games pod:user-1]")
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone == 0 || a.lists < 2 || s.Problem() != "" {
		t.Errorf("gone %d, lists %d, problem %q", a.gone, a.lists, s.Problem())
	}
}

func TestWhoIsNotKnown(t *testing.T) {
	a := newAPIServer(t)
	a.refuse = 401
	s, _ := run(t, Config{Kubeconfig: a.kubeconfig(t)})
	want := "the API server does not know who asks: check the service account or the kubeconfig's credentials"
	for deadline := time.Now().Add(time.Minute); s.Problem() != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("problem %q", s.Problem())
		}
	}
}

func TestNew(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, ""},
		{Config{Role: "node"}, `role: "node" is none: use endpointslice or pod`},
		{Config{Selector: "a=("}, `selector: "a=(" cannot be read: write one such as app=user-service`},
		{Config{Namespaces: []string{""}}, "namespaces: a name is empty: leave the list out for all"},
		{Config{Context: "x"}, "context: it needs a kubeconfig"},
		{Config{Naming: discovery.Naming{Path: "x"}}, `path: "x": begin it with a slash`},
	} {
		_, err := New(c.cfg)
		if (err == nil) != (c.want == "") || err != nil && (err.Error() != c.want || ops.KindOf(err) != ops.Invalid) {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
	s, _ := New(Config{Role: "pod", Namespaces: []string{"games"}, Selector: "a=b"})
	if s.Name() != "kubernetes pod games a=b" {
		t.Error(s.Name())
	}
}

func TestOutsideOfACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	s, _ := New(Config{})
	err := s.Run(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "the centre does not run inside a Kubernetes cluster") || !strings.HasSuffix(err.Error(), ": name a kubeconfig") {
		t.Error(err)
	}
}
