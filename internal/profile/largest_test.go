package profile_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
)

// nodes renders a tree as it is drawn, without what stands for pruned branches.
func nodes(t *profile.Tree) (lines []string, pruned int) {
	children := map[profile.NodeID][]profile.NodeID{}
	for n := 1; n < t.Len(); n++ {
		p := t.Parent(profile.NodeID(n))
		children[p] = append(children[p], profile.NodeID(n))
	}
	var walk func(n profile.NodeID, path string)
	walk = func(n profile.NodeID, path string) {
		values := ""
		for c := range t.Columns() {
			values += fmt.Sprintf(" %d", t.Total(n, c))
		}
		lines = append(lines, path+values)
		for _, k := range children[n] {
			name := t.Symbol(k).String()
			if name == profile.PrunedFrame || name == profile.PrunedNegativeFrame {
				pruned++
				continue
			}
			walk(k, fmt.Sprintf("%s;%s:%d", path, name, t.Frame(k).Line))
		}
	}
	walk(0, "")
	slices.Sort(lines)
	return lines, pruned
}

func TestTheLargestNodesAreThoseOfTheWholeTree(t *testing.T) {
	encoded := func(seed uint64) []byte {
		var b bytes.Buffer
		if err := profiletest.Synthetic(profiletest.Shape{Samples: 2000, Functions: 200, MaxDepth: 14, Seed: seed}).Write(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	read := func(b []byte) *profile.Profile {
		p, err := profile.Read(bytes.NewReader(b), profile.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	one, other := read(encoded(3)), read(encoded(4))
	for _, lines := range []bool{false, true} {
		v, err := one.View(profile.Filter{Lines: lines})
		if err != nil {
			t.Fatal(err)
		}
		c, err := profile.Compare(one, other, profile.Filter{Lines: lines}, true)
		if err != nil {
			t.Fatal(err)
		}
		both, err := c.Tree(1, profile.TreeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		single, err := v.Tree(1, profile.TreeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for what, ask := range map[string]struct {
			whole   *profile.Tree
			largest func(int) (*profile.Tree, profile.Pruned)
		}{
			"one": {single, func(n int) (*profile.Tree, profile.Pruned) { return v.Largest(1, n) }},
			"two": {both, func(n int) (*profile.Tree, profile.Pruned) { return c.Largest(1, n) }},
		} {
			all, _ := nodes(ask.whole)
			got, pruned := ask.largest(1 << 20)
			if lines, _ := nodes(got); pruned != (profile.Pruned{}) || cmp.Diff(all, lines) != "" {
				t.Errorf("%s: with room for all: pruned %+v\n%s", what, pruned, cmp.Diff(all, lines))
			}
			for _, most := range []int{4000, 500, 20, 1} {
				got, pruned := ask.largest(most)
				lines, leaves := nodes(got)
				if got.Len() > most && most > 1 || pruned.Subtrees < leaves || leaves == 0 {
					t.Errorf("%s, %d: %d nodes, %d leaves, %+v", what, most, got.Len(), leaves, pruned)
				}
				// Every node that is there is worth what it was, and what is larger than the
				// smallest of them is there.
				if i := slices.IndexFunc(lines, func(l string) bool { return !slices.Contains(all, l) }); i >= 0 {
					t.Fatalf("%s, %d: %s is not so", what, most, lines[i])
				}
				sure := 0
				for n := range ask.whole.Len() {
					share := 0.0
					for col := range ask.whole.Columns() {
						share = max(share, float64(ask.whole.Total(profile.NodeID(n), col))/float64(ask.whole.Total(0, col)))
					}
					if share > pruned.Share {
						sure++
					}
				}
				if len(lines) < sure {
					t.Errorf("%s, %d: %d nodes are larger than %g, there are %d", what, most, sure, pruned.Share, len(lines))
				}
			}
		}
	}
}

func TestWhatIsPrunedOfADeltaKeepsItsSign(t *testing.T) {
	p := read(t, `types: n/count
		main.main:1;main.a:2 60
		main.main:1;main.b:2 30
		main.main:1;main.b:2;main.c:3 -7
		main.main:1;main.b:2;main.d:3 4
		main.gone:1 -5
	`)
	v, err := p.View(profile.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	tree, pruned := v.Largest(0, 6)
	var got []string
	for n := 1; n < tree.Len(); n++ {
		got = append(got, fmt.Sprintf("%s %d", tree.Symbol(profile.NodeID(n)), tree.Self(profile.NodeID(n), 0)))
	}
	slices.Sort(got)
	want := []string{"(pruned) 34", "(pruned, negative) -5", "(pruned, negative) -7", "main.a 60", "main.main 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s%+v", diff, pruned)
	}
}
