package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/discovery/filesd"
	"github.com/opscenter/opscenter/internal/discovery/httpsd"
	"github.com/opscenter/opscenter/internal/discovery/static"
)

// keptSources are the sources of the configuration by everything that was said
// of each: one of which nothing changed goes on as it is.
type keptSources map[string]discovery.Source

// sources makes those of the flags and of the section, reusing what is kept.
func (kept *keptSources) sources(o cli.ServeOptions, sec sourcesSection) (out []discovery.Source, err error) {
	entries := []static.Target(sec.Static)
	for _, t := range o.Targets {
		entries = append(entries, static.Target{Project: string(t.Project), Service: string(t.Service), URL: t.URL, Labels: t.Labels})
	}
	for _, file := range o.StaticFiles {
		more, err := static.Load(file)
		if err != nil {
			return nil, err
		}
		entries = append(entries, more...)
	}
	b := sourceBuilder{kept: *kept, next: keptSources{}, names: map[string]int{}, log: o.Logger}
	if len(entries) > 0 {
		b.add("static", entries, func() (discovery.Source, error) { return static.New(entries) })
	}
	if len(o.FileSD) > 0 {
		sec.FileSD = append([]fileSource{{filesd.Config{Paths: o.FileSD}}}, sec.FileSD...)
	}
	for _, url := range o.HTTPSD {
		sec.HTTPSD = append(sec.HTTPSD, httpsd.Config{URL: url})
	}
	for _, cfg := range sec.FileSD {
		b.add("file-sd", cfg, func() (discovery.Source, error) { cfg.Logger = b.log; return filesd.New(cfg.Config) })
	}
	for _, cfg := range sec.HTTPSD {
		b.add("http-sd", cfg, func() (discovery.Source, error) { cfg.Logger = b.log; return httpsd.New(cfg) })
	}
	if b.err != nil {
		return nil, b.err
	}
	*kept = b.next
	return b.out, nil
}

// sourceBuilder collects sources. Of a kind that is there more than once, each
// has a name of its own.
type sourceBuilder struct {
	kept, next keptSources
	names      map[string]int
	out        []discovery.Source
	log        *slog.Logger
	err        error
}

// add adds the source that make returns, or the kept one of the same kind and
// configuration.
func (b *sourceBuilder) add(kind string, cfg any, make func() (discovery.Source, error)) {
	if b.err != nil {
		return
	}
	said, err := json.Marshal(cfg)
	if err != nil {
		b.err = fmt.Errorf("source %s: %w", kind, err)
		return
	}
	key := kind + string(said)
	if b.next[key] != nil {
		return // said twice
	}
	s := b.kept[key]
	if s == nil {
		if s, err = make(); err != nil {
			b.err = err
			return
		}
		name := s.Name()
		if b.names[name]++; b.names[name] > 1 {
			s = renamed{s, fmt.Sprintf("%s (%d)", name, b.names[name])}
		}
	} else {
		b.names[s.Name()]++
	}
	b.next[key] = s
	b.out = append(b.out, s)
}

// renamed is a source whose own name another has already.
type renamed struct {
	discovery.Source
	name string
}

func (r renamed) Name() string { return r.name }

// Problem and ProblemSince pass on what the source says of its trouble.
func (r renamed) Problem() string {
	if t, ok := r.Source.(interface{ Problem() string }); ok {
		return t.Problem()
	}
	return ""
}

func (r renamed) ProblemSince() time.Time {
	if t, ok := r.Source.(interface{ ProblemSince() time.Time }); ok {
		return t.ProblemSince()
	}
	return time.Time{}
}
