package cli

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
)

// diagnosed runs `ops diagnose` on files of which the diagnosis is d.
func diagnosed(t *testing.T, d ops.Diagnosis, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cfg := Config{
		Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" },
		Diagnose: func(context.Context, DiagnoseRequest) ([]ops.Diagnosis, []ops.Outlier, error) {
			return []ops.Diagnosis{d}, nil, nil
		},
	}
	code = Main(t.Context(), append([]string{"diagnose", t.TempDir()}, args...), cfg)
	return code, out.String(), errs.String()
}

func checks(verdicts ...ops.Verdict) (out []ops.Check) {
	for i, v := range verdicts {
		out = append(out, ops.Check{Rule: ops.RuleID(strings.Repeat("x", i+1)), Verdict: v})
	}
	return out
}

func TestDiagnoseExitCodes(t *testing.T) {
	sick := ops.Diagnosis{
		Findings: []ops.Finding{{Rule: "deadlock", Score: 80, Where: []ops.Place{{Role: ops.RoleWait, Function: "main.f", File: "f.go", Line: 3}}}},
		Checks:   checks(ops.VerdictFound),
	}
	mild := sick
	mild.Findings = []ops.Finding{{Rule: "deadlock", Score: 30}}
	blind := ops.Diagnosis{Checks: checks(ops.VerdictCouldNotCheck, ops.VerdictNotApplicable)}
	half := ops.Diagnosis{Checks: checks(ops.VerdictOK, ops.VerdictCouldNotCheck, ops.VerdictCouldNotCheck)}
	for _, c := range []struct {
		name string
		d    ops.Diagnosis
		args []string
		code int
		says string
	}{
		{"a fault is an answer", sick, nil, ExitOK, ""},
		{"and fails a gate", sick, []string{"--fail-on", "critical"}, ExitVerdict, "critical: deadlock/main.f (--fail-on critical)"},
		{"a notice passes it", mild, []string{"--fail-on", "warning"}, ExitOK, ""},
		{"nothing seen is no answer", blind, nil, ExitPartial, "not diagnosed: no rule had the evidence that it needs"},
		{"half blind is one", half, nil, ExitOK, ""},
		{"but passes no gate", half, []string{"--fail-on", "notice"}, ExitPartial, "2 of 3 rules lacked evidence: that is no verdict to pass a gate with"},
		{"an unknown severity", sick, []string{"--fail-on", "bad"}, ExitUsage, `--fail-on "bad" is not a severity: use critical, warning or notice`},
		{"an unknown language", sick, []string{"--lang", "tlh"}, ExitUsage, `--lang "tlh" is not known: use en or zh-TW`},
		{"a duration that is none", sick, []string{"-d", "0s"}, ExitUsage, "duration 0s is out of range: use 1s to 10m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := diagnosed(t, c.d, c.args...)
			if code != c.code || !strings.Contains(errs, c.says) || code != ExitUsage && out == "" {
				t.Errorf("exit %d\n%s\n%s", code, out, errs)
			}
		})
	}
}

func TestDiagnoseRefuses(t *testing.T) {
	there := t.TempDir()
	for want, args := range map[string][]string{
		"ops diagnose needs a SOURCE": {},
		`"` + filepath.Join(there, "none") + `" is no file, no capture's id and no URL`: {filepath.Join(there, "none")},
		"these SOURCEs are of different sorts":                                          {there, "http://127.0.0.1:1/debug/pprof"},
		"--keep is for one running program":                                             {there, "--keep", there},
		"--binary is for files and running programs":                                    {"01kb2m8z7x4n5q6r9s0t1v2w3y", "--binary", there},
	} {
		var errs bytes.Buffer
		code := Main(t.Context(), append([]string{"diagnose"}, args...), Config{
			Stdout: &bytes.Buffer{}, Stderr: &errs, Getenv: func(string) string { return "" },
			Diagnose: func(context.Context, DiagnoseRequest) ([]ops.Diagnosis, []ops.Outlier, error) { return nil, nil, nil },
		})
		if code == ExitOK || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: exit %d, %s", args, code, errs.String())
		}
	}
}
