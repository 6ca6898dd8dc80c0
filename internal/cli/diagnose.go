package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/report"
)

// ExitVerdict is the exit code of a diagnosis that found what --fail-on asks for.
const ExitVerdict = 3

// DiagnoseRequest says what is to be diagnosed without a centre: either Paths or
// a URL.
type DiagnoseRequest struct {
	Paths []string
	URL   string
	// Duration of the window on a running program; 0 = the default.
	Duration time.Duration
	// Binary is the executable of what is diagnosed; "" = none.
	Binary string
	// Keep is a directory that gets the artifacts of a running program.
	Keep string
	// Progress is told what goes on; nil = nobody listens.
	Progress func(activity string, done, whole time.Duration)
}

// DiagnoseFunc diagnoses what is not in a centre.
type DiagnoseFunc func(ctx context.Context, r DiagnoseRequest) ([]ops.Diagnosis, []ops.Outlier, error)

type diagnoseFlags struct {
	duration                   durationValue
	lang, failOn, keep, binary string
}

func (p *program) diagnoseCmd() *cobra.Command {
	var f diagnoseFlags
	cmd := &cobra.Command{
		Use:   "diagnose SOURCE...",
		Short: "Say what is wrong: the cause, the line, the evidence, the fix",
		Long: `Diagnose reads everything that was captured of a process in one window and says
what is wrong with it, in words: the line to change first, how that is known, and
what to do; what was checked and is fine; and what could not be checked, with the
capture that would tell.

A SOURCE is a capture of the centre (its id), an exported bundle, a directory, or
single files: profiles, traces and goroutine dumps of any name, as net/http/pprof
serves them. Or it is the URL of any Go program's net/http/pprof: then a window of
10 seconds is captured and diagnosed on the spot, and no centre is needed.

--json prints opscenter.diagnosis/v1 (docs/formats), whose fields keep their
meaning. The exit code is 0 when there is an answer, whatever it says; with
--fail-on it is 3 if a finding is at least that severe, for gates in a pipeline,
and 4 if less than half of the rules had evidence. It is 4, too, if none had.`,
		Example: `  ops diagnose http://127.0.0.1:6060/debug/pprof
  ops diagnose "$(ops capture user-service -d 10s)"
  ops diagnose cpu.pprof trace.out goroutines.txt
  ops diagnose --fail-on critical --json bundle.zip`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ops.Errorf(ops.Invalid, "ops diagnose needs a SOURCE: a capture's id, a bundle, a directory, files, or http://host:port/debug/pprof")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.diagnose(cmd.Context(), args, f) },
	}
	fl := cmd.Flags()
	fl.VarP(&f.duration, "duration", "d", "length of the window on a running program, 1s to 10m (default 10s)")
	fl.StringVar(&f.lang, "lang", "", "`language` of the answer: en or zh-TW (env OPS_LANG, LC_ALL, LC_MESSAGES, LANG; default en)")
	fl.StringVar(&f.failOn, "fail-on", "", "exit with 3 if a finding has this `severity` or a higher one: critical, warning or notice")
	fl.StringVar(&f.binary, "binary", "", "the program's executable `file`, stripped or not: names the types of heap objects where its agent did not")
	fl.StringVar(&f.keep, "keep", "", "`directory` that gets the artifacts of a running program, to look at them later")
	return cmd
}

// language is what the user asked for, else what the environment speaks.
func (p *program) language(flag string) (ops.Lang, error) {
	switch strings.ToLower(flag) {
	case "":
	case "en":
		return ops.English, nil
	case "zh-tw", "zh", "zh-hant", "zh_tw":
		return ops.TraditionalChinese, nil
	default:
		return "", ops.Errorf(ops.Invalid, "--lang %q is not known: use en or zh-TW", flag)
	}
	for _, name := range []string{"OPS_LANG", "LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := p.Getenv(name); v != "" {
			if strings.HasPrefix(strings.ToLower(v), "zh") {
				return ops.TraditionalChinese, nil
			}
			return ops.English, nil
		}
	}
	return ops.English, nil
}

func (p *program) diagnose(ctx context.Context, sources []string, f diagnoseFlags) error {
	lang, err := p.language(f.lang)
	if err != nil {
		return err
	}
	limit := ops.Severity(f.failOn)
	switch limit {
	case "", ops.Critical, ops.Warning, ops.Notice:
	default:
		return ops.Errorf(ops.Invalid, "--fail-on %q is not a severity: use critical, warning or notice", f.failOn)
	}
	if f.duration.set {
		if _, err := (ops.Spec{Duration: f.duration.d}).Normalize(); err != nil || f.duration.d == 0 {
			return ops.Errorf(ops.Invalid, "duration %v is out of range: use %v to %v", f.duration.d, ops.MinDuration, ops.MaxDuration)
		}
	}
	ctx, stop := p.interruptible(ctx)
	defer stop()
	all, outliers, err := p.diagnoseSources(ctx, sources, f, lang)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
			return cause
		}
		return err
	}
	if err := p.printDiagnoses(all, outliers, lang); err != nil {
		return err
	}
	for _, d := range all {
		for _, x := range d.Findings {
			if limit != "" && atLeast(x.Severity(), limit) {
				return &verdictError{fmt.Sprintf("%s: %s (--fail-on %s)", x.Severity(), x.ID(), limit)}
			}
		}
	}
	return unseen(all, limit != "")
}

// unseen is an error if a diagnosis says little because it saw little: nothing at
// all, or, for a gate, less than half.
func unseen(all []ops.Diagnosis, gate bool) error {
	for _, d := range all {
		judged, blind := d.Judged()
		switch {
		case judged == 0:
			return &partialError{"not diagnosed: no rule had the evidence that it needs"}
		case gate && blind > judged:
			return &partialError{fmt.Sprintf("%d of %d rules lacked evidence: that is no verdict to pass a gate with", blind, len(d.Checks))}
		}
	}
	return nil
}

// verdictError ends a run whose answer is what --fail-on asks for.
type verdictError struct{ message string }

func (e *verdictError) Error() string { return e.message }

func atLeast(s, limit ops.Severity) bool {
	rank := map[ops.Severity]int{ops.Notice: 1, ops.Warning: 2, ops.Critical: 3}
	return rank[s] >= rank[limit]
}

func isURL(s string) bool {
	s = strings.ToLower(s[:min(len(s), 8)])
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// diagnoseSources finds out what the sources are: URLs, files, or captures.
func (p *program) diagnoseSources(ctx context.Context, sources []string, f diagnoseFlags, lang ops.Lang) (all []ops.Diagnosis, outliers []ops.Outlier, err error) {
	kinds := map[string]int{}
	for _, s := range sources {
		switch {
		case isURL(s):
			kinds["URLs"]++
		case exists(s):
			kinds["files"]++
		case ops.CaptureID(s).Valid():
			kinds["captures"]++
		default:
			return nil, nil, ops.Errorf(ops.NotFound, "%q is no file, no capture's id and no URL: give one of them, a URL with its http://", s)
		}
	}
	if len(kinds) > 1 {
		return nil, nil, ops.Errorf(ops.Invalid, "these SOURCEs are of different sorts: diagnose captures, files and URLs one sort at a time")
	}
	if f.keep != "" && (kinds["URLs"] == 0 || len(sources) > 1) {
		return nil, nil, ops.Errorf(ops.Invalid, "--keep is for one running program: the artifacts of the others are kept where they are")
	}
	if f.binary != "" && kinds["captures"] > 0 {
		return nil, nil, ops.Errorf(ops.Invalid, "--binary is for files and running programs: export the capture and diagnose the bundle")
	}
	if kinds["captures"] > 0 {
		return p.diagnoseCaptures(ctx, sources, lang)
	}
	if p.Diagnose == nil {
		return nil, nil, ops.Errorf(ops.Invalid, "this program can only diagnose captures of a centre")
	}
	if kinds["files"] > 0 {
		return p.Diagnose(ctx, DiagnoseRequest{Paths: sources, Binary: f.binary})
	}
	for _, u := range sources {
		progress, end := p.windowBar()
		d, _, err := p.Diagnose(ctx, DiagnoseRequest{URL: u, Duration: f.duration.d, Keep: f.keep, Binary: f.binary, Progress: progress})
		end()
		if err != nil {
			return nil, nil, err
		}
		all = append(all, d...)
	}
	return all, nil, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// windowBar shows how far a window is; off a terminal it says once that it began.
func (p *program) windowBar() (progress func(string, time.Duration, time.Duration), end func()) {
	if !isTerminal(p.Stderr) {
		told := false
		return func(_ string, _, whole time.Duration) {
			if !told && whole > 0 {
				told = true
				p.note("capturing for %v", whole)
			}
		}, func() {}
	}
	bars, text := p.newBars(), &label{}
	bar := bars.AddBar(1000, mpb.BarRemoveOnComplete(), mpb.BarWidth(barWidth),
		mpb.PrependDecorators(decor.Name("capturing", decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Any(text.get, decor.WC{W: 1})))
	return func(activity string, done, whole time.Duration) {
			if whole > 0 {
				bar.SetCurrent(min(999, int64(1000*done/whole)))
			}
			text.set("  " + clean(activity))
		}, func() {
			bar.SetCurrent(1000)
			bars.Wait()
		}
}

func (p *program) printDiagnoses(all []ops.Diagnosis, outliers []ops.Outlier, lang ops.Lang) error {
	if p.json {
		b, err := report.JSON(all, outliers, lang)
		if err != nil {
			return err
		}
		_, err = p.Stdout.Write(b)
		return err
	}
	style := report.Style{Lang: lang}
	if f, ok := p.Stdout.(*os.File); ok && isTerminal(f) {
		style.Color = p.Getenv("NO_COLOR") == ""
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			style.Width = min(w, 120)
		}
	}
	for i, d := range all {
		if i > 0 {
			fmt.Fprintln(p.Stdout)
		}
		if err := report.Note(p.Stdout, d, style); err != nil {
			return err
		}
	}
	return report.Outliers(p.Stdout, outliers, style)
}

// diagnoseCaptures asks the centre, which diagnoses a capture when it ends and
// keeps what it found.
func (p *program) diagnoseCaptures(ctx context.Context, ids []string, lang ops.Lang) (all []ops.Diagnosis, outliers []ops.Outlier, err error) {
	c, err := p.client()
	if err != nil {
		return nil, nil, err
	}
	defer c.close()
	for _, id := range ids {
		b, err := c.diagnosis(ctx, id, lang)
		if err != nil {
			return nil, nil, err
		}
		d, o, err := report.Parse(b)
		if err != nil {
			return nil, nil, err
		}
		all, outliers = append(all, d...), append(outliers, o...)
	}
	return all, outliers, nil
}
