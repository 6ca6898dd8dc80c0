// Package kubernetes is the discovery source of a cluster's pods: those behind
// the EndpointSlices of its services, or the pods themselves, listed and watched.
//
// An API server that is away, or refuses, keeps what was said last.
//
// Only the REST client and the informer of client-go are used, with no more types
// than are read: the typed clientset would make the program 35 MB larger.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config makes a Source.
type Config struct {
	// Role is what is read: "endpointslice" (empty) or "pod".
	Role string `yaml:"role"`
	// Namespaces to read; empty = all, which needs a ClusterRole.
	Namespaces []string `yaml:"namespaces"`
	// Selector chooses by labels, of the slices (which carry their service's) or
	// pods: "app.kubernetes.io/part-of=color-game".
	Selector string `yaml:"selector"`
	// Kubeconfig is the file that says how to reach the cluster; empty = from inside
	// it, with the pod's own service account.
	Kubeconfig string `yaml:"kubeconfig"`
	// Context of that file; empty = its current one.
	Context string `yaml:"context"`
	// PortName is the port of a slice that pprof or the agent listens on; empty =
	// "pprof" or "ops-agent", then Port, then none: the pod is known, and its agent
	// has to dial.
	PortName         string `yaml:"port_name"`
	discovery.Naming `yaml:",inline"`
	// NoExpect leaves it alone how many pods Deployments and StatefulSets ask for.
	NoExpect bool `yaml:"no_expect"`
	// Logger tells what is wrong, once; nil = silent.
	Logger *slog.Logger `yaml:"-"`
}

const (
	// settle lets a burst of changes, such as a rolling deploy, become one list.
	settle = 50 * time.Millisecond
	// probeEvery is how often it is looked whether every list is still watched.
	probeEvery   = 2 * time.Second
	answerWithin = 10 * time.Second
	maxTargets   = 20_000
	roleSlice    = "endpointslice"
	rolePod      = "pod"
)

// Validate says what cannot be, as an Invalid error that names the field.
func (c Config) Validate() error {
	switch c.Role {
	case "", roleSlice, rolePod:
	default:
		return ops.Errorf(ops.Invalid, "role: %q is none: use endpointslice or pod", c.Role)
	}
	if _, err := labels.Parse(c.Selector); err != nil {
		return ops.Errorf(ops.Invalid, "selector: %q cannot be read: write one such as app=user-service", c.Selector)
	}
	if slices.Contains(c.Namespaces, "") {
		return ops.Errorf(ops.Invalid, "namespaces: a name is empty: leave the list out for all")
	}
	if c.Context != "" && c.Kubeconfig == "" {
		return ops.Errorf(ops.Invalid, "context: it needs a kubeconfig")
	}
	return c.Naming.Validate()
}

// Source lists and watches.
type Source struct {
	*discovery.Trouble
	discovery.Counts
	cfg Config

	mu      sync.Mutex        // guards all below
	failing map[string]string // by namespace
	oddity  string            // objects that cannot be read
}

// New checks the configuration. It asks nothing yet.
func New(cfg Config) (discovery.Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, failing: map[string]string{}}
	s.Trouble = discovery.NewTrouble(cfg.Logger, s.Name())
	return s, nil
}

// Name is "kubernetes" and what tells two apart.
func (s *Source) Name() string {
	parts := []string{"kubernetes"}
	for _, p := range append([]string{s.cfg.Context, s.cfg.Role}, append(slices.Clone(s.cfg.Namespaces), s.cfg.Selector)...) {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, " ")
}

// Run lists and watches until ctx ends.
func (s *Source) Run(ctx context.Context, update func([]ops.Target)) error {
	clients, done, err := s.connect()
	if err != nil {
		s.Set(err.Error())
		return err
	}
	defer done()
	// client-go would write to the program's standard error.
	ctx, cancel := context.WithCancel(klog.NewContext(ctx, logr.Discard()))
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	var informers []cache.SharedIndexInformer
	namespaces := s.cfg.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, ns := range namespaces {
		informer, err := s.informer(clients.pods, ns, tell)
		if err != nil {
			return err
		}
		informers = append(informers, informer)
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	workloads := &crew{}
	if !s.cfg.NoExpect {
		if workloads, err = s.watchWorkloads(ctx, clients.workloads, namespaces, &running); err != nil {
			return err
		}
	}
	probe := time.NewTicker(probeEvery / 10)
	defer probe.Stop()
	synced := false
	var list []ops.Target
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-workloads.changed: // never, where they are left alone
			if sleep(ctx, settle); synced {
				workloads.count(list)
			}
			continue
		case <-changed:
			sleep(ctx, settle)
		case <-probe.C:
			if synced {
				probe.Reset(probeEvery)
				continue
			}
		}
		all := !slices.ContainsFunc(informers, func(i cache.SharedIndexInformer) bool { return !i.HasSynced() })
		if all && ctx.Err() == nil {
			synced = true
			list = s.list(informers)
			update(slices.Clone(list))
			if !s.cfg.NoExpect {
				workloads.count(list)
			}
		}
	}
}

// clients ask for the pods, or the slices, and for who says how many there should be.
type clients struct{ pods, workloads rest.Interface }

// connect makes the clients, and what lets their connections go.
func (s *Source) connect() (clients, func(), error) {
	var cfg *rest.Config
	var err error
	if s.cfg.Kubeconfig == "" {
		if cfg, err = rest.InClusterConfig(); err != nil {
			return clients{}, nil, ops.Errorf(ops.Invalid, "the centre does not run inside a Kubernetes cluster (%w): name a kubeconfig", err)
		}
	} else {
		cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: s.cfg.Kubeconfig}, &clientcmd.ConfigOverrides{CurrentContext: s.cfg.Context}).ClientConfig()
		if err != nil {
			return clients{}, nil, ops.Errorf(ops.Invalid, "kubeconfig %s: %w", s.cfg.Kubeconfig, err)
		}
	}
	gv := discoveryv1.SchemeGroupVersion
	cfg.APIPath = "/apis"
	if s.cfg.Role == rolePod {
		gv, cfg.APIPath = corev1.SchemeGroupVersion, "/api"
	}
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{})
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Pod{}, &corev1.PodList{})
	scheme.AddKnownTypes(appsv1.SchemeGroupVersion, &appsv1.Deployment{}, &appsv1.DeploymentList{}, &appsv1.StatefulSet{}, &appsv1.StatefulSetList{})
	metav1.AddToGroupVersion(scheme, discoveryv1.SchemeGroupVersion)
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	metav1.AddToGroupVersion(scheme, appsv1.SchemeGroupVersion)
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	cfg.GroupVersion = &gv
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.ContentType = runtime.ContentTypeJSON
	cfg.UserAgent = "opscenter"
	// An API server may well be link-local in a cluster; it is the operator's word.
	cfg.Dial = (&net.Dialer{Timeout: answerWithin, KeepAlive: 15 * time.Second}).DialContext
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return clients{}, nil, ops.Errorf(ops.Invalid, "kubernetes: %w", err)
	}
	var out clients
	if out.pods, err = rest.RESTClientForConfigAndClient(cfg, httpClient); err != nil {
		return clients{}, nil, ops.Errorf(ops.Invalid, "kubernetes: %w", err)
	}
	apps := rest.CopyConfig(cfg)
	apps.GroupVersion, apps.APIPath = &appsv1.SchemeGroupVersion, "/apis"
	if out.workloads, err = rest.RESTClientForConfigAndClient(apps, httpClient); err != nil {
		return clients{}, nil, ops.Errorf(ops.Invalid, "kubernetes: %w", err)
	}
	return out, func() { utilnet.CloseIdleConnectionsFor(httpClient.Transport) }, nil
}

// subject is what is listed and watched.
type subject struct {
	resource, selector string
	object             runtime.Object
	// tell says that something changed, or was listed; heard how a list or watch
	// began, nil = well.
	tell  func()
	heard func(error)
}

// informer follows the pods or slices of a namespace.
func (s *Source) informer(client rest.Interface, ns string, tell func()) (cache.SharedIndexInformer, error) {
	about := subject{
		resource: "endpointslices", selector: s.cfg.Selector, object: &discoveryv1.EndpointSlice{},
		tell: tell, heard: func(err error) { s.fails(ns, err) },
	}
	if s.cfg.Role == rolePod {
		about.resource, about.object = "pods", &corev1.Pod{}
	}
	return newInformer(client, ns, about)
}

// newInformer lists and watches one namespace, over and over, until it is told to end.
func newInformer(client rest.Interface, ns string, about subject) (cache.SharedIndexInformer, error) {
	choose := func(o *metav1.ListOptions) {
		o.LabelSelector, o.FieldSelector = about.selector, fields.Everything().String()
	}
	lw := cache.NewFilteredListWatchFromClient(client, about.resource, ns, choose)
	informer := cache.NewSharedIndexInformer(about.listening(lw), about.object, 0, cache.Indexers{})
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { about.heard(err) }); err != nil {
		return nil, err
	}
	if err := informer.SetTransform(slim); err != nil {
		return nil, err
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { about.tell() },
		UpdateFunc: func(any, any) { about.tell() },
		DeleteFunc: func(any) { about.tell() },
	})
	return informer, err
}

// slim drops what nobody here reads, so that 10,000 pods take little memory.
func slim(o any) (any, error) {
	switch o := o.(type) {
	case *discoveryv1.EndpointSlice:
		o.ManagedFields = nil
	case *corev1.Pod:
		o.ManagedFields = nil
		slimPod(&o.Spec)
	case *appsv1.Deployment:
		o.ManagedFields = nil
		slimPod(&o.Spec.Template.Spec)
	case *appsv1.StatefulSet:
		o.ManagedFields, o.Spec.VolumeClaimTemplates = nil, nil
		slimPod(&o.Spec.Template.Spec)
	}
	return o, nil
}

func slimPod(p *corev1.PodSpec) {
	*p = corev1.PodSpec{NodeName: p.NodeName, Containers: p.Containers}
	for i := range p.Containers {
		p.Containers[i] = corev1.Container{Name: p.Containers[i].Name, Ports: p.Containers[i].Ports}
	}
}

// fails says that a namespace is not followed now; nil = it is.
func (s *Source) fails(ns string, err error) {
	s.mu.Lock()
	if err == nil {
		delete(s.failing, ns)
	} else if text := s.explain(ns, err); text != "" {
		s.failing[ns] = text
	}
	text := s.oddity
	for _, ns := range append([]string{metav1.NamespaceAll}, s.cfg.Namespaces...) {
		if s.failing[ns] != "" {
			text = s.failing[ns]
			break
		}
	}
	s.mu.Unlock()
	s.Set(text)
}

func (s *Source) odd(text string) {
	s.mu.Lock()
	changed := s.oddity != text
	s.oddity = text
	failing := len(s.failing) > 0
	s.mu.Unlock()
	if changed && !failing {
		s.Set(text)
	}
}

// explain says what is wrong; "" = nothing that lasts.
func (s *Source) explain(ns string, err error) string {
	what := map[string]string{rolePod: "pods"}[s.cfg.Role]
	if what == "" {
		what = "endpointslices"
	}
	where := where(ns)
	var ue *url.Error
	var op *net.OpError
	switch {
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return "" // listed anew at once
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("the API server refuses to list and watch %s %s: give the centre's service account a role that may", what, where)
	case apierrors.IsUnauthorized(err):
		return "the API server does not know who asks: check the service account or the kubeconfig's credentials"
	case errors.As(err, &op):
		return fmt.Sprintf("no answer from the API server: %v", op)
	case errors.As(err, &ue):
		return fmt.Sprintf("no answer from the API server: %.200v", ue.Err)
	}
	return fmt.Sprintf("%s %s cannot be read: %.200v", what, where, err)
}

func where(ns string) string {
	if ns == "" {
		return "in all namespaces"
	}
	return "in namespace " + ns
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
