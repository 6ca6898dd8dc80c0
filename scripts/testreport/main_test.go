package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const stream = `{"Action":"start","Package":"github.com/opscenter/opscenter/internal/a"}
{"Action":"output","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"pass","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestGood/sub","Elapsed":1}
{"Action":"pass","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestGood","Elapsed":2.5}
{"Action":"output","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestBad/sub","Output":"    a_test.go:7: it broke\n"}
{"Action":"fail","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestBad/sub","Elapsed":0.1}
{"Action":"fail","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestBad","Elapsed":0.1}
{"Action":"output","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestNot","Output":"=== RUN   TestNot\n"}
{"Action":"output","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestNot","Output":"    a_test.go:9: needs Postgres\n"}
{"Action":"output","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestNot","Output":"--- SKIP: TestNot (0.00s)\n"}
{"Action":"skip","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestNot","Elapsed":0}
{"Action":"fail","Package":"github.com/opscenter/opscenter/internal/a","Elapsed":3}
{"Action":"pass","Package":"github.com/opscenter/opscenter/internal/b","Test":"TestB","Elapsed":0.2}
{"Action":"pass","Package":"github.com/opscenter/opscenter/internal/b","Elapsed":0.3}
{"Action":"skip","Package":"github.com/opscenter/opscenter/internal/empty","Elapsed":0}
{"ImportPath":"internal/c","Action":"build-output","Output":"c.go:3:1: syntax error\n"}
{"Action":"fail","Package":"github.com/opscenter/opscenter/internal/c","Elapsed":0,"FailedBuild":"internal/c"}
{"Action":"output","Package":"github.com/opscenter/opscenter/internal/d","Output":"goleak: a goroutine stayed\n"}
{"Action":"pass","Package":"github.com/opscenter/opscenter/internal/d","Test":"TestD","Elapsed":0.2}
{"Action":"fail","Package":"github.com/opscenter/opscenter/internal/d","Elapsed":0.3}
no json at all
`

const junitReport = `<?xml version="1.0"?>
<testsuites>
  <testsuite name="page" time="4"><testcase name="opens" time="3.5" classname="test"/>
    <testsuite name="deep"><testcase name="breaks" time="0.1"><failure message="no"/></testcase></testsuite>
  </testsuite>
  <testcase name="alone" time="1" classname="top"/>
  <testcase name="later" classname="top"><skipped message="no chromium"/></testcase>
</testsuites>`

func TestReport(t *testing.T) {
	dir := t.TempDir()
	results, xmlFile := filepath.Join(dir, "results"), filepath.Join(dir, "report.xml")
	if err := os.WriteFile(xmlFile, []byte(junitReport), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run([]string{"go", results}, strings.NewReader(stream), &out); !errors.Is(err, errFailed) {
		t.Errorf("a stream with failures ended with %v", err)
	}
	if err := run([]string{"junit", results, xmlFile}, nil, &out); !errors.Is(err, errFailed) {
		t.Errorf("a report with a failure ended with %v", err)
	}
	if err := run([]string{"summary", results}, nil, &out); !errors.Is(err, errFailed) {
		t.Errorf("a summary with failures ended with %v", err)
	}
	const want = `    a_test.go:7: it broke
FAIL  internal/a  3.0s
ok    internal/b  0.3s  1 tests
c.go:3:1: syntax error
FAIL  internal/c  0.0s
FAIL  internal/d  0.3s
goleak: a goroutine stayed
no json at all

The ten slowest:
     3.5s  page > opens
     2.5s  internal/a.TestGood
     1.0s  top > alone
     0.3s  internal/d
     0.2s  internal/b.TestB
     0.2s  internal/d.TestD
     0.1s  internal/a.TestBad
     0.1s  page > deep > breaks
     0.0s  internal/a.TestNot
     0.0s  internal/c

Skipped:
  internal/a.TestNot: a_test.go:9: needs Postgres
  top > later: no chromium

Failed:
  internal/a.TestBad
  internal/c
  internal/d
  page > deep > breaks

5 passed, 4 failed, 2 skipped
`
	if out.String() != strings.Replace(want, "     0.0s  internal/empty\n", "     0.0s  internal/c\n", 1) {
		t.Errorf("reported:\n%s\nwant:\n%s", &out, want)
	}
}

// What fails once and passes alone does not fail the run, and is not forgotten;
// what fails again stays failed.
func TestTriedAgain(t *testing.T) {
	const first = "pass\t1.000\tinternal/a.TestGood\t\nfail\t2.000\tinternal/a.TestBad\t\nfail\t3.000\ttest > opens\t\n"
	const again = `{"Action":"pass","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestBad","Elapsed":0.5}
{"Action":"pass","Package":"github.com/opscenter/opscenter/internal/a","Elapsed":0.6}
`
	for name, tt := range map[string]struct {
		browser string // what came of the other one
		err     error
		last    string
	}{
		"both pass":      {`<testcase name="opens" classname="test" time="1"/>`, nil, "1 passed, 0 failed, 2 flaky"},
		"one fails":      {`<testcase name="opens" classname="test"><failure/></testcase>`, errFailed, "1 passed, 1 failed, 1 flaky"},
		"one is not run": {`<testcase name="opens" classname="test"><skipped/></testcase>`, errFailed, "1 passed, 1 failed, 1 flaky"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			results, xmlFile := filepath.Join(dir, "results"), filepath.Join(dir, "report.xml")
			for f, text := range map[string]string{results: first, xmlFile: "<testsuites>" + tt.browser + "</testsuites>"} {
				if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var list, out strings.Builder
			if err := run([]string{"failed", results}, nil, &list); err != nil || list.String() != "go\tinternal/a\tTestBad\nbrowser\tweb/e2e\topens\n" {
				t.Errorf("to be tried again: %q, %v", list.String(), err)
			}
			_ = run([]string{"go-again", results}, strings.NewReader(again), &out)
			_ = run([]string{"junit-again", results, xmlFile}, nil, &out)
			if err := run([]string{"summary", results}, nil, &out); !errors.Is(err, tt.err) || !strings.HasSuffix(out.String(), "\n"+tt.last+"\n") || !strings.Contains(out.String(), "Mend them:\n  internal/a.TestBad\n") {
				t.Errorf("ended with %v and\n%s", err, out.String())
			}
		})
	}
}

func TestDataRaceIsNoLuck(t *testing.T) {
	const stream = `{"Action":"output","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestBad","Output":"WARNING: DATA RACE\n"}
{"Action":"fail","Package":"github.com/opscenter/opscenter/internal/a","Test":"TestBad","Elapsed":0.1}
`
	results := filepath.Join(t.TempDir(), "results")
	var out strings.Builder
	if err := run([]string{"go", results}, strings.NewReader(stream), &strings.Builder{}); !errors.Is(err, errFailed) {
		t.Errorf("ended with %v", err)
	}
	if err := run([]string{"failed", results}, nil, &out); err != nil || out.Len() > 0 {
		t.Errorf("to be tried again: %q, %v", out.String(), err)
	}
}

func TestManyFailuresAreNoLuck(t *testing.T) {
	results := filepath.Join(t.TempDir(), "results")
	if err := os.WriteFile(results, []byte(strings.Repeat("fail\t1.000\tinternal/a.TestBad\t\n", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run([]string{"failed", results}, nil, &out); err != nil || out.Len() > 0 {
		t.Errorf("to be tried again: %q, %v", out.String(), err)
	}
}

func TestGoodRunEndsWell(t *testing.T) {
	results := filepath.Join(t.TempDir(), "results")
	if err := os.WriteFile(results, []byte("pass\t1.000\tgo vet\t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run([]string{"summary", results}, nil, &out); err != nil || !strings.HasSuffix(out.String(), "\n1 passed, 0 failed\n") {
		t.Errorf("ended with %v and %q", err, out.String())
	}
}

func TestNothingRunIsNoSuccess(t *testing.T) {
	results := filepath.Join(t.TempDir(), "results")
	if err := os.WriteFile(results, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run([]string{"summary", results}, nil, &out); !errors.Is(err, errFailed) {
		t.Errorf("an empty run ended with %v", err)
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{nil, {"go"}, {"frobnicate", "x"}} {
		if err := run(args, strings.NewReader(""), &strings.Builder{}); !errors.Is(err, errUsage) {
			t.Errorf("%q ended with %v", args, err)
		}
	}
}
