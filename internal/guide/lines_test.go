package guide_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/guide"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/report"
)

const game = "github.com/opscenter/opscenter/examples/colorgame/"

// Who reads the guide beside the game's source must find there what it says: the
// places that the samples name hold today what they held when they were recorded.
func TestTheLinesOfSamplesAreThoseOfTheTree(t *testing.T) {
	g := guide.New(&shelf{has: map[ops.CaptureID]ops.Capture{}})
	for scenario := 1; scenario <= guide.Scenarios; scenario++ {
		s, err := g.Sample(t.Context(), scenario)
		if err != nil {
			t.Fatal(err)
		}
		all, _, err := report.Parse(s.Bodies[ops.English])
		if err != nil {
			t.Fatal(err)
		}
		calls := callsOf(t, scenario)
		named := 0
		for _, f := range all[0].Findings {
			for _, p := range f.Where {
				if !strings.HasPrefix(p.Function, game) || p.Line == 0 {
					continue
				}
				named++
				if wrong := wrongLine(t, p, calls[place{p.Function, p.Line}]); wrong != "" {
					t.Errorf("the sample of scenario %d names %s at %s:%d, and in the tree %s: record it anew with scripts/samples.sh internal/guide/samples %d", scenario, p.Function, p.File, p.Line, wrong, scenario)
				}
			}
		}
		if named == 0 {
			t.Errorf("the sample of scenario %d names no line of the game", scenario)
		}
	}
}

type place struct {
	function string
	line     int
}

// callsOf are the functions that were called at each place of the game, by the stacks
// of a sample.
func callsOf(t *testing.T, scenario int) map[place][]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("samples", string(rune('0'+scenario))+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := archive.OpenBundle(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	var files []evidence.File
	target := b.Capture.Targets[0]
	for _, a := range target.Artifacts {
		var w bytes.Buffer
		if err := b.Extract(t.Context(), target.Instance.ID, a.Name, &w); err != nil {
			t.Fatal(err)
		}
		files = append(files, evidence.File{Name: a.Name, Reader: bytes.NewReader(w.Bytes()), Size: int64(w.Len())})
	}
	e, err := evidence.Load(t.Context(), files, evidence.Options{Instance: target.Instance})
	if err != nil {
		t.Fatal(err)
	}
	out := map[place][]string{}
	add := func(s evidence.Stack) {
		for i := 1; i < len(s); i++ {
			at := place{s[i].Function, s[i].Line}
			out[at] = append(out[at], s[i-1].Function)
		}
	}
	for _, p := range []*evidence.Profile{e.CPU, e.Heap, e.Block, e.Mutex} {
		if p != nil {
			for _, r := range p.Rows {
				add(r.Stack)
			}
		}
	}
	for _, gs := range []*evidence.Goroutines{e.Goroutines, e.Dump} {
		if gs != nil {
			for _, group := range gs.Groups {
				add(group.Stack)
			}
		}
	}
	if e.Trace != nil {
		for i := range e.Trace.Sites {
			add(e.Trace.Sites[i].Stack)
		}
		for _, w := range e.Trace.Wakes {
			add(w.Waker)
		}
	}
	return out
}

var closure = regexp.MustCompile(`\.(func\d+|gowrap\d+|\d+)(\.\d+)*$`)

// wrongLine says what is at a place instead of what a sample says; "" = the same.
func wrongLine(t *testing.T, p ops.Place, called []string) string {
	t.Helper()
	name := p.Function
	for closure.MatchString(name) {
		name = closure.ReplaceAllString(name, "")
	}
	slash := strings.LastIndex(name, "/")
	pkg, symbol, _ := strings.Cut(name[slash+1:], ".")
	file := filepath.Join("..", "..", strings.TrimPrefix(name[:slash+1], "github.com/opscenter/opscenter/"), pkg, filepath.Base(p.File))
	src, err := os.ReadFile(file)
	if err != nil {
		return "there is no such file"
	}
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range tree.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || set.Position(fn.Pos()).Line > p.Line || set.Position(fn.End()).Line < p.Line {
			continue
		}
		if fn.Name.Name != symbol[strings.LastIndex(symbol, ".")+1:] {
			return "that line is of " + fn.Name.Name
		}
		line := strings.TrimSpace(strings.Split(string(src), "\n")[p.Line-1])
		// What is deferred is called at the function's end.
		if len(called) == 0 || strings.HasPrefix(line, "return") || line == "}" || strings.HasPrefix(line, "}") {
			return ""
		}
		for _, f := range called {
			for closure.MatchString(f) {
				f = closure.ReplaceAllString(f, "")
			}
			if short := strings.TrimSuffix(f[strings.LastIndex(f, ".")+1:], "[...]"); strings.Contains(line, short) {
				return ""
			}
		}
		if strings.HasPrefix(line, "select") || strings.Contains(line, "range ") || strings.Contains(line, "<-") || strings.Contains(line, "make(") || strings.Contains(line, "go ") || strings.Contains(line, "&") {
			return "" // what the compiler makes of these has names of its own
		}
		return "it says " + line
	}
	return "that line is of no function"
}
