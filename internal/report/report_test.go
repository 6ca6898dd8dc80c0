package report

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/opscenter/opscenter/internal/ops"
)

var update = flag.Bool("update", false, "write what is said as what is wanted")

func text(en, zh string) ops.Text { return ops.Text{EN: en, ZH: zh} }

// sample has everything that a diagnosis can have.
func sample() ops.Diagnosis {
	d := ops.Diagnosis{
		Rules: "1-0a1b2c3d", Start: time.Date(2026, 7, 1, 3, 0, 5, 250e6, time.UTC), Window: 10004 * time.Millisecond,
		Instance: ops.Instance{
			Project: "color-game", Service: "game-service", ID: "5w2k9m4c7x0v8q1n3b6t2r5y9z",
			Build: ops.Build{GoVersion: "go1.26.8"}, Process: ops.Process{GOMAXPROCS: 4},
		},
		Losses: []ops.Loss{{Kind: ops.KindTrace, Reason: ops.LossTruncated, Message: "the trace ended at 128 MiB"}},
	}
	cause := ops.Finding{
		Rule: "lock-held-across-io", Scenario: 4, Score: 93, Confidence: ops.High,
		Title:       text("`main.(*Room).PlaceBet` holds a mutex while it waits for the network (room.go:24)", "`main.(*Room).PlaceBet` 持有 mutex 等待網路（room.go:24）"),
		Summary:     text("Players waited 38.0 s for this lock in 10.0 s; nearly all of that time its holder was waiting for the database.", "10.0 秒內玩家為這把鎖共等待 38.0 秒；持有者幾乎都在等資料庫。"),
		Explanation: text("The insert runs between Lock and Unlock, so that every bet of the room waits for the database's answer.", "寫入在 Lock 與 Unlock 之間執行，因此同一房間的每一筆下注都要等資料庫回應。"),
		Remedies:    []ops.Text{text("Move the insert behind Unlock.", "把寫入移到 Unlock 之後。"), text("Shard the lock by player.", "依玩家分片。")},
		Where: []ops.Place{
			{Role: ops.RoleIO, Function: "main.(*Room).PlaceBet", File: "room.go", Line: 24},
			{Role: ops.RoleWait, Function: "main.(*Room).PlaceBet", File: "room.go", Line: 22},
			{Role: ops.RoleHold, Function: "main.(*Room).PlaceBet", File: "room.go", Line: 25},
		},
		Evidence:        []ops.Proof{{Artifact: ops.KindMutex, Metric: "delay_seconds", Value: 38.04, Unit: "s", Share: 0.82, Text: text("38.0 s of delay at this Unlock", "此 Unlock 造成 38.0 秒等待")}},
		CounterEvidence: []ops.Proof{{Artifact: ops.KindTrace, Metric: "covered_seconds", Value: 1.2, Unit: "s", Text: text("the trace covers only 1.2 s", "trace 只涵蓋 1.2 秒"), Moment: &ops.Moment{From: 1250 * time.Millisecond, To: 1750 * time.Millisecond, Goroutines: []int64{4388, 4412}}}},
		Next:            &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindMutex}, Duration: 30 * time.Second, Fidelity: ops.FidelityFull},
	}
	effect := cause
	effect.Rule, effect.Score, effect.Confidence, effect.Scenario = "unbounded-concurrency", 61, ops.Medium, 5
	effect.Title = text("requests pile up in `main.(*Server).bet` (server.go:9)", "請求堆積在 `main.(*Server).bet`（server.go:9）")
	effect.Where = []ops.Place{{Role: ops.RoleCreate, Function: "main.(*Server).bet", File: "server.go", Line: 9}}
	effect.CausedBy, effect.Next, effect.CounterEvidence = cause.ID(), nil, nil
	d.Findings = []ops.Finding{cause, effect}
	d.Checks = []ops.Check{
		{Rule: "cpu-throttled", Verdict: ops.VerdictNotApplicable, Reason: text("no cgroup", "沒有 cgroup")},
		{Rule: "goroutine-leak", Verdict: ops.VerdictCouldNotCheck, Reason: text("needs goroutine, which this capture does not have", "需要 goroutine，但這次擷取沒有"), Next: &ops.NextCapture{Kinds: []ops.Kind{ops.KindGoroutine}}},
		{Rule: "heap-growth", Verdict: ops.VerdictOK, Reason: text("the live heap stayed at 40 MiB", "存活堆積 維持在 40 MiB")},
		{Rule: "lock-held-across-io", Verdict: ops.VerdictFound, Reason: text("one lock", "一把鎖")},
		{Rule: "unbounded-concurrency", Verdict: ops.VerdictFound, Reason: text("300 goroutines", "300 個 goroutine")},
	}
	return d
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); if that is meant, run with -update:\n%s", path, diff)
	}
}

func TestNote(t *testing.T) {
	for lang, file := range map[ops.Lang]string{ops.English: "testdata/note.en.txt", ops.TraditionalChinese: "testdata/note.zh-TW.txt"} {
		var b bytes.Buffer
		if err := Note(&b, sample(), Style{Lang: lang}); err != nil {
			t.Fatal(err)
		}
		golden(t, file, b.Bytes())
		for line := range strings.Lines(b.String()) {
			if w := columns(strings.TrimRight(line, "\n")); w > 80 && !strings.Contains(line, "ops capture") && !strings.Contains(line, " · ") {
				t.Errorf("%d columns: %q", w, line)
			}
		}
	}
}

func TestNoteOfAHealthyProcessSaysWhatItCouldNotSee(t *testing.T) {
	d := sample()
	d.Findings, d.Losses = nil, nil
	var b bytes.Buffer
	if err := Note(&b, d, Style{}); err != nil {
		t.Fatal(err)
	}
	if want := "Nothing is wrong in what could be checked; 1 of 5 rules lacked evidence (below).\n"; !strings.Contains(b.String(), want) {
		t.Errorf("%q is not in:\n%s", want, b.String())
	}
}

func TestNamesCannotMoveTheCursor(t *testing.T) {
	d := sample()
	evil := "main.\x1b[2Jf\u202e\r\n"
	d.Instance.Service = ops.ServiceName(evil)
	d.Findings[0].Where[0].Function, d.Findings[0].Where[0].File = evil, evil
	d.Findings[0].Title = text(evil, evil)
	d.Losses[0].Message = evil
	var b bytes.Buffer
	if err := Note(&b, d, Style{}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\r\u202e") {
		t.Errorf("%q", b.String())
	}
}

// The published sample is what is written, so that it cannot grow old.
func TestJSONIsThePublishedSample(t *testing.T) {
	b, err := JSON([]ops.Diagnosis{sample()}, nil, ops.English)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "../../docs/formats/diagnosis.sample.json", b)
}

func TestJSONIsOfThePublishedSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../docs/formats/diagnosis.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	healthy := sample()
	healthy.Findings, healthy.Checks, healthy.Losses, healthy.Start = nil, nil, nil, time.Time{}
	outlier := ops.Outlier{Instance: "x", Metric: "m", Text: text("a", "鎖")}
	for _, all := range [][]ops.Diagnosis{{sample()}, {healthy}, {sample(), healthy}, nil} {
		b, err := JSON(all, []ops.Outlier{outlier}, ops.TraditionalChinese)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err == nil {
			err = schema.Validate(v)
		}
		if err != nil {
			t.Errorf("%d instances: %v", len(all), err)
		}
	}
}

func TestJSONComesBack(t *testing.T) {
	second := sample()
	second.Instance.ID = "other"
	outliers := []ops.Outlier{{Instance: "other", Metric: "score of x", Value: 93, Median: 0, Unit: "points", Text: text("differs", "不同")}}
	for _, all := range [][]ops.Diagnosis{{sample()}, {sample(), second}} {
		b, err := JSON(all, outliers, ops.TraditionalChinese)
		if err != nil {
			t.Fatal(err)
		}
		back, o, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := JSON(back, o, ops.TraditionalChinese)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(b), string(again)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		`{`:                                   "the diagnosis cannot be read: unexpected end of JSON input",
		`{"schema":"opscenter.diagnosis/v9"}`: `the diagnosis has the schema "opscenter.diagnosis/v9": this program reads opscenter.diagnosis/v1; use a newer one`,
		`{"schema":"opscenter.diagnosis/v1","findings":7}`: "the diagnosis cannot be read: json: cannot unmarshal number into Go struct field diagnosis.findings of type []report.finding",
	} {
		if _, _, err := Parse([]byte(in)); err == nil || err.Error() != want || ops.KindOf(err) != ops.Corrupt {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestCommand(t *testing.T) {
	n := ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace}, Duration: 30 * time.Second, Fidelity: ops.FidelityFull}
	for want, i := range map[string]ops.Instance{
		"ops capture shop/boot-1 -d 30s --kinds trace --fidelity full": {Service: "shop", ID: "boot-1"},
		"ops capture shop -d 30s --kinds trace --fidelity full":        {Service: "shop"},
		"ops diagnose http://HOST:PORT/debug/pprof -d 30s":             {},
	} {
		if got := Command(n, i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestCommandForWhoIsCalled(t *testing.T) {
	for remote, want := range map[string]string{
		"user-service":          "ops capture user-service --kinds cpu",
		"10.0.0.7:9090":         "ops capture SERVICE --kinds cpu",
		"user-service.game.svc": "ops capture SERVICE --kinds cpu",
	} {
		n := ops.NextCapture{Kinds: []ops.Kind{ops.KindCPU}, Remote: remote}
		if got := Command(n, ops.Instance{Service: "gateway", ID: "boot-1"}); got != want {
			t.Errorf("%s: got %q, want %q", remote, got, want)
		}
	}
}

func TestNumbersThatAreNone(t *testing.T) {
	d := sample()
	zero := 0.0
	d.Findings[0].Evidence[0].Value = 1 / zero
	d.Findings[0].Evidence[0].Share = zero / zero
	if _, err := JSON([]ops.Diagnosis{d}, nil, ops.English); err != nil {
		t.Error(err)
	}
}
