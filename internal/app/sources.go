package app

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/discovery/consul"
	"github.com/opscenter/opscenter/internal/discovery/dnssrv"
	"github.com/opscenter/opscenter/internal/discovery/etcd"
	"github.com/opscenter/opscenter/internal/discovery/filesd"
	"github.com/opscenter/opscenter/internal/discovery/httpsd"
	"github.com/opscenter/opscenter/internal/discovery/kubernetes"
	"github.com/opscenter/opscenter/internal/discovery/nacos"
	"github.com/opscenter/opscenter/internal/discovery/static"
	"github.com/opscenter/opscenter/internal/ops"
)

// keptSources are the sources of the configuration by everything that was said
// of each: one of which nothing changed goes on as it is.
type keptSources map[string]discovery.Source

// sources makes those of the flags and of the sections, reusing what is kept.
func (kept *keptSources) sources(o cli.ServeOptions, sec sections) (out []discovery.Source, err error) {
	all := sec.Sources
	all.Static = slices.Clone(all.Static)
	for _, t := range o.Targets {
		all.Static = append(all.Static, static.Target{Project: string(t.Project), Service: string(t.Service), URL: t.URL, Labels: t.Labels})
	}
	for _, file := range o.StaticFiles {
		more, err := static.Load(file)
		if err != nil {
			return nil, err
		}
		all.Static = append(all.Static, more...)
	}
	if len(o.FileSD) > 0 {
		all.FileSD = append([]fileSource{{filesd.Config{Paths: o.FileSD}}}, all.FileSD...)
	}
	for _, url := range o.HTTPSD {
		all.HTTPSD = append(all.HTTPSD, httpsd.Config{URL: url})
	}
	b := sourceBuilder{kept: *kept, next: keptSources{}, log: o.Logger}
	b.addAll("", all)
	for _, name := range slices.Sorted(maps.Keys(sec.Projects)) {
		b.addAll(name, sec.Projects[name].Sources)
	}
	if b.err != nil {
		return nil, b.err
	}
	*kept = b.next
	return b.out, nil
}

// addAll adds the sources of one project; "" = of no one in particular. A kind of
// source has its line here.
func (b *sourceBuilder) addAll(p ops.ProjectName, all sourcesSection) {
	if len(all.Static) > 0 {
		b.add(p, "static", all.Static, func() (discovery.Source, error) { return static.New(all.Static) })
	}
	for _, cfg := range all.FileSD {
		b.add(p, "file-sd", cfg, func() (discovery.Source, error) { cfg.Logger = b.log; return filesd.New(cfg.Config) })
	}
	for _, cfg := range all.HTTPSD {
		b.add(p, "http-sd", cfg, func() (discovery.Source, error) { cfg.Logger = b.log; return httpsd.New(cfg) })
	}
	for _, cfg := range all.DNS {
		b.add(p, "dns", cfg, func() (discovery.Source, error) { cfg.Logger = b.log; return dnssrv.New(cfg) })
	}
	for _, cfg := range all.Consul {
		b.add(p, "consul", cfg, func() (discovery.Source, error) { cfg.Logger = b.log; return consul.New(cfg) })
	}
	for _, cfg := range all.Nacos {
		b.add(p, "nacos", cfg, func() (discovery.Source, error) { cfg.Logger = b.log; return nacos.New(cfg) })
	}
	for _, cfg := range all.Kubernetes {
		b.add(p, "kubernetes", cfg, func() (discovery.Source, error) { cfg.Logger = b.log; return kubernetes.New(cfg.Config) })
	}
	for _, cfg := range all.Etcd {
		b.add(p, "etcd", cfg, func() (discovery.Source, error) { cfg.Logger = b.log; return etcd.New(cfg) })
	}
}

// sourceBuilder collects sources. Each has a name of its own.
type sourceBuilder struct {
	kept, next keptSources
	out        []discovery.Source
	log        *slog.Logger
	err        error
}

// add adds the source that build returns, or the kept one of the same kind, project
// and configuration.
func (b *sourceBuilder) add(p ops.ProjectName, kind string, cfg any, build func() (discovery.Source, error)) {
	if b.err != nil {
		return
	}
	said, err := json.Marshal(cfg)
	if err != nil {
		b.err = fmt.Errorf("source %s: %w", kind, err)
		return
	}
	key := string(p) + " " + kind + " " + string(said)
	if b.next[key] != nil {
		return // said twice
	}
	s := b.kept[key]
	if s == nil {
		if s, err = build(); err != nil {
			b.err = err
			return
		}
		name := s.Name()
		if p != "" {
			name += " of " + string(p)
		}
		for n := 2; b.taken(name); n++ {
			name = fmt.Sprintf("%s (%d)", s.Name(), n)
		}
		if p != "" || name != s.Name() {
			s = ofProject{s, name, p}
		}
	}
	b.next[key] = s
	b.out = append(b.out, s)
}

// taken reports whether a source before this one has the name.
func (b *sourceBuilder) taken(name string) bool {
	return slices.ContainsFunc(b.out, func(s discovery.Source) bool { return s.Name() == name })
}

// ofProject is a source under another name, whose instances are a project's.
type ofProject struct {
	discovery.Source
	name    string
	project ops.ProjectName // "" = as they say
}

func (s ofProject) Name() string { return s.name }

// Run gives each target the project.
func (s ofProject) Run(ctx context.Context, update func([]ops.Target)) error {
	return s.Source.Run(ctx, func(list []ops.Target) {
		if s.project != "" {
			list = slices.Clone(list)
			for i := range list {
				list[i].Project = s.project
			}
		}
		update(list)
	})
}

// Problem and ProblemSince pass on what the source says of its trouble.
func (s ofProject) Problem() string {
	if t, ok := s.Source.(interface{ Problem() string }); ok {
		return t.Problem()
	}
	return ""
}

func (s ofProject) ProblemSince() time.Time {
	if t, ok := s.Source.(interface{ ProblemSince() time.Time }); ok {
		return t.ProblemSince()
	}
	return time.Time{}
}

// Expected passes on what the source says there should be, as the project's.
func (s ofProject) Expected() (map[ops.ServiceKey]ops.Expectation, string) {
	e, ok := s.Source.(discovery.Expecter)
	if !ok {
		return nil, ""
	}
	want, unknown := e.Expected()
	if s.project == "" || want == nil {
		return want, unknown
	}
	own := make(map[ops.ServiceKey]ops.Expectation, len(want))
	for _, k := range slices.SortedFunc(maps.Keys(want), func(a, b ops.ServiceKey) int { return cmp.Compare(a.String(), b.String()) }) {
		ours := ops.ServiceKey{Project: s.project, Service: k.Service}
		own[ours] = ops.Together(own[ours], want[k])
	}
	return own, unknown
}
