// Package config reads the centre's configuration: one YAML file, the
// environment and flags, put together key by key with a record of where each
// value came from. It knows the form of the file and nothing of what its keys
// mean: whoever wires the centre says which settings and sections there are.
//
// A setting is one value, or a list of them, that has a flag of the same name: a
// flag beats the environment (OPS_ and the name in capitals), which beats the
// file, which beats the default. A section is a top-level key whose value is a
// struct of the package that needs it. To add one, give a Section with the key
// and a pointer to the struct; everything else follows from the struct:
//
//   - its yaml tags are the keys; what they do not name is refused, with the
//     nearest name there is;
//   - Validate() error, on the struct or on any struct inside, is called once all
//     is decoded, inner ones first. A message that begins with one of the struct's
//     keys ("endpoints: …") is shown at that key's line, any other at the struct's;
//   - what a key that ends in file names ("ca_file", "token-file") starts at the
//     configuration file's directory unless it is absolute; for other names of files
//     there is ResolvePaths(abs func(string) string), called before Validate;
//   - a field with the tag secret:"true" is never printed, nor is one whose name
//     says so, nor what came out of ${env:NAME} or ${file:/path}.
package config

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// Setting is one value that a flag, the environment and the file can give.
type Setting struct {
	Key     string // the flag's name; the file's key
	About   string
	Default string
	List    bool // takes several values; in the environment divided by commas
	Path    bool // names files: relative ones in the file start at its directory
	Secret  bool
	// Restart says that a change counts from the next start on.
	Restart bool
	// Set takes what was said, in place of the default. One value unless List.
	Set func(values []string) error
}

// Env is the environment's name of the setting.
func (s Setting) Env() string {
	return "OPS_" + strings.ToUpper(strings.ReplaceAll(s.Key, "-", "_"))
}

// Section is a top-level key with a struct behind it.
type Section struct {
	Key   string
	Into  any // pointer to a struct, map or slice; see the package's comment
	About string
	// Example is YAML for `ops config init`, without comment signs and with the key.
	Example string
	// Restart says that a change counts from the next start on.
	Restart bool
}

// Schema is everything that can be said. A key may be a setting and a section:
// as a word it is the setting (the name of a file, say), as a mapping the section.
type Schema struct {
	Settings []Setting
	Sections []Section
}

// Origin is where a value came from, in the order of precedence.
type Origin string

// The origins.
const (
	FromDefault Origin = "default"
	FromFile    Origin = "file"
	FromEnv     Origin = "env"
	FromFlag    Origin = "flag"
)

// Value is one effective value, as it may be shown: secrets are masked.
type Value struct {
	Key    string `json:"key"`
	Text   string `json:"value"`
	Origin Origin `json:"origin"`
	// Where is file:line:column, the environment's name or the flag; "" for defaults.
	Where   string `json:"where,omitempty"`
	Restart bool   `json:"restart,omitempty"`

	raw string // what changes when the value does, for Changes; never shown
}

// Inputs is what a configuration is made from.
type Inputs struct {
	File   *File                    // nil = none
	Flags  map[string][]string      // those that were given, by key
	Getenv func(name string) string // nil = no environment
}

// Effective is one generation of the configuration.
type Effective struct {
	File   string  // its name; "" = there is none
	Values []Value // of the settings in their order, then of the sections
}

// Load puts the inputs together: it calls Set of every setting that was said and
// fills the sections. Its error lists everything that is wrong with the file
// (Problems), or the one thing that is wrong elsewhere.
func (s Schema) Load(in Inputs) (Effective, error) {
	var out Effective
	if in.File != nil {
		out.File = in.File.Name
		if err := in.File.check(s); err != nil {
			return out, err
		}
	}
	for _, set := range s.Settings {
		v, err := set.resolve(in)
		if err != nil {
			return out, err
		}
		out.Values = append(out.Values, v)
	}
	if in.File != nil {
		for _, sec := range s.Sections {
			out.Values = append(out.Values, in.File.leaves(sec)...)
		}
	}
	return out, nil
}

func (s Setting) resolve(in Inputs) (Value, error) {
	v := Value{Key: s.Key, Text: s.Default, Origin: FromDefault, Restart: s.Restart}
	show := func(values []string) {
		v.Text, v.raw = strings.Join(values, ", "), strings.Join(values, "\x00")
		if s.Secret {
			v.Text = masked
		}
	}
	if given, ok := in.Flags[s.Key]; ok {
		v.Origin, v.Where = FromFlag, "--"+s.Key
		show(given)
		return v, s.take(given, "--"+s.Key)
	}
	if in.Getenv != nil {
		if text := in.Getenv(s.Env()); text != "" {
			values := []string{text}
			if s.List {
				values = splitList(text)
			}
			v.Origin, v.Where = FromEnv, s.Env()
			show(values)
			return v, s.take(values, s.Env())
		}
	}
	if in.File == nil {
		return v, nil
	}
	e := in.File.setting(s.Key)
	if e == nil {
		return v, nil
	}
	values := e.values
	if s.Path {
		values = slices.Clone(values)
		for i := range values {
			values[i] = in.File.Abs(values[i])
		}
	}
	v.Origin, v.Where = FromFile, in.File.at(e.value)
	show(values)
	if e.secret {
		v.Text = e.source
	}
	if err := s.Set(values); err != nil {
		return v, Problems{in.File.problem(e.value, s.Key, "%s", in.File.hide(err.Error()))}
	}
	return v, nil
}

func (s Setting) take(values []string, where string) error {
	if err := s.Set(values); err != nil {
		text := strings.TrimPrefix(err.Error(), where+" ")
		return ops.Errorf(ops.Invalid, "%s: %s", where, text)
	}
	return nil
}

func splitList(s string) (out []string) {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// Place tells where the value stands that an error speaks of, if its message
// begins with a flag's name and the value did not come from that flag.
func (e Effective) Place(err error) error {
	rest, ok := strings.CutPrefix(err.Error(), "--")
	if !ok {
		return err
	}
	name, rest, _ := strings.Cut(rest, " ")
	for _, v := range e.Values {
		if v.Key == strings.TrimSuffix(name, ":") && (v.Origin == FromFile || v.Origin == FromEnv) {
			return ops.Errorf(ops.KindOf(err), "%s: %s %s", v.Where, name, rest)
		}
	}
	return err
}

// Changes names the keys whose values differ between two generations, sorted:
// those that hold from now on, and those that wait for the next start. Keys of
// sections are their first element.
func Changes(before, after Effective) (now, restart []string) {
	type said struct {
		raw     []string
		restart bool
	}
	collect := func(e Effective) map[string]*said {
		m := map[string]*said{}
		for _, v := range e.Values {
			key, _, _ := strings.Cut(v.Key, ".")
			if key, _, _ = strings.Cut(key, "["); m[key] == nil {
				m[key] = &said{}
			}
			if v.Origin != FromDefault {
				m[key].raw = append(m[key].raw, v.Key+"="+v.raw)
			}
			m[key].restart = m[key].restart || v.Restart
		}
		return m
	}
	a, b := collect(before), collect(after)
	for key := range b {
		if a[key] == nil {
			a[key] = &said{restart: b[key].restart}
		}
	}
	for key, x := range a {
		y := b[key]
		if y == nil {
			y = &said{}
		}
		if slices.Equal(x.raw, y.raw) {
			continue
		}
		if x.restart || y.restart {
			restart = append(restart, key)
		} else {
			now = append(now, key)
		}
	}
	slices.Sort(now)
	slices.Sort(restart)
	return now, restart
}

// Places are where a configuration is looked for when none is named.
func Places() []string { return []string{"ops.yaml", "/etc/ops/ops.yaml"} }

// Find says which file is used: named, or else the first of Places that exists;
// "" if there is none.
func Find(named string) (string, error) {
	if named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", ops.Errorf(ops.Invalid, "--config: %w: `ops config init` writes one to start from", err)
		}
		return named, nil
	}
	for _, p := range Places() {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", nil
}

// maxFile is far above anything that a person writes.
const maxFile = 1 << 20

// Read reads a file; getenv answers ${env:NAME}.
func Read(path string, getenv func(string) string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "configuration: %w", err)
	}
	if len(b) > maxFile {
		return nil, ops.Errorf(ops.Invalid, "configuration: %s is larger than %d MiB: keep lists of targets in files of their own", path, maxFile>>20)
	}
	parsed, err := Parse(path, b, getenv)
	if parsed != nil {
		parsed.Sum = sha256.Sum256(b)
	}
	return parsed, err
}

// Abs is where a name in the file leads: relative ones start at its directory.
func (f *File) Abs(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(f.Name), name)
}

// Problem is one thing that is wrong with a file.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Key     string `json:"key,omitempty"` // such as sources.etcd[0].endpoints
	Message string `json:"message"`
}

func (p *Problem) String() string {
	s := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Key != "" {
		s += p.Key + ": "
	}
	return s + p.Message
}

// Problems is everything that is wrong with a file, in its order.
type Problems []*Problem

func (p Problems) Error() string {
	var lines []string
	for _, one := range p {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes it an Invalid error.
func (p Problems) Unwrap() error {
	return &ops.Error{Kind: ops.Invalid, Message: "the configuration is wrong"}
}
