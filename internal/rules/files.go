package rules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// File is a file of rules as it is on disk.
type File struct {
	Name  string // base name
	Text  string
	Rules []Def
	// Error says what is wrong with it, and where; its rules are then those that it
	// had when it was last right.
	Error string
}

const presetsFile = "presets.yaml"

var fileForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,60}\.ya?ml$`)

// prepare makes the directory, with the presets, if there is none.
func (c *Center) prepare() error {
	_, err := os.Stat(c.cfg.Dir)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return ops.Errorf(ops.Invalid, "rules: %w", err)
	}
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return ops.Errorf(ops.Invalid, "rules: %w", err)
	}
	if err := writeWhole(filepath.Join(c.cfg.Dir, presetsFile), presets); err != nil {
		return ops.Errorf(ops.Invalid, "rules: %w", err)
	}
	return nil
}

func writeWhole(path string, text []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// names are the files of the directory in order.
func (c *Center) names() (out []string, stamp string) {
	entries, err := os.ReadDir(c.cfg.Dir)
	if err != nil {
		return nil, err.Error()
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.IsDir() || !fileForm.MatchString(e.Name()) || len(out) == 100 {
			continue
		}
		out = append(out, e.Name())
		fmt.Fprintf(&b, "%s %d %d\n", e.Name(), info.Size(), info.ModTime().UnixNano())
	}
	return out, b.String()
}

// reload reads the files if they changed.
func (c *Center) reload() {
	names, stamp := c.names()
	c.mu.Lock()
	old, same := c.files, stamp == c.stamp
	c.mu.Unlock()
	if same {
		return
	}
	var files []File
	taken := map[string]string{}
	for _, name := range names {
		f := File{Name: name}
		if i := slices.IndexFunc(old, func(o File) bool { return o.Name == name }); i >= 0 {
			f = old[i]
		}
		text, err := os.ReadFile(filepath.Join(c.cfg.Dir, name))
		if err == nil {
			f.Text = string(text)
			var defs []Def
			if defs, err = Parse(name, text); err == nil {
				err = clash(defs, taken)
			}
			if err == nil {
				f.Rules = defs
			}
		}
		f.Error = ""
		if err != nil {
			f.Error = err.Error()
			c.log.Warn("a file of rules is wrong: what it said before holds", "err", err)
		}
		for _, d := range f.Rules {
			taken[d.Name] = name
		}
		files = append(files, f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files, c.stamp = files, stamp
	c.version++
}

// clash refuses names that another file has.
func clash(defs []Def, taken map[string]string) error {
	for _, d := range defs {
		if other := taken[d.Name]; other != "" {
			return &FileError{d.File, d.Line, fmt.Sprintf("%s has a rule named %s as well", other, d.Name)}
		}
	}
	return nil
}

// Files returns the files and what they hold.
func (c *Center) Files() []File {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.files)
}

// Rule returns one by name.
func (c *Center) Rule(name string) (Def, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.files {
		for _, d := range f.Rules {
			if d.Name == name {
				return d, nil
			}
		}
	}
	return Def{}, ops.Errorf(ops.NotFound, "there is no rule %q: list them with `ops rules list`", name)
}

// Put writes a file, if it is right. before is what the caller saw of it: Conflict
// if somebody else has changed it since. An empty text deletes it.
func (c *Center) Put(name, before, text string) error {
	if !fileForm.MatchString(name) {
		return ops.Errorf(ops.Invalid, "%q cannot be the name of a file of rules: use letters, digits, dot, underscore and hyphen, and end with .yaml", name)
	}
	taken := map[string]string{}
	for _, f := range c.Files() {
		if f.Name != name {
			for _, d := range f.Rules {
				taken[d.Name] = f.Name
			}
		}
	}
	defs, err := Parse(name, []byte(text))
	if err == nil {
		err = clash(defs, taken)
	}
	if err != nil {
		return ops.Errorf(ops.Invalid, "%w", err)
	}
	path := filepath.Join(c.cfg.Dir, name)
	now, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ops.Errorf(ops.Unavailable, "%w", err)
	}
	if string(now) != before {
		return ops.Errorf(ops.Conflict, "%s was changed meanwhile: look at it again, then change it", name)
	}
	if strings.TrimSpace(text) == "" {
		err = os.Remove(path)
	} else {
		err = writeWhole(path, []byte(text))
	}
	if err != nil {
		return ops.Errorf(ops.Unavailable, "%w", err)
	}
	c.reload()
	return nil
}

var enabledForm = regexp.MustCompile(`^(\s+(?:- )?enabled:\s*)(true|false)(\s*(?:#.*)?)$`)

// Enable switches a rule on or off in its file and leaves everything else of the
// file as it is.
func (c *Center) Enable(name string, on bool) error {
	d, err := c.Rule(name)
	if err != nil || d.Enabled == on {
		return err
	}
	files := c.Files()
	f := files[slices.IndexFunc(files, func(f File) bool { return f.Name == d.File })]
	lines := strings.Split(f.Text, "\n")
	end := len(lines) + 1
	for _, o := range f.Rules {
		if o.Line > d.Line {
			end = min(end, o.Line)
		}
	}
	for i := d.Line - 1; i < end-1; i++ {
		if m := enabledForm.FindStringSubmatch(lines[i]); m != nil {
			lines[i] = m[1] + fmt.Sprint(on) + m[3]
			return c.Put(d.File, f.Text, strings.Join(lines, "\n"))
		}
	}
	if on {
		return ops.Errorf(ops.Invalid, `%s:%d: "enabled" of rule %s does not stand on a line of its own: edit the file`, d.File, d.Line, name)
	}
	// It is on because nothing says otherwise: say so below its first line.
	indent := len(lines[d.Line-1]) - len(strings.TrimLeft(lines[d.Line-1], " -"))
	lines = slices.Insert(lines, d.Line, strings.Repeat(" ", indent)+"enabled: false")
	return c.Put(d.File, f.Text, strings.Join(lines, "\n"))
}
