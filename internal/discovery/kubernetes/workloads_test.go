package kubernetes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// expectCounts waits until the source says this of how many there should be.
func expectCounts(t *testing.T, s discovery.Expecter, want string) {
	t.Helper()
	got := "(nothing)"
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if got = counts(s); got == want {
			return
		}
	}
	t.Fatalf("there should be\n%s\nwant\n%s", got, want)
}

func counts(s discovery.Expecter) string {
	want, unknown := s.Expected()
	var lines []string
	for k, e := range want {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %d, %d may be away, says %s", k, e.Count, e.Away, e.Says)))
	}
	slices.Sort(lines)
	if unknown != "" {
		lines = append(lines, "unknown: "+unknown)
	}
	return strings.Join(lines, "\n")
}

const (
	userDeployment = `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"user","namespace":"games"},"spec":{"replicas":3,"template":{"metadata":{"labels":{"app":"user"}},"spec":{"containers":[{"name":"user","ports":[{"name":"pprof","containerPort":6060}]}]}}}}`
	cacheSet       = `{"kind":"StatefulSet","apiVersion":"apps/v1","metadata":{"name":"user","namespace":"games"},"spec":{"replicas":2,"template":{"metadata":{"labels":{"app":"cache"}},"spec":{"containers":[{"name":"x","ports":[{"name":"pprof","containerPort":6060}]}]}}}}`
	canary         = `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"user-canary","namespace":"games"},"spec":{"template":{"metadata":{"labels":{"app":"user"}},"spec":{"containers":[{"name":"user","ports":[{"name":"pprof","containerPort":6060}]}]}}}}`
	postgres       = `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"pg","namespace":"games"},"spec":{"replicas":9,"template":{"metadata":{"labels":{"app":"pg"}},"spec":{"containers":[{"name":"pg","ports":[{"name":"pg","containerPort":5432}]}]}}}}`
	behindService  = `{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv4","metadata":{"name":"user-x","namespace":"games","labels":{"kubernetes.io/service-name":"user-service"}},
 "ports":[{"name":"pprof","port":6060}],"endpoints":[{"addresses":["10.0.0.1"],"targetRef":{"kind":"Pod","name":"user-5d8f79c6bb-x2x4z","namespace":"games"}},{"addresses":["10.0.0.2"],"targetRef":{"kind":"Pod","name":"user-canary-7c9d-bcd45","namespace":"games"}}]}`
	behindCache = `{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv4","metadata":{"name":"cache-x","namespace":"games","labels":{"kubernetes.io/service-name":"cache"}},
 "ports":[{"name":"pprof","port":6060}],"endpoints":[{"addresses":["10.0.0.3"],"targetRef":{"kind":"Pod","name":"user-0","namespace":"games"}}]}`
	forgottenService = `{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv4","metadata":{"name":"user-x","namespace":"games","labels":{"kubernetes.io/service-name":"user-service"}},"ports":[{"name":"pprof","port":6060}],"endpoints":[]}`
)

// What runs behind a Service is known by the names of its pods, and remembered when
// none is left.
func TestHowManyBehindAService(t *testing.T) {
	a := newAPIServer(t)
	a.set(objects(t, userDeployment, cacheSet, canary, postgres, behindService, behindCache))
	src, _ := run(t, Config{Kubeconfig: a.kubeconfig(t)})
	both := "default/user-service 4, 0 may be away, says Kubernetes deployment games/user, Kubernetes deployment games/user-canary"
	cache := "default/cache 2, 0 may be away, says Kubernetes statefulset games/user\n"
	settled := func(text string) string {
		var o map[string]any
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		o["status"] = map[string]any{"updatedReplicas": 9, "replicas": 9}
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	a.set(objects(t, settled(userDeployment), settled(cacheSet), settled(canary), postgres, behindService, behindCache))
	expectCounts(t, src, cache+both)
	a.set(objects(t, settled(userDeployment), settled(cacheSet), settled(canary), postgres, forgottenService, behindCache))
	expectCounts(t, src, cache+both)
	gone := objects(t, settled(userDeployment), settled(cacheSet), settled(canary), postgres, forgottenService, behindCache)
	delete(gone, "2")
	a.set(gone)
	expectCounts(t, src, cache+"default/user-service 3, 0 may be away, says Kubernetes deployment games/user")
}

// What pods of a template would be called is known without any.
func TestHowManyPods(t *testing.T) {
	a := newAPIServer(t)
	a.set(objects(t, strings.Replace(userDeployment, `"replicas":3`, `"replicas":0`, 1), cacheSet, postgres))
	src, _ := run(t, Config{Role: "pod", Kubeconfig: a.kubeconfig(t), Namespaces: []string{"games"}})
	expectCounts(t, src, "default/cache 2, 0 may be away, says Kubernetes statefulset games/user\ndefault/user 0, 0 may be away, says Kubernetes deployment games/user")
	chosen, _ := run(t, Config{Role: "pod", Kubeconfig: a.kubeconfig(t), Selector: "app=pg"})
	expectCounts(t, chosen, "default/pg 9, 2 may be away, says Kubernetes deployment games/pg")
	alone, lists := run(t, Config{Role: "pod", Kubeconfig: a.kubeconfig(t), NoExpect: true})
	<-lists
	if got := counts(alone); got != "" {
		t.Errorf("asked not to, it says %s", got)
	}
}

// Who may read one of the two says what the other asks for, and that it is not all.
func TestStatefulSetsThatMayNotBeRead(t *testing.T) {
	a := newAPIServer(t)
	a.forbid = "statefulsets"
	a.set(objects(t, userDeployment, cacheSet))
	src, _ := run(t, Config{Role: "pod", Kubeconfig: a.kubeconfig(t), Namespaces: []string{"games"}})
	expectCounts(t, src, `default/user 3, 0 may be away, says Kubernetes deployment games/user
unknown: the API server refuses to list and watch statefulsets in namespace games: how many there should be is not known; give the centre's service account a role that may, or set no_expect`)
	a.mu.Lock()
	a.forbid = "deployments" // the role was changed: what was known may not be so any more
	a.compact()
	a.wake()
	a.mu.Unlock()
	key := ops.ServiceKey{Project: "default", Service: "user"}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		want, _ := src.Expected()
		if e := want[key]; e.Count == 3 && !e.StaleSince.IsZero() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("there should be %v", want)
		}
	}
}

// While something is rolled out, fewer than asked for are no shortage.
func TestARollout(t *testing.T) {
	for _, c := range []struct{ name, kind, object, want string }{
		{"settled", "Deployment", `{"metadata":{"generation":2},"spec":{"replicas":4},"status":{"observedGeneration":2,"replicas":4,"updatedReplicas":4}}`, "4, 0 away"},
		{"unsaid is one", "Deployment", `{"status":{"replicas":1,"updatedReplicas":1}}`, "1, 0 away"},
		{"negative is none", "Deployment", `{"spec":{"replicas":-4}}`, "0, 0 away"},
		{"not seen by the controller yet", "Deployment", `{"metadata":{"generation":3},"spec":{"replicas":4},"status":{"observedGeneration":2,"replicas":4,"updatedReplicas":4}}`, "4, 1 away"},
		{"the new are few", "Deployment", `{"spec":{"replicas":10},"status":{"replicas":12,"updatedReplicas":3}}`, "10, 2 away"},
		{"the old are still there", "Deployment", `{"spec":{"replicas":4},"status":{"replicas":5,"updatedReplicas":4}}`, "4, 1 away"},
		{"half of all", "Deployment", `{"spec":{"replicas":4,"strategy":{"rollingUpdate":{"maxUnavailable":"50%"}}},"status":{"replicas":4,"updatedReplicas":1}}`, "4, 2 away"},
		{"only more, never fewer", "Deployment", `{"spec":{"replicas":4,"strategy":{"rollingUpdate":{"maxUnavailable":0,"maxSurge":1}}},"status":{"replicas":5,"updatedReplicas":1}}`, "4, 0 away"},
		{"no room for either", "Deployment", `{"spec":{"replicas":4,"strategy":{"rollingUpdate":{"maxUnavailable":0,"maxSurge":0}}},"status":{"replicas":4,"updatedReplicas":1}}`, "4, 1 away"},
		{"unreadable", "Deployment", `{"spec":{"replicas":4,"strategy":{"rollingUpdate":{"maxUnavailable":"half"}}},"status":{"replicas":4,"updatedReplicas":1}}`, "4, 0 away"},
		{"all at once", "Deployment", `{"spec":{"replicas":4,"strategy":{"type":"Recreate"}},"status":{"replicas":4,"updatedReplicas":0}}`, "4, 4 away"},
		{"stuck", "Deployment", `{"spec":{"replicas":10},"status":{"replicas":12,"updatedReplicas":3,"conditions":[{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded"}]}}`, "10, 0 away"},
		{"a settled set", "StatefulSet", `{"spec":{"replicas":3},"status":{"currentRevision":"a","updateRevision":"a","updatedReplicas":0}}`, "3, 0 away"},
		{"one after the other", "StatefulSet", `{"spec":{"replicas":3},"status":{"currentRevision":"a","updateRevision":"b","updatedReplicas":1}}`, "3, 1 away"},
		{"up to a partition", "StatefulSet", `{"spec":{"replicas":3,"updateStrategy":{"rollingUpdate":{"partition":2}}},"status":{"currentRevision":"a","updateRevision":"b","updatedReplicas":1}}`, "3, 0 away"},
		{"some at once", "StatefulSet", `{"spec":{"replicas":8,"updateStrategy":{"rollingUpdate":{"maxUnavailable":"25%"}}},"status":{"currentRevision":"a","updateRevision":"b"}}`, "8, 2 away"},
		{"when somebody deletes them", "StatefulSet", `{"spec":{"replicas":3,"updateStrategy":{"type":"OnDelete"}},"status":{"currentRevision":"a","updateRevision":"b"}}`, "3, 0 away"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o any = &appsv1.Deployment{}
			if c.kind == "StatefulSet" {
				o = &appsv1.StatefulSet{}
			}
			if err := json.Unmarshal([]byte(c.object), o); err != nil {
				t.Fatal(err)
			}
			w := read(o)
			if got := fmt.Sprintf("%d, %d away", w.replicas, w.away); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestWhoMadeAPod(t *testing.T) {
	for pod, want := range map[string]string{
		"games/user-5d8f79c6bb-x2x4z":        "deployment games/user",
		"games/user-canary-5d8f79c6bb-x2x4z": "deployment games/user-canary",
		"games/cache-0":                      "statefulset games/cache",
		"games/db-2-10":                      "statefulset games/db-2",
		"games/a-2-44444":                    "deployment games/a, statefulset games/a-2",
		"games/user":                         "",
		"games/user-5d8f79c6bb-aeiou":        "", // no controller makes such a name
		"":                                   "",
	} {
		if got := strings.Join(makersOf(pod), ", "); got != want {
			t.Errorf("%q is of %q, want %q", pod, got, want)
		}
	}
}
