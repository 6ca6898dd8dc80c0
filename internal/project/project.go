// Package project knows which games share the centre: what each is called, how
// long its captures are kept, and whether an instance that claims a project may
// join. It does not know how instances are found, nor who may look at what.
package project

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/ops"
)

// Project is one entry of the configuration.
type Project struct {
	// Title is what people read, by language; empty = the name.
	Title Title `yaml:"title"`
	// Labels are given to all of its instances, where they have none of that name.
	Labels map[string]string `yaml:"labels"`
	// Retention and RetentionBytes bound its captures; 0 = as everywhere.
	Retention      config.Duration `yaml:"retention"`
	RetentionBytes config.Size     `yaml:"retention-bytes"`
	// Roles names who holds a role in it: the role's name, then group:NAME, user:NAME
	// or oidc:NAME; a word alone is a group.
	Roles map[string][]string `yaml:"roles"`
	// Expect is how many instances of each service there should be.
	Expect map[ops.ServiceName]int `yaml:"expect"`
}

// Title is a text in each language of the page.
type Title struct {
	En   string `yaml:"en"`
	ZhTW string `yaml:"zh-TW"`
}

const (
	maxTitle    = 80
	maxLabels   = 30
	maxProjects = 1000
	maxExpected = 10_000 // of a service, and services
)

// Validate says what cannot be, as an Invalid error that names the key.
func (p Project) Validate() error {
	for _, text := range []string{p.Title.En, p.Title.ZhTW} {
		if len([]rune(text)) > maxTitle || strings.ContainsAny(text, "\n\r\t") {
			return ops.Errorf(ops.Invalid, "title: %.40q is no title: use one line of at most %d characters", text, maxTitle)
		}
	}
	if len(p.Labels) > maxLabels {
		return ops.Errorf(ops.Invalid, "labels: %d are too many: use at most %d", len(p.Labels), maxLabels)
	}
	if len(p.Expect) > maxExpected {
		return ops.Errorf(ops.Invalid, "expect: %d services are too many: use at most %d", len(p.Expect), maxExpected)
	}
	for _, service := range slices.Sorted(maps.Keys(p.Expect)) {
		if !ops.ValidName(string(service)) {
			return ops.Errorf(ops.Invalid, "expect: %q is no name of a service: use letters, digits, dot, underscore and hyphen", service)
		}
		if n := p.Expect[service]; n < 1 || n > maxExpected {
			return ops.Errorf(ops.Invalid, "expect: %d instances of %s are out of range: use 1 to %d", n, service, maxExpected)
		}
	}
	for _, role := range slices.Sorted(maps.Keys(p.Roles)) {
		if !ops.ValidName(role) {
			return ops.Errorf(ops.Invalid, "roles: %q is no name of a role: use one such as operator", role)
		}
	}
	return nil
}

// Declared is all projects of the configuration.
type Declared map[ops.ProjectName]Project

// Validate looks at the names.
func (d Declared) Validate() error {
	if len(d) > maxProjects {
		return ops.Errorf(ops.Invalid, "%d projects are too many: use at most %d", len(d), maxProjects)
	}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if !ops.ValidName(string(name)) {
			return ops.Errorf(ops.Invalid, "%q is no name of a project: use letters, digits, dot, underscore and hyphen", name)
		}
	}
	return nil
}

// Refusal is what was turned away because nobody declared its project.
type Refusal struct {
	Project ops.ProjectName
	Service ops.ServiceName // of the last attempt
	Source  string          // likewise
	Times   int
	Last    time.Time
}

// maxRefusals bounds what is remembered of strangers.
const maxRefusals = 100

// Book is what is known of projects. Its methods may be called concurrently. The
// zero value declares none and accepts all.
type Book struct {
	mu       sync.Mutex // guards all below
	declared Declared
	refuse   bool
	own      ops.ProjectName
	refused  map[ops.ProjectName]Refusal
}

// Declare replaces the projects. refuse turns away who claims another one, which
// counts only when there are any; own is the centre's, always welcome. Who is
// there already stays until it joins anew.
func (b *Book) Declare(d Declared, refuse bool, own ops.ProjectName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.declared, b.refuse, b.own = maps.Clone(d), refuse && len(d) > 0, own
	maps.DeleteFunc(b.refused, func(p ops.ProjectName, _ Refusal) bool { return !b.refuse || hasKey(d, p) })
}

func hasKey(d Declared, p ops.ProjectName) bool { _, ok := d[p]; return ok }

// Admit returns the instance with its project's labels, or a Denied error that
// says how to declare the project.
func (b *Book) Admit(i ops.Instance) (ops.Instance, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, declared := b.declared[i.Project]
	if !declared {
		if !b.refuse || i.Project == b.own {
			return i, nil
		}
		b.remember(i)
		return i, ops.Errorf(ops.Denied, "project %s is not declared in this centre: add it under projects in the centre's configuration, or set undeclared-projects: accept", i.Project)
	}
	if len(p.Labels) > 0 {
		labels := maps.Clone(p.Labels)
		maps.Copy(labels, i.Labels)
		i.Labels = labels
	}
	return i, nil
}

// remember keeps a refusal; b.mu is held.
func (b *Book) remember(i ops.Instance) {
	if b.refused == nil {
		b.refused = map[ops.ProjectName]Refusal{}
	}
	r, known := b.refused[i.Project]
	if !known && len(b.refused) >= maxRefusals {
		oldest := slices.MinFunc(slices.Collect(maps.Values(b.refused)), func(x, y Refusal) int { return x.Last.Compare(y.Last) })
		delete(b.refused, oldest.Project)
	}
	b.refused[i.Project] = Refusal{Project: i.Project, Service: i.Service, Source: i.Source, Times: r.Times + 1, Last: time.Now()}
}

// Refused returns who was turned away, the last first.
func (b *Book) Refused() []Refusal {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Values(b.refused), func(x, y Refusal) int { return y.Last.Compare(x.Last) })
}

// Entry is a project with its name.
type Entry struct {
	Name ops.ProjectName
	Project
	// Declared is false for one that is known by its instances alone.
	Declared bool
}

// List returns the declared projects and those of seen that are not, by name.
func (b *Book) List(seen []ops.ProjectName) []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Entry
	for name, p := range b.declared {
		out = append(out, Entry{Name: name, Project: p, Declared: true})
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(seen))) {
		if !hasKey(b.declared, name) {
			out = append(out, Entry{Name: name})
		}
	}
	slices.SortFunc(out, func(x, y Entry) int { return cmp.Compare(x.Name, y.Name) })
	return out
}
