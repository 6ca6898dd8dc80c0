package guard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/opscenter/opscenter/internal/ops"
)

// Policy says what may be changed, project by project. The zero value allows
// everything. It bounds what changes something; looking is a matter of
// permissions.
type Policy struct {
	// Default holds for the projects that Projects does not name.
	Default Rules `yaml:"default"`
	// Projects replaces Default for those it names.
	Projects map[ops.ProjectName]Rules `yaml:"projects"`
}

// Rules are the bounds of one project.
type Rules struct {
	// ReadOnly refuses every change.
	ReadOnly bool `yaml:"read_only"`
	// Allow lists the controls and methods that may be used, as names or patterns
	// in which * stands for any run of characters but a slash: "gc", "log-*",
	// "colorgame.v1.RoomService/*". Empty = all.
	Allow []string `yaml:"allow"`
	// Deny lists those that may not, whatever Allow says.
	Deny []string `yaml:"deny"`
	// MaxInstances bounds how many one action may affect; 0 = any number.
	MaxInstances int `yaml:"max_instances"`
}

// LoadPolicy reads a policy from a YAML file. What it does not know is Invalid:
// a misspelt bound would bound nothing.
func LoadPolicy(file string) (Policy, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Policy{}, ops.Errorf(ops.Invalid, "--control-policy: %w", err)
	}
	p, err := parsePolicy(b)
	if err != nil {
		return Policy{}, ops.Errorf(ops.Invalid, "--control-policy %s: %w", file, err)
	}
	return p, nil
}

func parsePolicy(b []byte) (Policy, error) {
	var p Policy
	if len(bytes.TrimSpace(b)) == 0 {
		return p, nil
	}
	if err := yaml.UnmarshalWithOptions(b, &p, yaml.Strict()); err != nil {
		where, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n") // without the lines around it
		return Policy{}, errors.New(where)
	}
	if err := p.Default.check("default"); err != nil {
		return Policy{}, err
	}
	for name, r := range p.Projects {
		if !ops.ValidName(string(name)) {
			return Policy{}, fmt.Errorf("%q is no name of a project: use letters, digits, dot, underscore and hyphen", name)
		}
		if err := r.check("project " + string(name)); err != nil {
			return Policy{}, err
		}
	}
	return p, nil
}

func (r Rules) check(where string) error {
	if r.MaxInstances < 0 {
		return fmt.Errorf("%s: max_instances is %d: use a positive number, or leave it out for no bound", where, r.MaxInstances)
	}
	for _, pattern := range slices.Concat(r.Allow, r.Deny) {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("%s: the pattern %q cannot be right: use a name, or * for a part of it", where, pattern)
		}
	}
	return nil
}

// refusal says why the policy forbids the request; empty = it does not.
func (p Policy) refusal(r Request) string {
	rules, ok := p.Projects[r.Project]
	if !ok {
		rules = p.Default
	}
	switch {
	case rules.ReadOnly:
		return fmt.Sprintf("the policy of this centre makes %s read-only: nothing may be changed there", r.Project)
	case matches(rules.Deny, r.Subject):
		return fmt.Sprintf("the policy of this centre forbids %s in %s", r.Subject, r.Project)
	case len(rules.Allow) > 0 && !matches(rules.Allow, r.Subject):
		return fmt.Sprintf("the policy of this centre does not allow %s in %s: allowed are %s", r.Subject, r.Project, strings.Join(rules.Allow, ", "))
	case rules.MaxInstances > 0 && len(r.Instances) > rules.MaxInstances:
		return fmt.Sprintf("the policy of this centre allows at most %s of %s at once, and this would affect %d: choose fewer", countOf(rules.MaxInstances), r.Project, len(r.Instances))
	}
	return ""
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return err == nil && ok
	})
}
