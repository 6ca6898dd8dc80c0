package diagnosis

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// A block profile of 100 s: 60 s and 20 s of main.write in two calls of a library, 10 s
// of main.read, and 10 s of the observer.
func blocked() *evidence.Evidence {
	frames := evidence.NewFrames("example.com/shop")
	row := func(seconds int64, functions ...string) evidence.Row {
		var s evidence.Stack
		for _, f := range functions {
			s = append(s, frames.Of(f, "/src/a.go", 1))
		}
		return evidence.Row{Stack: s, Values: []int64{1, seconds * 1e9}}
	}
	return &evidence.Evidence{Block: &evidence.Profile{
		Kind: ops.KindBlock, Types: []profile.ValueType{{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}}, Observer: []int64{1, 10e9},
		Rows: []evidence.Row{row(60, "lib.acquire", "main.write"), row(20, "lib.exec", "main.write"), row(10, "lib.exec", "main.read")},
	}}
}

func TestFiguresPointToWhereTheyAreInTheFile(t *testing.T) {
	where := []ops.Place{{Function: "main.write", File: "a.go", Line: 1}, {Function: "main.read", File: "a.go", Line: 1}, {Function: "main.other"}}
	for _, c := range []struct {
		p    ops.Proof
		want string
	}{
		{ops.Proof{Value: 80, Unit: "s"}, "main.write"},
		{ops.Proof{Value: 10, Unit: "s"}, "main.read"},
		{ops.Proof{Value: 60, Unit: "s"}, "lib.acquire"}, // a part of what main.write waits
		{ops.Proof{Value: 90, Unit: "s"}, ""},            // everything
		{ops.Proof{Value: 42, Unit: "s"}, "main.write"},  // nowhere just so much: where it begins
		{ops.Proof{Value: 0.3, Unit: "cores", Share: 0.3}, ""},
		{ops.Proof{Value: 80.0 / 90, Unit: "ratio", Share: 80.0 / 90}, "main.write"},
		{ops.Proof{Value: 0.5, Unit: "share", Share: 0.5}, ""},
	} {
		c.p.Artifact = ops.KindBlock
		d := ops.Diagnosis{Findings: []ops.Finding{{Where: where, Evidence: []ops.Proof{c.p}}}}
		sights(&d, blocked())
		var got []string
		for _, at := range d.Findings[0].Evidence[0].At {
			got = append(got, at.Function)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%g %s is seen at %q, want %q", c.p.Value, c.p.Unit, got, c.want)
		}
	}
}

func TestPlacesThatAreNotInTheFileAreNotPointedTo(t *testing.T) {
	d := ops.Diagnosis{Findings: []ops.Finding{{Where: []ops.Place{{Function: "main.other"}}, Evidence: []ops.Proof{{Artifact: ops.KindBlock, Value: 42, Unit: "s"}, {Artifact: ops.KindMutex, Value: 42, Unit: "s"}}}}}
	sights(&d, blocked())
	for _, p := range d.Findings[0].Evidence {
		if p.At != nil {
			t.Errorf("%s: %v", p.Artifact, p.At)
		}
	}
}

func TestSharesAreOfTheWholeFile(t *testing.T) {
	p := ops.Proof{Artifact: ops.KindBlock, Value: 60, Unit: "s", Share: 60.0 / 90, Text: ops.Text{EN: "60 s, 67 % of all blocking", ZH: "60 s，占 67 %"}}
	d := ops.Diagnosis{Findings: []ops.Finding{{Where: []ops.Place{{Function: "main.write"}}, Evidence: []ops.Proof{p}}}}
	sights(&d, blocked())
	p = d.Findings[0].Evidence[0]
	const want = "60 s, 67 % of all blocking; of the whole file, in which 10.0 s are the observer's own, it is 60 %\n60 s，占 67 %；檔案裡另有 10.0 s 屬於觀測本身，連同計算則占 60 %\n0.600"
	if got := fmt.Sprintf("%s\n%s\n%.3f", p.Text.EN, p.Text.ZH, p.Share); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
