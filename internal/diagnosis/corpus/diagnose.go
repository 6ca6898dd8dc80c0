package corpus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// Diagnose runs ops diagnose on a source and returns what it found, and how
// long that took.
func Diagnose(ctx context.Context, ops string, source ...string) (findings []Finding, took time.Duration, err error) {
	began := time.Now()
	out, err := runOps(ctx, ops, append([]string{"diagnose", "--json"}, source...)...)
	took = time.Since(began)
	if err != nil {
		return nil, took, err
	}
	findings, err = ReadDiagnosis(out)
	return findings, took, err
}

// Kept is the folder of a program's kept capture.
func Kept(keep string, program string, w Way) string { return filepath.Join(keep, program, string(w)) }

// Replay diagnoses the kept captures of a program: no program runs.
func Replay(ctx context.Context, ops, keep string, p Program, ways []Way) []Result {
	var results []Result
	for _, w := range ways {
		dir := Kept(keep, p.Name, w)
		if _, err := os.Stat(dir); err != nil {
			results = append(results, Result{Program: p.Name, Way: w, Healthy: p.Healthy, Skipped: "no capture is kept"})
			continue
		}
		results = append(results, p.diagnosed(ctx, w, ops, 0, dir))
	}
	return results
}

// diagnosed is the result of a diagnosis. window is the part of the time that
// was spent in capturing.
func (p Program) diagnosed(ctx context.Context, w Way, ops string, window time.Duration, source ...string) Result {
	findings, took, err := Diagnose(ctx, ops, source...)
	if err != nil {
		return p.failed(w, err)
	}
	r := Judge(p, w, findings)
	r.Seconds = max(0, (took - window).Seconds())
	return r
}

func (p Program) failed(w Way, err error) Result {
	return Result{Program: p.Name, Way: w, Healthy: p.Healthy, Error: err.Error()}
}

// Live runs a program and diagnoses it each way: with an agent from a capture
// through the centre; agentless through ops diagnose alone, or through the
// centre as well where the capture is to be kept. keep = "" keeps none; without
// verdicts the captures are kept alone.
func (b *Bench) Live(ctx context.Context, p Program, ways []Way, keep string, verdicts bool) []Result {
	results := make([]Result, 0, len(ways))
	err := b.Run(ctx, p, ways, func(w Way, r *Running) error {
		dir := Kept(keep, p.Name, w)
		if keep == "" {
			dir = Kept(filepath.Join(b.dir, "captures"), p.Name, w)
			defer os.RemoveAll(dir)
		}
		if w == Agentless && keep == "" {
			results = append(results, p.diagnosed(ctx, w, b.Ops, b.Window, r.pprof, "-d", b.Window.String()))
			return nil
		}
		if err := r.Capture(ctx, w, dir); err != nil {
			return err
		}
		if verdicts {
			results = append(results, p.diagnosed(ctx, w, b.Ops, 0, dir))
		} else {
			results = append(results, Result{Program: p.Name, Way: w, Healthy: p.Healthy, Skipped: "recorded"})
		}
		return nil
	})
	for _, w := range ways[len(results):] {
		r := p.failed(w, err)
		if skip := new(SkipError); errors.As(err, &skip) {
			r.Error, r.Skipped = "", skip.Reason
		}
		results = append(results, r)
	}
	return results
}
