// Package arch keeps the picture of the tree true: which package may import
// which. It holds nothing but this test.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/opscenter/opscenter/"

// rows lists the tree from the words that everyone uses to the programs that no
// one may import. A package imports only from rows above its own. The longest
// matching prefix decides; a name that ends in "/" means what is below it.
var rows = []struct {
	name     string
	prefixes []string
}{
	{"words", []string{"gen", "internal/ops", "internal/changes", "internal/inflate"}},
	{"the guest, the contracts' suites, how an answer reads, and the form of the configuration", []string{"agent", "internal/config", "internal/ops/opstest", "internal/report"}},
	{"readers", []string{"internal/profile", "internal/trace"}},
	{"readers upon readers", []string{"internal/goroutines", "internal/heaptypes", "internal/speedscope"}},
	{"what they say together", []string{"internal/evidence"}},
	{"the language of rules", []string{"internal/diagnosis/rule"}},
	{"rules", []string{"internal/diagnosis/"}},
	{"diagnosis", []string{"internal/diagnosis"}},
	{"what a file with tables is", []string{"internal/sqlitefile"}},
	{"the record", []string{"internal/audit"}},
	{"guard rails", []string{"internal/guard"}},
	{"engines", []string{"internal/control", "internal/project", "internal/discovery", "internal/fleet", "internal/capture", "internal/archive", "internal/auth", "internal/join", "internal/notify"}},
	{"adapters", []string{"internal/discovery/", "internal/archive/", "internal/audit/", "internal/auth/", "internal/agentlink", "internal/agentless", "internal/console", "internal/console/", "internal/toolui"}},
	{"examiners", []string{"internal/rules", "internal/examine"}},
	{"views", []string{"internal/census", "internal/flame", "internal/guide", "internal/timeline"}},
	{"faces", []string{"internal/api", "internal/cli", "internal/metrics", "web"}},
	{"wiring", []string{"internal/app"}},
	{"programs", []string{"cmd", "examples", "bench", "test", "scripts", "internal/arch", "internal/diagnosis/corpus"}},
}

// narrower says what a package may import where its row alone would allow more.
var narrower = map[string][]string{
	"agent":        {"gen/opscenter/agent"},                                                                       // a service pays for whatever it imports
	"internal/cli": {"gen/opscenter/api", "internal/ops", "internal/report", "internal/audit", "internal/config"}, // a client, not a second centre
	"internal/ops": {},                                                                                            // the words need no one
	"examples":     {"agent", "examples"},                                                                         // what a service could import
	"cmd":          {"internal/app"},                                                                              // main makes a context and calls one function
	"web":          {},                                                                                            // files and a handler
	"internal/api": {"internal/config", "internal/project", "gen/opscenter/api", "internal/timeline", "internal/trace", "internal/ops", "internal/changes", "internal/auth", "internal/join", "internal/capture", "internal/fleet", "internal/archive", "internal/toolui", "internal/audit", "internal/control", "internal/console", "internal/guard", "internal/notify",
		"internal/census", "internal/discovery", "internal/flame", "internal/guide", "internal/timeline", "internal/rules"},
}

// sameRow lists the packages of one subject that are split over folders of one row.
var sameRow = map[string]string{
	"examples": "examples", "bench": "bench", "test": "test", "cmd": "cmd", "scripts": "scripts", "gen": "gen",
	"internal/diagnosis/corpus": "internal/diagnosis/corpus", "internal/toolui": "internal/toolui", "internal/auth": "internal/auth", "internal/console": "internal/console", "internal/discovery": "internal/discovery", "agent": "agent", "web": "web", "internal/evidence": "internal/evidence", "internal/diagnosis/rule": "internal/diagnosis/rule",
}

func TestImportsPointOneWay(t *testing.T) {
	seen := 0
	for pkg, files := range packages(t) {
		seen++
		at := row(pkg)
		if at < 0 {
			t.Errorf("%s is in no row: say in arch_test.go where it belongs", pkg)
			continue
		}
		documented := false
		for _, file := range files {
			documented = documented || file.doc
			for _, to := range file.imports {
				if to == pkg {
					continue // its own external test
				}
				if msg := refusal(pkg, at, to, file.test); msg != "" {
					t.Errorf("%s imports %s: %s", file.name, to, msg)
				}
			}
		}
		if !documented {
			t.Errorf("%s has no package comment", pkg)
		}
	}
	if seen < 5 {
		t.Fatalf("found %d packages: is the root right?", seen)
	}
}

// refusal returns why pkg may not import to, or "".
func refusal(pkg string, at int, to string, test bool) string {
	if test {
		// Tests may use suites and build real things; they still may not reach wiring or programs.
		if row(to) >= len(rows)-2 && row(to) >= at && !related(pkg, to) {
			return "tests do not reach the wiring or the programs"
		}
		return ""
	}
	for prefix, allowed := range narrower {
		if under(pkg, prefix) && !under(to, prefix) && !slices.ContainsFunc(allowed, func(a string) bool { return under(to, a) }) {
			return "it may import only " + strings.Join(allowed, ", ") + " of this module"
		}
	}
	if row(to) >= at && !related(pkg, to) {
		return "imports point from " + rows[at].name + " to the rows above: " + rowNames(at)
	}
	return ""
}

func related(a, b string) bool {
	for prefix := range sameRow {
		if under(a, prefix) && under(b, prefix) {
			return true
		}
	}
	return false
}

func rowNames(below int) string {
	var names []string
	for _, r := range rows[:below] {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

func row(pkg string) int {
	best, at := -1, -1
	for i, r := range rows {
		for _, p := range r.prefixes {
			inside, strict := strings.CutSuffix(p, "/")
			if (pkg == inside && !strict || strings.HasPrefix(pkg, inside+"/")) && len(p) > best {
				best, at = len(p), i
			}
		}
	}
	return at
}

func under(pkg, prefix string) bool { return pkg == prefix || strings.HasPrefix(pkg, prefix+"/") }

type file struct {
	name      string
	imports   []string // of this module, without its path
	test, doc bool
}

// packages reads the tree itself rather than asking the go command, whose answer
// the test cache would keep when the tree changes.
func packages(t *testing.T) map[string][]file {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]file{}
	err = fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if b := path.Base(name); name != "." && (strings.HasPrefix(b, ".") || b == "node_modules" || b == "testdata" || b == "ops-data" || b == "dist" || name == "tools") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		got := file{name: name, test: strings.HasSuffix(name, "_test.go"), doc: f.Doc != nil}
		for _, imp := range f.Imports {
			to, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			if rel, ours := strings.CutPrefix(to, module); ours {
				got.imports = append(got.imports, rel)
			}
		}
		pkg := path.Dir(name)
		out[pkg] = append(out[pkg], got)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range out {
		if under(pkg, "gen") || under(pkg, "examples/colorgame/internal/pb") { // written by machines, without package comments
			for i := range out[pkg] {
				out[pkg][i].doc = true
			}
		}
	}
	return out
}
