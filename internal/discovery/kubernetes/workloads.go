package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// How many pods there should be is what Deployments and StatefulSets ask for. They
// are listed and watched besides, where the API server lets the centre.

// resources are what says how many pods there should be.
var resources = []struct {
	name   string
	object runtime.Object
}{
	{"deployments", &appsv1.Deployment{}},
	{"statefulsets", &appsv1.StatefulSet{}},
}

// workload is a Deployment or StatefulSet as far as it is read.
type workload struct {
	kind     string // as people write it: "deployment"
	meta     metav1.ObjectMeta
	template corev1.PodTemplateSpec
	replicas int
	// away is how many pods may be missing for now; 0 = nothing is rolled out.
	away  int
	stale time.Time // since when it is not followed; zero = it is
}

// id is unique in a cluster.
func (w *workload) id() string { return w.kind + " " + w.meta.Namespace + "/" + w.meta.Name }

// crew watches the workloads.
type crew struct {
	s       *Source
	changed chan struct{} // holds a token when there is something to count
	stores  []store

	mu      sync.Mutex // guards all below
	failing map[string]failure
	// services are those of the workloads whose pods were seen among the endpoints,
	// by workload: a service of which no pod is left is the one that is missed most.
	services map[string]ops.ServiceKey
}

type store struct {
	key      string // of failing
	informer cache.SharedIndexInformer
}

type failure struct {
	text  string
	since time.Time
}

// watchWorkloads follows the workloads of the namespaces until ctx ends.
func (s *Source) watchWorkloads(ctx context.Context, client rest.Interface, namespaces []string, running *sync.WaitGroup) (*crew, error) {
	c := &crew{s: s, changed: make(chan struct{}, 1), failing: map[string]failure{}, services: map[string]ops.ServiceKey{}}
	for _, ns := range namespaces {
		for _, r := range resources {
			key := r.name + " " + where(ns)
			informer, err := newInformer(client, ns, subject{
				resource: r.name, object: r.object, tell: c.tell,
				heard: func(err error) { c.heard(key, err) },
			})
			if err != nil {
				return nil, err
			}
			c.stores = append(c.stores, store{key, informer})
			running.Go(func() { informer.RunWithContext(ctx) })
		}
	}
	return c, nil
}

func (c *crew) tell() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// heard says that a resource is not followed now; nil = it is.
func (c *crew) heard(key string, err error) {
	c.mu.Lock()
	was, failing := c.failing[key]
	switch {
	case err == nil:
		delete(c.failing, key)
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err): // listed anew at once
		c.mu.Unlock()
		return
	default:
		f := failure{since: was.since}
		var status apierrors.APIStatus
		if errors.As(err, &status) { // an API server that is away is the source's problem, and told there
			f.text = fmt.Sprintf("%s cannot be read, so that it is not known how many there should be: %.200v", key, err)
		}
		if apierrors.IsForbidden(err) {
			f.text = fmt.Sprintf("the API server refuses to list and watch %s: how many there should be is not known; give the centre's service account a role that may, or set no_expect", key)
		}
		if !failing {
			f.since = time.Now()
		}
		c.failing[key] = f
	}
	changed := failing != (err != nil) || (err != nil && was.text != c.failing[key].text)
	c.mu.Unlock()
	if changed {
		c.tell()
	}
}

// count says what there should be, from the workloads that are known and the pods
// that are listed.
func (c *crew) count(targets []ops.Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*workload
	unknown := ""
	for _, st := range c.stores {
		f := c.failing[st.key]
		unknown = cmp.Or(unknown, f.text)
		if !st.informer.HasSynced() {
			continue
		}
		for _, o := range st.informer.GetStore().List() {
			if w := read(o); w != nil {
				w.stale = f.since
				all = append(all, w)
			}
		}
	}
	slices.SortFunc(all, func(a, b *workload) int { return cmp.Compare(a.id(), b.id()) })
	c.learn(all, targets)
	want := map[ops.ServiceKey]ops.Expectation{}
	for _, w := range all {
		if key, ok := c.serviceOf(w); ok {
			want[key] = ops.Together(want[key], ops.Expectation{Count: w.replicas, Away: w.away, Says: "Kubernetes " + w.id(), StaleSince: w.stale})
		}
	}
	c.s.SetExpected(want, unknown)
}

// serviceOf is what the centre calls what a workload runs; false = nobody knows, or it
// is none of ours.
func (c *crew) serviceOf(w *workload) (ops.ServiceKey, bool) {
	if c.s.cfg.Role != rolePod {
		key, ok := c.services[w.id()]
		if meta, _ := meta(w.template.ObjectMeta); !ok && meta[discovery.MetaService] != "" {
			t, err := c.s.cfg.target("", "", 0, w.meta.Namespace+"/"+w.meta.Name, meta)
			return ops.ServiceKey{Project: t.Project, Service: t.Service}, err == nil
		}
		return key, ok
	}
	// What its pods will be called is what a pod of its template is called.
	chosen, err := labels.Parse(c.s.cfg.Selector)
	if err != nil || !chosen.Matches(labels.Set(w.template.Labels)) {
		return ops.ServiceKey{}, false
	}
	p := corev1.Pod{ObjectMeta: w.template.ObjectMeta, Spec: w.template.Spec}
	p.Namespace, p.Name = w.meta.Namespace, w.meta.Name
	targets, err := c.s.cfg.pod(&p)
	if err != nil || len(targets) == 0 {
		return ops.ServiceKey{}, false
	}
	return ops.ServiceKey{Project: targets[0].Project, Service: targets[0].Service}, true
}

// learn finds out from the pods behind endpoints which service a workload runs, and
// forgets the workloads that there are no more.
func (c *crew) learn(all []*workload, targets []ops.Target) {
	if c.s.cfg.Role == rolePod {
		return
	}
	byID := make(map[string]bool, len(all))
	for _, w := range all {
		byID[w.id()] = true
	}
	for _, t := range targets {
		for _, id := range makersOf(t.Pod) {
			if byID[id] {
				c.services[id] = ops.ServiceKey{Project: t.Project, Service: t.Service}
				break
			}
		}
	}
	for _, st := range c.stores {
		if !st.informer.HasSynced() {
			return // what is not read yet is not gone
		}
	}
	for id := range c.services {
		if !byID[id] {
			delete(c.services, id)
		}
	}
}

// What controllers append to their names for those of their pods: a Deployment the
// template's hash and five characters of an alphabet without vowels, a StatefulSet
// the ordinal.
var (
	ofDeployment  = regexp.MustCompile(`^(.+)-[bcdfghjklmnpqrstvwxz2456789]{1,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	ofStatefulSet = regexp.MustCompile(`^(.+)-[0-9]+$`)
)

// makersOf are the workloads that a pod of this name, "namespace/name", can be of.
func makersOf(pod string) (ids []string) {
	namespace, name, _ := strings.Cut(pod, "/")
	if m := ofDeployment.FindStringSubmatch(name); m != nil {
		ids = append(ids, "deployment "+namespace+"/"+m[1])
	}
	if m := ofStatefulSet.FindStringSubmatch(name); m != nil {
		ids = append(ids, "statefulset "+namespace+"/"+m[1])
	}
	return ids
}

// read takes from an object what is needed; nil = it asks for nothing.
func read(o any) *workload {
	switch o := o.(type) {
	case *appsv1.Deployment:
		w := &workload{kind: "deployment", meta: o.ObjectMeta, template: o.Spec.Template, replicas: atLeastNone(o.Spec.Replicas, 1)}
		w.away = awayOf(o, w.replicas)
		return w
	case *appsv1.StatefulSet:
		w := &workload{kind: "statefulset", meta: o.ObjectMeta, template: o.Spec.Template, replicas: atLeastNone(o.Spec.Replicas, 1)}
		w.away = awayOfSet(o, w.replicas)
		return w
	}
	return nil
}

func atLeastNone(n *int32, unsaid int) int {
	if n == nil {
		return unsaid
	}
	return max(int(*n), 0)
}

// awayOf is how many pods of a Deployment may be missing while it is rolled out. One
// that has got stuck has no excuse.
func awayOf(d *appsv1.Deployment, replicas int) int {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse {
			return 0
		}
	}
	s := d.Status
	if s.ObservedGeneration >= d.Generation && int(s.UpdatedReplicas) >= replicas && s.Replicas <= s.UpdatedReplicas {
		return 0
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return replicas
	}
	unavailable, surge := intstr.FromString("25%"), intstr.FromString("25%") // what Kubernetes takes if nobody says
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		if r.MaxUnavailable != nil {
			unavailable = *r.MaxUnavailable
		}
		if r.MaxSurge != nil {
			surge = *r.MaxSurge
		}
	}
	away, more := scaled(unavailable, replicas, false), scaled(surge, replicas, true)
	if away == 0 && more == 0 {
		away = 1 // or nothing could ever be replaced
	}
	return min(away, replicas)
}

// awayOfSet is the same of a StatefulSet, which replaces one pod after the other.
func awayOfSet(set *appsv1.StatefulSet, replicas int) int {
	r := set.Spec.UpdateStrategy.RollingUpdate
	if set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return 0
	}
	of := replicas
	if r != nil {
		of -= atLeastNone(r.Partition, 0) // those below stay as they are
	}
	s := set.Status
	if s.ObservedGeneration >= set.Generation && (s.CurrentRevision == s.UpdateRevision || int(s.UpdatedReplicas) >= of) {
		return 0
	}
	away := 1
	if r != nil && r.MaxUnavailable != nil {
		away = max(scaled(*r.MaxUnavailable, replicas, true), 1)
	}
	return min(away, replicas)
}

// scaled is a number, or a share of all; what cannot be read is none.
func scaled(v intstr.IntOrString, all int, up bool) int {
	n, err := intstr.GetScaledValueFromIntOrPercent(&v, all, up)
	if err != nil {
		return 0
	}
	return max(n, 0)
}
