package guide_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/diagnosis"
	"github.com/opscenter/opscenter/internal/guide"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/report"
)

var update = flag.Bool("update", false, "write docs/guide/rules.*.md")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is an archive that remembers what was imported.
type shelf struct {
	has  map[ops.CaptureID]ops.Capture
	race bool // somebody else imports first
}

func (s *shelf) Capture(_ context.Context, id ops.CaptureID) (ops.Capture, error) {
	c, ok := s.has[id]
	if !ok || s.race {
		return c, ops.Errorf(ops.NotFound, "there is no capture %s", id)
	}
	return c, nil
}

func (s *shelf) Import(_ context.Context, r io.ReaderAt, size int64, actor string) (ops.Capture, error) {
	b, err := archive.OpenBundle(r, size)
	if err != nil {
		return ops.Capture{}, err
	}
	if _, ok := s.has[b.Capture.ID]; ok {
		return ops.Capture{}, ops.Errorf(ops.Conflict, "it is there")
	}
	c := b.Capture
	c.Actor = actor
	s.has[c.ID] = c
	return c, nil
}

// The guide's chapters name these rules and places: a rule or a sample that
// changes must still show what they say.
func TestSamplesShowWhatTheGuideSays(t *testing.T) {
	g := guide.New(&shelf{has: map[ops.CaptureID]ops.Capture{}})
	for scenario, want := range []string{
		"game-service: nothing",
		"user-service: critical cpu-password-hashing at user.(*Service).Login",
		"game-record-service: critical downstream-wait at record.(*Recorder).write",
		"gateway-service: critical channel-backpressure at ws.(*Hub).Broadcast",
		"game-service: critical lock-held-across-io at game.(*Room).placeStrict",
		"gateway-service: critical goroutine-leak at gateway.(*Session).hold",
	} {
		s, err := g.Sample(t.Context(), scenario)
		if err != nil {
			t.Fatal(err)
		}
		got := string(s.Capture.Service) + ": nothing"
		for _, lang := range []ops.Lang{ops.English, ops.TraditionalChinese} {
			all, _, err := report.Parse(s.Bodies[lang])
			if err != nil || len(all) != 1 {
				t.Fatalf("scenario %d in %s: %d diagnoses, %v", scenario, lang, len(all), err)
			}
			for _, f := range all[0].Findings {
				if f.Severity() != ops.Critical {
					continue
				}
				fn := f.Where[0].Function
				got = fmt.Sprintf("%s: %s %s at %s", s.Capture.Service, f.Severity(), f.Rule, fn[strings.LastIndex(fn, "/")+1:])
				break
			}
			if got != want {
				t.Errorf("scenario %d: %s, want %s", scenario, got, want)
			}
		}
	}
}

func TestSamplesAreSmall(t *testing.T) {
	files, err := os.ReadDir("samples")
	if err != nil || len(files) != guide.Scenarios+1 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile("samples/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 240<<10 {
			t.Errorf("%s has %d KiB, more than 240: every copy of the program carries it", f.Name(), len(b)>>10)
		}
	}
}

func TestOpenImportsOnce(t *testing.T) {
	a := &shelf{has: map[ops.CaptureID]ops.Capture{}}
	g := guide.New(a)
	s, err := g.Sample(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := g.Kept(t.Context(), s); kept || err != nil {
		t.Errorf("kept before it was opened: %v %v", kept, err)
	}
	for range 2 {
		id, err := g.Open(t.Context(), 3, "leo")
		if err != nil || id != s.Capture.ID || a.has[id].Actor != "leo" {
			t.Errorf("%s by %q: %v", id, a.has[id].Actor, err)
		}
	}
	if kept, err := g.Kept(t.Context(), s); !kept || err != nil {
		t.Errorf("kept after it was opened: %v %v", kept, err)
	}
	a.race = true
	if id, err := g.Open(t.Context(), 3, "mia"); err != nil || id != s.Capture.ID {
		t.Errorf("after somebody else: %s %v", id, err)
	}
}

func TestThereIsNoScenarioSeven(t *testing.T) {
	g := guide.New(&shelf{})
	for _, n := range []int{-1, 7} {
		_, err := g.Sample(t.Context(), n)
		want := fmt.Sprintf("the guide has no scenario %d: it has 1 to 6, and 0 where all is well", n)
		if ops.KindOf(err) != ops.NotFound || err.Error() != want {
			t.Errorf("%v", err)
		}
	}
}

var scripts = regexp.MustCompile(`\p{Han}[A-Za-z]{2}|[A-Za-z]{2}\p{Han}|\p{Han}[,:;?!]`)

func TestEveryRuleHasAPageInBothLanguages(t *testing.T) {
	ids := map[ops.RuleID]bool{}
	for _, r := range diagnosis.Rules() {
		ids[r.ID] = true
	}
	for _, p := range guide.Pages() {
		for name, text := range map[string]ops.Text{"name": p.Name, "means": p.Means, "evidence": p.Evidence, "thresholds": p.Thresholds, "not this": p.NotThis} {
			if text.EN == "" || text.ZH == "" {
				t.Errorf("%s has no %s: say it in manual_*.go, in both languages", p.Rule, name)
			}
			if at := scripts.FindString(text.ZH); at != "" {
				t.Errorf("%s, %s: %q lacks a space between scripts, or has half-width punctuation", p.Rule, name, at)
			}
		}
		if len(p.Kinds) == 0 {
			t.Errorf("%s says of no capture that it is needed", p.Rule)
		}
		for _, r := range p.Related {
			if !ids[r] || r == p.Rule {
				t.Errorf("%s is related to %s, which is no other rule", p.Rule, r)
			}
		}
	}
	if _, err := guide.PageOf("cpu-magic"); ops.KindOf(err) != ops.NotFound || err.Error() != `there is no rule "cpu-magic": the guide lists those there are` {
		t.Error(err)
	}
	if p, err := guide.PageOf("deadlock"); err != nil || p.Rule != "deadlock" {
		t.Error(p, err)
	}
}

// The same pages as documents, for who reads without a centre.
func TestRulesAsDocuments(t *testing.T) {
	for lang, words := range map[ops.Lang][]string{
		ops.English:            {"What the rules mean", "Each finding names a rule. This says what it means, what it looks at, from when on it speaks, and what looks alike.", "Evidence", "From when on", "Not this", "Capture", "See also"},
		ops.TraditionalChinese: {"規則的意義", "每個診斷結果都出自一條規則。這裡說明它的意義、看哪些證據、從什麼程度開始提出，以及什麼看起來像卻不是。", "證據", "從什麼程度起", "不是這個", "擷取", "另見"},
	} {
		var b strings.Builder
		fmt.Fprintf(&b, "# %s\n\n%s\n", words[0], words[1])
		for _, p := range guide.Pages() {
			fmt.Fprintf(&b, "\n## %s\n\n**%s.** %s\n\n**%s.** %s\n\n**%s.** %s\n\n**%s.** %s\n\n**%s.** `--kinds %s`", p.Rule, p.Name.In(lang), p.Means.In(lang), words[2], p.Evidence.In(lang), words[3], p.Thresholds.In(lang), words[4], p.NotThis.In(lang), words[5], join(p.Kinds))
			var related []string
			for _, r := range p.Related {
				related = append(related, fmt.Sprintf("[%s](#%s)", r, r))
			}
			fmt.Fprintf(&b, " · **%s.** %s\n", words[6], strings.Join(related, ", "))
		}
		name := "../../docs/guide/rules." + string(lang) + ".md"
		if *update {
			if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(have), b.String()); d != "" {
			t.Errorf("%s is stale, run go test ./internal/guide -update: %s", name, d)
		}
	}
}

func join(kinds []ops.Kind) string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = string(k)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}
