// Package static is the discovery source of targets that are written down in
// the centre's configuration and never change while it runs.
package static

import (
	"context"
	"slices"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// Target is one entry of the configuration.
type Target struct {
	// Project the target belongs to; empty = "default".
	Project string `json:"project,omitempty" yaml:"project,omitempty"`
	Service string `json:"service" yaml:"service"`
	// URL is http(s)://host:port[/path] of a pprof endpoint (no path =
	// /debug/pprof), or grpc(s)://host:port of an agent that listens.
	URL    string            `json:"url" yaml:"url"`
	Labels map[string]string `json:"labels,omitempty" yaml:"labels,omitempty"`
}

// Source lists the configured targets.
type Source struct{ targets []ops.Target }

// New checks the entries. An Invalid error names the entry, counted from 1.
func New(entries []Target) (*Source, error) {
	s := &Source{targets: make([]ops.Target, 0, len(entries))}
	seen := map[string]int{}
	for n, e := range entries {
		t, err := discovery.Normalize(ops.Target{Project: ops.ProjectName(e.Project), Service: ops.ServiceName(e.Service), URL: e.URL, Labels: e.Labels})
		if err != nil {
			return nil, ops.Errorf(ops.Invalid, "static target %d: %w", n+1, err)
		}
		if first, twice := seen[t.URL]; twice {
			return nil, ops.Errorf(ops.Invalid, "static target %d: its URL is that of target %d: list it once", n+1, first)
		}
		seen[t.URL] = n + 1
		t.Source = s.Name()
		s.targets = append(s.targets, t)
	}
	return s, nil
}

// Name is "static".
func (*Source) Name() string { return "static" }

// Run lists the targets once and waits for ctx to end.
func (s *Source) Run(ctx context.Context, update func([]ops.Target)) error {
	update(slices.Clone(s.targets))
	<-ctx.Done()
	return nil
}
