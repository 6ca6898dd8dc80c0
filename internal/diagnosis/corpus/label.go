// Package corpus measures the diagnosis on small programs whose faults are
// known. It knows the product only from outside: it runs ops and reads what that
// prints, so that a change within the rules cannot change how they are judged.
package corpus

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Program is one program of the corpus with what is known of it.
type Program struct {
	Name string
	Dir  string
	Label
}

// Label is what expect.json says of a program. The zero value is of no program:
// one is either healthy or has findings.
type Label struct {
	// Findings are the causes that have to be found, the gravest first.
	Findings []Expected `json:"findings"`
	// Acceptable are rules that are also true of the program: to report them is
	// neither required nor wrong.
	Acceptable []string `json:"acceptable"`
	// Healthy programs have no finding at all.
	Healthy bool `json:"healthy"`
	// Note says what the program does, and why it is labelled so.
	Note string `json:"note"`

	// SettleSeconds is how long it takes to its state; 0 = 4.
	SettleSeconds float64 `json:"settle_seconds"`
	// Fresh: each capture is of a process of its own, from its first second on.
	Fresh bool `json:"fresh"`
	// CPUQuota limits the process to so many cores by a cgroup; 0 = no limit.
	// Where none can be made the program is skipped.
	CPUQuota float64 `json:"cpu_quota"`
	// Env is added to the process's environment, as NAME=value.
	Env []string `json:"env"`
	// Quick programs are the subset that every test run takes.
	Quick bool `json:"quick"`
}

// Expected is a finding that a program must get.
type Expected struct {
	// Rule that should find it.
	Rule string `json:"rule"`
	// Or are rules whose answer is as good.
	Or []string `json:"or,omitempty"`
	// Function, File and Line are the place to change first: the function as in a
	// profile, the file's base name, the line from 1. All are empty when the code
	// marks the line instead.
	Function string `json:"function,omitempty"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	// Mark is the word of the markers that show the place; empty = the rule.
	Mark string `json:"mark,omitempty"`
	// Also are places that are as good.
	Also []Place `json:"also,omitempty"`
	// Anywhere: none of the program's own lines is to blame, so that no place is wrong.
	Anywhere bool `json:"anywhere,omitempty"`
	// Only "agent": nothing from outside the process could show it.
	Only Way `json:"only,omitempty"`
}

// Place is a line of code.
type Place struct {
	Function string `json:"function"`
	File     string `json:"file"`
	Line     int    `json:"line"`
}

func (p Place) String() string { return fmt.Sprintf("%s %s:%d", p.Function, p.File, p.Line) }

// Way is how a program was captured.
type Way string

// The ways.
const (
	Agent     Way = "agent"
	Agentless Way = "agentless"
)

// Places are all that are right, the best first.
func (e Expected) Places() []Place {
	var all []Place
	if e.Function != "" || e.File != "" {
		all = append(all, Place{e.Function, e.File, e.Line})
	}
	return append(all, e.Also...)
}

// answers reports whether a finding of that rule could be this one.
func (e Expected) answers(rule string) bool {
	return rule == e.Rule || slices.Contains(e.Or, rule)
}

// Settle is how long to wait before the program is in its state.
func (l *Label) Settle() time.Duration {
	return time.Duration(cmp.Or(l.SettleSeconds, 4) * float64(time.Second))
}

const sidecar = "expect.json"

// Load reads the programs below dir whose names match, in the order of their
// names. A label that cannot be right is an error.
func Load(dir string, match *regexp.Regexp) ([]Program, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var programs []Program
	for _, e := range entries {
		if !e.IsDir() || !match.MatchString(e.Name()) {
			continue
		}
		p, err := load(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a folder without a label holds no program
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		programs = append(programs, p)
	}
	if len(programs) == 0 {
		return nil, fmt.Errorf("no program in %s matches %q: each is a folder with a main.go and an %s", dir, match, sidecar)
	}
	return programs, nil
}

func load(dir string) (Program, error) {
	p := Program{Name: filepath.Base(dir), Dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, sidecar))
	if err != nil {
		return p, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p.Label); err != nil {
		return p, fmt.Errorf("%s: %w", sidecar, err)
	}
	marks, err := findMarks(dir)
	if err != nil {
		return p, err
	}
	if err := p.resolve(marks); err != nil {
		return p, fmt.Errorf("%s: %w", sidecar, err)
	}
	return p, nil
}

// resolve fills in the places that the code marks, and checks the label.
func (l *Label) resolve(marks map[string][]Place) error {
	if l.Healthy == (len(l.Findings) > 0) {
		return errors.New("a program is either healthy or has findings: set one")
	}
	used := map[string]bool{}
	for i := range l.Findings {
		e := &l.Findings[i]
		mark := cmp.Or(e.Mark, e.Rule)
		switch {
		case e.Rule == "":
			return fmt.Errorf("finding %d names no rule", i+1)
		case e.Only != "" && e.Only != Agent:
			return fmt.Errorf("finding %s: only %q: say \"agent\", or leave it out", e.Rule, e.Only)
		case len(e.Places()) > 0:
			continue
		case e.Anywhere:
		case len(marks[mark]) == 0:
			return fmt.Errorf("finding %s has no place: name one, or mark its line with // want: %s", e.Rule, mark)
		}
		e.Also = marks[mark]
		used[mark] = true
	}
	for mark := range marks {
		if !used[mark] {
			return fmt.Errorf("the code marks %s, which is no finding here", mark)
		}
	}
	return nil
}

var marker = regexp.MustCompile(`//\s*want: ([a-z0-9 -]+?)\s*$`)

// findMarks finds the lines that carry a comment such as "// want: deadlock", by
// the word of the marker. Several words are separated by spaces.
func findMarks(dir string) (map[string][]Place, error) {
	marks := map[string][]Place{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return marksOf(filepath.Base(name), src, marks)
	})
	return marks, err
}

func marksOf(name string, src []byte, marks map[string][]Place) error {
	if !bytes.Contains(src, []byte("want:")) {
		return nil
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, 0)
	if err != nil {
		return err
	}
	line := 0
	for s := bufio.NewScanner(bytes.NewReader(src)); s.Scan(); {
		line++
		m := marker.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		for _, word := range strings.Fields(m[1]) {
			marks[word] = append(marks[word], Place{enclosing(fset, file, line), name, line})
		}
	}
	return nil
}

// enclosing names the declared function around a line, as a profile does.
func enclosing(fset *token.FileSet, file *ast.File, line int) string {
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || fset.Position(f.Pos()).Line > line || fset.Position(f.End()).Line < line {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil {
			name = receiver(f.Recv.List[0].Type) + "." + name
		}
		return file.Name.Name + "." + name
	}
	return ""
}

func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return "(*" + receiver(t.X) + ")"
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.IndexListExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}

var (
	typeArguments = regexp.MustCompile(`\[[^\[\]]*\]`)
	closures      = regexp.MustCompile(`(\.func\d+|\.gowrap\d+|\.deferwrap\d+|-range\d+|\.\d+|-fm)+$`)
	// A closure of a function that was inlined has that one's name after the one that
	// it was inlined into.
	inlinedInto = regexp.MustCompile(`^(\w+)\..*(?:\.func\d+(?:\.\d+)*\.|\.(\(\*))`)
)

// plain is a function's name without its import path, its type arguments, and
// what the compiler calls the closures in it: people fix the function around.
func plain(function string) string {
	for typeArguments.MatchString(function) {
		function = typeArguments.ReplaceAllString(function, "")
	}
	outer := closures.ReplaceAllString(path.Base(function), "")
	if outer == path.Base(function) {
		return outer
	}
	return inlinedInto.ReplaceAllString(outer, "$1.$2")
}

// Describe writes a line for each program: what it does, and what is expected.
func Describe(w io.Writer, programs []Program) {
	for _, p := range programs {
		if p.Healthy {
			fmt.Fprintf(w, "%s: healthy", p.Name)
		} else {
			fmt.Fprintf(w, "%s:", p.Name)
		}
		for i, e := range p.Findings {
			if i > 0 {
				fmt.Fprint(w, ", and")
			}
			fmt.Fprintf(w, " %s", strings.Join(append([]string{e.Rule}, e.Or...), " or "))
			for n, place := range e.Places() {
				fmt.Fprintf(w, "%s %s", []string{" at", " or"}[min(n, 1)], place)
			}
			if e.Only != "" {
				fmt.Fprintf(w, " (%s only)", e.Only)
			}
		}
		if len(p.Acceptable) > 0 {
			fmt.Fprintf(w, " (also true: %s)", strings.Join(p.Acceptable, ", "))
		}
		fmt.Fprintf(w, ". %s\n", p.Note)
	}
}
