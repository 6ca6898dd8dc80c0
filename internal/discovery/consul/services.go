package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/consul/api"

	"github.com/opscenter/opscenter/internal/ops"
)

// watches are the queries that run, one a service.
type watches struct {
	s      *Source
	client *api.Client
	wg     *sync.WaitGroup

	mu      sync.Mutex                    // guards all below
	running map[string]context.CancelFunc // by service
	known   bool
}

// names are the services, once it is known which there are.
func (w *watches) names() ([]string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.running)), w.known
}

// catalogue asks which services there are. Their queries end with run, not with
// the one that told of them.
func (w *watches) catalogue(run context.Context) query {
	return func(_ context.Context, o *api.QueryOptions) (*api.QueryMeta, error) { return w.choose(run, o) }
}

func (w *watches) choose(run context.Context, o *api.QueryOptions) (*api.QueryMeta, error) {
	services, meta, err := w.client.Catalog().Services(o)
	if err != nil {
		return nil, err
	}
	if w.s.hides(services, meta) {
		return nil, errHidden
	}
	var names []string
	for name, tags := range services {
		if name != "consul" && !slices.ContainsFunc(w.s.cfg.Tags, func(t string) bool { return !slices.Contains(tags, t) }) {
			names = append(names, name)
		}
	}
	if len(names) > maxServices {
		return nil, ops.Errorf(ops.Exhausted, "%d services are too many for one source: name at most %d in services, or choose them by tags", len(names), maxServices)
	}
	w.set(run, names)
	return meta, nil
}

// set makes the running queries those of these services.
func (w *watches) set(run context.Context, names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = true
	for name, stop := range w.running {
		if !slices.Contains(names, name) {
			stop()
			delete(w.running, name)
			w.s.forget(name)
		}
	}
	for _, name := range names {
		if w.running[name] != nil {
			continue
		}
		ctx, stop := context.WithCancel(run)
		w.running[name] = stop
		w.wg.Go(func() { w.s.follow(ctx, name, w.health(name)) })
	}
	w.s.tell()
}

// health asks for the instances of a service, those as well that do not pass, unless
// nobody wants to know: they should be there.
func (w *watches) health(name string) query {
	return func(ctx context.Context, o *api.QueryOptions) (*api.QueryMeta, error) {
		entries, meta, err := w.client.Health().ServiceMultipleTags(name, w.s.cfg.Tags, w.s.cfg.NoExpect && !w.s.cfg.All, o)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 && !meta.KnownLeader { // as when the token was withdrawn from a query that is held
			return nil, errLeaderless
		}
		if len(entries) == 0 {
			if hidden, err := w.hidden(ctx, o.Token, meta); hidden || err != nil {
				return nil, cmp.Or(err, errHidden)
			}
		}
		w.s.take(ctx, name, entries)
		return meta, nil
	}
}

// errHidden is an answer that is empty because the ACL lets nothing be seen: Consul
// refuses nobody who asks without a token, or with one that may read nothing.
var errHidden = errors.New("hidden by the ACL")

// errLeaderless is an empty answer of a Consul that does not know what is so.
var errLeaderless = errors.New("it knows no leader: check that its servers have one")

// hides reports whether a catalogue is empty because of the ACL: of a token Consul
// says so, and else it lists at least itself, but in namespaces of their own.
func (s *Source) hides(services map[string][]string, meta *api.QueryMeta) bool {
	return len(services) == 0 && (meta.ResultsFilteredByACLs || s.cfg.Namespace == "" && s.cfg.Partition == "")
}

// hidden reports whether a service without instances may have some.
func (w *watches) hidden(ctx context.Context, token string, meta *api.QueryMeta) (bool, error) {
	if meta.ResultsFilteredByACLs || token != "" {
		return meta.ResultsFilteredByACLs, nil
	}
	all, meta, err := w.client.Catalog().Services((&api.QueryOptions{}).WithContext(ctx))
	return err == nil && w.s.hides(all, meta), err
}

// take reads a service's instances.
func (s *Source) take(ctx context.Context, name string, entries []*api.ServiceEntry) {
	targets, registered := make([]ops.Target, 0, len(entries)), map[ops.ServiceKey]int{}
	odd := ""
	for _, e := range entries {
		if e == nil || e.Service == nil {
			continue
		}
		t, err := s.target(name, e)
		if err != nil {
			odd = fmt.Sprintf("instance %.80q of service %.80q: %v", e.Service.ID, name, err)
			continue
		}
		status := e.Checks.AggregatedStatus()
		if status != api.HealthMaint {
			registered[ops.ServiceKey{Project: t.Project, Service: t.Service}]++
		}
		if s.cfg.All || status == api.HealthPassing {
			targets = append(targets, t)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	s.services[name], s.registered[name] = targets, registered
	if odd == "" {
		delete(s.odd, name)
	} else {
		s.odd[name] = odd
	}
	s.tell()
}

func (s *Source) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.services, name)
	delete(s.registered, name)
	delete(s.odd, name)
}

// target is an instance: its metadata and its tags "name=value" become labels,
// the other tags one label.
func (s *Source) target(service string, e *api.ServiceEntry) (ops.Target, error) {
	host := e.Service.Address
	meta := map[string]string{}
	if e.Node != nil {
		host = cmp.Or(host, e.Node.Address)
		if e.Node.Node != "" {
			meta["node"] = e.Node.Node
		}
	}
	var plain []string
	for _, tag := range e.Service.Tags {
		if k, v, ok := strings.Cut(tag, "="); ok && k != "" {
			meta[k] = v
		} else {
			plain = append(plain, tag)
		}
	}
	if len(plain) > 0 {
		slices.Sort(plain)
		meta["tags"] = strings.Join(plain, ",")
	}
	maps.Copy(meta, e.Service.Meta)
	t, err := s.cfg.Naming.Target(service, host, e.Service.Port, meta)
	if err != nil {
		return t, err
	}
	t.Source, t.Complaint = s.Name(), complaint(e.Checks)
	return t, nil
}

// complaint is the worst of the checks that do not pass; empty = all do.
func complaint(checks api.HealthChecks) string {
	rank := map[string]int{api.HealthPassing: 0, api.HealthWarning: 1, api.HealthMaint: 3}
	worst, text := 0, ""
	for _, c := range checks {
		if c == nil {
			continue
		}
		r, ok := rank[c.Status]
		if !ok {
			r = 2 // critical, and whatever else there may be
		}
		status, note := cmp.Or(c.Status, api.HealthCritical), c.Output
		if c.CheckID == api.NodeMaint || strings.HasPrefix(c.CheckID, api.ServiceMaintPrefix) { // a check that is critical, with the reason in its notes
			r, status, note = 3, api.HealthMaint, c.Notes
		}
		if r > worst {
			note, _, _ = strings.Cut(strings.TrimSpace(note), "\n")
			worst, text = r, strings.TrimSuffix(fmt.Sprintf("%s: %.*s", status, maxNote, cmp.Or(note, c.Name, c.CheckID)), ": ")
		}
	}
	return text
}
