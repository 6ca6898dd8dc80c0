package profile_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// read reads a text as parseText does, through our own reader.
func read(t testing.TB, text string) *profile.Profile {
	t.Helper()
	p, err := profile.Read(bytes.NewReader(encode(t, text)), profile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// render writes columns as format writes google/pprof's objects.
func render(p *profile.Profile) string {
	types := "types:"
	for _, t := range p.Types {
		types += " " + t.Type + "/" + t.Unit
	}
	var out []string
	for i := range p.Samples() {
		var frames, labels, values []string
		for _, l := range slices.Backward(p.Stack(i)) {
			at := p.Locations[l]
			if at.From == at.To {
				frames = append(frames, fmt.Sprintf("%#x", at.Address))
			}
			for _, line := range slices.Backward(p.Lines[at.From:at.To]) {
				frames = append(frames, fmt.Sprintf("%s:%d", p.Strings[p.Functions[line.Function].Name], line.Line))
			}
		}
		for _, l := range p.Labels(i) {
			if v := p.Strings[l.Text]; l.Numeric {
				labels = append(labels, fmt.Sprintf("%s=%d", p.Strings[l.Key], l.Number))
			} else {
				labels = append(labels, p.Strings[l.Key]+"="+v)
			}
		}
		slices.Sort(labels)
		for _, column := range p.Values {
			values = append(values, fmt.Sprint(column[i]))
		}
		line := strings.Join(frames, ";")
		if labels != nil {
			line += " {" + strings.Join(labels, " ") + "}"
		}
		out = append(out, line+" "+strings.Join(values, " "))
	}
	slices.Sort(out)
	return fmt.Sprintf("%s\ntime: %d %d\n%s\n", types, p.TimeNanos, p.DurationNanos, strings.Join(out, "\n"))
}

func TestColumnsHoldAllThatTheProfileHas(t *testing.T) {
	for _, s := range subjects(t) {
		p, err := profile.Read(bytes.NewReader(s.data), profile.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if diff := cmp.Diff(format(t, s.data), render(p)); diff != "" {
			t.Errorf("%s (- pprof, + ours):\n%s", s.name, diff)
		}
		want, err := pprof.ParseData(s.data)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range want.Location {
			if got := p.Locations[i]; got.Address != l.Address {
				t.Errorf("%s: location %d is at %#x, want %#x", s.name, i, got.Address, l.Address)
			} else if m := l.Mapping; m != nil && (p.Strings[p.Mappings[got.Mapping].File] != m.File || p.Strings[p.Mappings[got.Mapping].BuildID] != m.BuildID) {
				t.Errorf("%s: location %d is in another mapping", s.name, i)
			}
		}
	}
}

func TestTypeIsTheDefaultOrAName(t *testing.T) {
	p := read(t, "types: samples/count cpu/nanoseconds\nmain.main:1 1 10\n")
	if i, err := p.Type(""); i != 1 || err != nil {
		t.Errorf("default = %d, %v; want the last", i, err)
	}
	if i, err := p.Type("samples"); i != 0 || err != nil {
		t.Errorf("samples = %d, %v", i, err)
	}
	_, err := p.Type("space")
	want := `the profile has no values of type "space": choose one of samples, cpu`
	if err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
		t.Errorf("got %v", err)
	}
	p.DefaultType = "samples"
	if i, err := p.Type(""); i != 0 || err != nil {
		t.Errorf("default = %d, %v; want the profile's", i, err)
	}
}

func TestExpressionsThatCannotBeReadAreRefusedInWords(t *testing.T) {
	p := read(t, "types: n/count\nmain.main:1 1\n")
	_, err := p.View(profile.Filter{Focus: "main.("})
	want := "focus is no regular expression (error parsing regexp: missing closing ): `main.(`): write one, such as ^main\\."
	if err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
		t.Errorf("got %v", err)
	}
}

func TestHiddenPackagesCostTheirCallers(t *testing.T) {
	p := read(t, `types: n/count
		main.main:1;example.com/log/v2.(*Logger).Print:2;fmt.Sprintf:3;fmt.(*pp).doPrint:4 7
		main.main:1;example.com/log/v2.write[example.com/x.T]:9 1
	`)
	v, err := p.View(profile.Filter{HidePackages: []string{"fmt", "example.com/log/v2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(v.Top(0).Rows); !strings.HasPrefix(got, "[{main.main 8 8}") || len(v.Top(0).Rows) != 1 {
		t.Errorf("rows = %v", got)
	}
}

func TestPackageOfAFunction(t *testing.T) {
	for name, want := range map[string]string{
		"main.main": "main", "net/http.(*conn).serve": "net/http", "example.com/a/v2.F[go.shape.struct { b/c.X int }].func1": "example.com/a/v2",
		"gopkg.in/yaml%2ev3.Unmarshal": "gopkg.in/yaml.v3", "runtime.goexit": "runtime", "main.(*T[a/b.C]).M": "main", "memcpy": "memcpy", "": "",
	} {
		if got := profile.Package(name); got != want {
			t.Errorf("%q is of %q, want %q", name, got, want)
		}
	}
}

func TestComparisonSaysWhatIsOnlyOnOneSide(t *testing.T) {
	before := read(t, "types: n/count\nmain.main:1;main.old:2 5\nmain.main:1;main.same:2 3\n")
	after := read(t, "types: n/count\nmain.main:1;main.new:2 4\nmain.main:1;main.same:2 3\n")
	c, err := profile.Compare(before, after, profile.Filter{}, false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.Top(0).Rows {
		got = append(got, fmt.Sprintf("%s %d %d→%d %t %t", r.Symbol, r.Flat(), r.CumBefore, r.CumAfter, r.OnlyBefore, r.OnlyAfter))
	}
	want := []string{"main.old -5 5→0 true false", "main.new 4 0→4 false true", "main.main 0 8→7 false false", "main.same 0 3→3 false false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestComparisonOfDifferentKindsIsRefused(t *testing.T) {
	_, err := profile.Compare(read(t, "types: n/count\nmain.main:1 1\n"), read(t, "types: space/bytes\nmain.main:1 1\n"), profile.Filter{}, false)
	want := "these profiles are of different kinds (n/count per cpu/nanoseconds, and space/bytes per cpu/nanoseconds): choose profiles of one kind"
	if err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
		t.Errorf("got %v", err)
	}
}

// outline draws a tree, one node a line, children by name.
func outline(tree *profile.Tree) string {
	children := map[profile.NodeID][]profile.NodeID{}
	for n := profile.NodeID(1); int(n) < tree.Len(); n++ {
		children[tree.Parent(n)] = append(children[tree.Parent(n)], n)
	}
	var b strings.Builder
	var walk func(n profile.NodeID, depth int)
	walk = func(n profile.NodeID, depth int) {
		slices.SortFunc(children[n], func(x, y profile.NodeID) int {
			return strings.Compare(tree.Symbol(x).String(), tree.Symbol(y).String())
		})
		for _, c := range children[n] {
			fmt.Fprintf(&b, "%s%s", strings.Repeat(". ", depth), tree.Symbol(c))
			if line := tree.Frame(c).Line; line != 0 {
				fmt.Fprintf(&b, ":%d", line)
			}
			for k := range tree.Columns() {
				fmt.Fprintf(&b, " %d/%d", tree.Total(c, k), tree.Self(c, k))
			}
			b.WriteString("\n")
			walk(c, depth+1)
		}
	}
	walk(0, 0)
	return b.String()
}

func TestTreeFromAFunctionAndToItsCallers(t *testing.T) {
	p := read(t, `types: n/count
		main.main:1;main.a:2;main.f:3;main.g:4 1
		main.main:1;main.b:2;main.f:5;main.a:2;main.f:3 10
		main.main:1;main.b:2 100
	`)
	v, err := p.View(profile.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		options profile.TreeOptions
		want    string
	}{
		{profile.TreeOptions{}, "main.main 111/0\n. main.a 1/0\n. . main.f 1/0\n. . . main.g 1/1\n. main.b 110/100\n. . main.f 10/0\n. . . main.a 10/0\n. . . . main.f 10/10\n"},
		{profile.TreeOptions{Root: "main.f"}, "main.f 11/0\n. main.a 10/0\n. . main.f 10/10\n. main.g 1/1\n"},
		{profile.TreeOptions{Root: "main.f", Callers: true}, "main.f 11/0\n. main.a 1/0\n. . main.main 1/1\n. main.b 10/0\n. . main.main 10/10\n"},
		{profile.TreeOptions{Callers: true}, "main.b 100/0\n. main.main 100/100\nmain.f 10/0\n. main.a 10/0\n. . main.f 10/0\n. . . main.b 10/0\n. . . . main.main 10/10\nmain.g 1/0\n. main.f 1/0\n. . main.a 1/0\n. . . main.main 1/1\n"},
	} {
		tree, err := v.Tree(0, test.options)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, outline(tree)); diff != "" {
			t.Errorf("%+v:\n%s", test.options, diff)
		}
	}
	if v, err = p.View(profile.Filter{Lines: true, Focus: "^main.f$"}); err != nil {
		t.Fatal(err)
	}
	tree, err := v.Tree(0, profile.TreeOptions{Root: "main.f"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("main.f:3 1/0\n. main.g:4 1/1\nmain.f:5 10/0\n. main.a:2 10/0\n. . main.f:3 10/10\n", outline(tree)); diff != "" {
		t.Error(diff)
	}
	_, err = v.Tree(0, profile.TreeOptions{Root: "main.nobody"})
	if want := `the profile has no function "main.nobody": take a name from its table of functions`; err == nil || err.Error() != want || ops.KindOf(err) != ops.NotFound {
		t.Errorf("got %v", err)
	}
}

func TestComparedTreesAreOneTree(t *testing.T) {
	before := read(t, "types: n/count\nmain.main:1;main.old:2 5\nmain.main:1;main.same:2 3\n")
	after := read(t, "types: n/count\nmain.main:1;main.new:2 4\nmain.main:1;main.same:2 3\n")
	c, err := profile.Compare(before, after, profile.Filter{}, false)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := c.Tree(0, profile.TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("main.main 8/0 7/0\n. main.new 0/0 4/4\n. main.old 5/5 0/0\n. main.same 3/3 3/3\n", outline(tree)); diff != "" {
		t.Error(diff)
	}
}

func FuzzRead(f *testing.F) {
	for name, p := range foreign() {
		var b bytes.Buffer
		if err := p.WriteUncompressed(&b); err != nil {
			f.Fatalf("%s: %v", name, err)
		}
		f.Add(b.Bytes())
	}
	raw, err := profile.Decompress(bytes.NewReader(encode(f, "types: n/count t/nanoseconds\ntime: 5 6\nmain.main:1;main.f:2 {user=ann} 1 2\nmain.main:1 3 4")), profile.Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := profile.Read(bytes.NewReader(in), profile.Limits{DecompressedBytes: 1 << 20, MemoryBytes: 16 << 20})
		if err != nil {
			if ops.KindOf(err) == ops.Internal {
				t.Fatalf("blamed on us: %v", err)
			}
			return
		}
		// Where pprof takes it too, both must have read the same.
		want, err := pprof.ParseUncompressed(in)
		if err == nil {
			err = want.CheckValid()
		}
		if err != nil {
			return // pprof is stricter about fields that nobody reads
		}
		if len(want.Sample) != p.Samples() {
			t.Fatalf("%d samples, pprof has %d", p.Samples(), len(want.Sample))
		}
		for _, filter := range []profile.Filter{{}, {Lines: true, AllFrames: true}, {Focus: "a", Hide: "m", HidePackages: []string{"main"}}, {Ignore: "b", Show: "[a-m]", Labels: []profile.LabelFilter{{Key: "user", Not: true}}}} {
			v, err := p.View(filter)
			if err != nil {
				t.Fatal(err)
			}
			for typ := range p.Types {
				flat := int64(0)
				for _, r := range v.Top(typ).Rows {
					flat += r.Flat
				}
				tree, err := v.Tree(typ, profile.TreeOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if got := tree.Total(0, 0) - tree.Self(0, 0); got != flat {
					t.Fatalf("the tree is worth %d, the table %d", got, flat)
				}
			}
		}
		c, err := profile.Compare(p, p, profile.Filter{}, true)
		if err != nil {
			t.Fatal(err)
		}
		for typ := range c.Types {
			c.Top(typ)
		}
	})
}
