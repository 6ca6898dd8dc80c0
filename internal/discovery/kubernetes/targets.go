package kubernetes

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// domain begins the annotations, or labels, that are meant for us.
const domain = "opscenter.io/"

// said are they, and what they are called elsewhere.
var said = map[string]string{
	domain + "project":    discovery.MetaProject,
	domain + "service":    discovery.MetaService,
	domain + "pprof-port": discovery.MetaPprofPort,
	domain + "pprof-path": discovery.MetaPath,
	domain + "scheme":     discovery.MetaScheme,
}

// The ports that are known by name, and what listens there.
var knownPorts = []struct{ name, scheme string }{{"pprof", ""}, {"ops-agent", "grpc"}}

// list is what all informers hold, each pod once.
func (s *Source) list(informers []cache.SharedIndexInformer) []ops.Target {
	var found []ops.Target
	odd := 0
	var first error
	for _, i := range informers {
		for _, o := range i.GetStore().List() {
			var targets []ops.Target
			var err error
			switch o := o.(type) {
			case *discoveryv1.EndpointSlice:
				targets, err = s.cfg.slice(o)
			case *corev1.Pod:
				targets, err = s.cfg.pod(o)
			}
			if err != nil {
				odd++
				first = cmp.Or(first, err)
			}
			found = append(found, targets...)
		}
	}
	// IPv4 sorts before IPv6, and among several services the name decides: the same each time.
	slices.SortFunc(found, func(a, b ops.Target) int {
		return cmp.Or(cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Service, b.Service), cmp.Compare(b.URL, a.URL)*-1)
	})
	seen, list := map[string]bool{}, []ops.Target{}
	for _, t := range found {
		key := cmp.Or(t.Pod, t.URL)
		if !seen[key] && (t.URL == "" || !seen[t.URL]) && len(list) < maxTargets {
			seen[key], seen[t.URL] = true, true
			t.Source = s.Name()
			list = append(list, t)
		}
	}
	text := ""
	if odd > 0 {
		text = fmt.Sprintf("%d objects cannot be read: %v", odd, first)
	}
	s.odd(text)
	return list
}

// meta is what an object says to us, and whether it says anything.
func meta(o metav1.ObjectMeta) (map[string]string, bool) {
	out, told := map[string]string{}, false
	for _, all := range []map[string]string{o.Labels, o.Annotations} {
		for k, v := range all {
			if known, ok := said[k]; ok {
				out[known], told = v, true
			}
		}
	}
	return out, told
}

// slice reads the endpoints of a service. Those that are not ready are listed as
// well: a process that is stuck is the one to look into.
func (c Config) slice(e *discoveryv1.EndpointSlice) (out []ops.Target, err error) {
	service := e.Labels[discoveryv1.LabelServiceName]
	meta, named := meta(e.ObjectMeta)
	port, scheme := c.portOf(e)
	if e.AddressType == discoveryv1.AddressTypeFQDN || (!named && c.Selector == "" && port == 0 && c.Port == 0) {
		return nil, nil
	}
	if scheme != "" && meta[discovery.MetaScheme] == "" && meta[discovery.MetaPprofPort] == "" {
		meta[discovery.MetaScheme] = scheme
	}
	meta["namespace"] = e.Namespace
	for _, p := range e.Endpoints {
		if len(p.Addresses) == 0 {
			continue
		}
		own := maps.Clone(meta)
		if p.NodeName != nil {
			own["node"] = *p.NodeName
		}
		if p.Zone != nil {
			own["zone"] = *p.Zone
		}
		pod := ""
		if p.TargetRef != nil && p.TargetRef.Kind == "Pod" {
			pod, own["pod"] = cmp.Or(p.TargetRef.Namespace, e.Namespace)+"/"+p.TargetRef.Name, p.TargetRef.Name
		}
		t, bad := c.target(service, p.Addresses[0], int(port), pod, own)
		if bad != nil {
			err = fmt.Errorf("endpoint slice %s/%s: %w", e.Namespace, e.Name, bad)
			continue
		}
		switch {
		case p.Conditions.Terminating != nil && *p.Conditions.Terminating:
			t.Complaint = "terminating"
		case p.Conditions.Ready != nil && !*p.Conditions.Ready:
			t.Complaint = "not ready"
		}
		out = append(out, t)
	}
	return out, err
}

// portOf finds the port that is meant by its name; 0 = none is.
func (c Config) portOf(e *discoveryv1.EndpointSlice) (port int32, scheme string) {
	known := knownPorts
	if c.PortName != "" {
		known = []struct{ name, scheme string }{{c.PortName, ""}}
	}
	for _, k := range known {
		for _, p := range e.Ports {
			if p.Name != nil && p.Port != nil && *p.Name == k.name {
				return *p.Port, k.scheme
			}
		}
	}
	return 0, ""
}

// target is a process that is reached at a port or, without any, only known.
func (c Config) target(service, host string, port int, pod string, meta map[string]string) (ops.Target, error) {
	reachable := host != "" && (port != 0 || c.Port != 0 || meta[discovery.MetaPprofPort] != "")
	if port != 0 && c.PortName == "" {
		c.Port = 0 // a port of that name is meant
	}
	if !reachable {
		host, port = "unknown", 1
		meta = maps.Clone(meta)
		delete(meta, discovery.MetaPprofPort)
	}
	t, err := c.Naming.Target(service, host, port, meta)
	if err != nil {
		return t, err
	}
	if t.Pod = pod; !reachable {
		t.URL = ""
		if pod == "" {
			return t, ops.Errorf(ops.Invalid, "%s has no port that is known, and is no pod", host)
		}
	}
	return t, nil
}

// pod reads one pod that says something to us, or all that were chosen.
func (c Config) pod(p *corev1.Pod) ([]ops.Target, error) {
	meta, named := meta(p.ObjectMeta)
	port, scheme := c.containerPort(p)
	if (!named && c.Selector == "" && port == 0) || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	if scheme != "" && meta[discovery.MetaScheme] == "" && meta[discovery.MetaPprofPort] == "" {
		meta[discovery.MetaScheme] = scheme
	}
	meta["namespace"], meta["pod"] = p.Namespace, p.Name
	if p.Spec.NodeName != "" {
		meta["node"] = p.Spec.NodeName
	}
	service := cmp.Or(p.Labels["app.kubernetes.io/name"], p.Labels["app"], makerOf(p))
	t, err := c.target(service, p.Status.PodIP, int(port), p.Namespace+"/"+p.Name, meta)
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	t.Complaint = podComplaint(p)
	return []ops.Target{t}, nil
}

func (c Config) containerPort(p *corev1.Pod) (port int32, scheme string) {
	known := knownPorts
	if c.PortName != "" {
		known = []struct{ name, scheme string }{{c.PortName, ""}}
	}
	for _, k := range known {
		for _, container := range p.Spec.Containers {
			for _, port := range container.Ports {
				if port.Name == k.name {
					return port.ContainerPort, k.scheme
				}
			}
		}
	}
	return 0, ""
}

// makerOf is the name of what made the pod: a ReplicaSet's without its hash.
func makerOf(p *corev1.Pod) string {
	for _, o := range p.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			return strings.TrimSuffix(o.Name, "-"+p.Labels["pod-template-hash"])
		}
	}
	return p.Name
}

// podComplaint is why a pod does not serve; empty = it does.
func podComplaint(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "terminating"
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Waiting != nil && c.State.Waiting.Reason != "" {
			return clip(strings.TrimSuffix(c.State.Waiting.Reason+": "+c.State.Waiting.Message, ": "))
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status != corev1.ConditionTrue {
			return clip(strings.TrimSuffix("not ready: "+cmp.Or(c.Message, c.Reason), ": "))
		}
	}
	return ""
}

func clip(s string) string {
	const most = 200
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
