// Command testreport makes one report out of what the stages of `make test`
// say: it follows `go test -json`, prints what people need of it, and keeps a
// line per test, from which the last word is made: what failed, what was
// skipped and why, the ten slowest, and the count.
//
// A test that fails on a crowded machine and passes when it is run alone is
// reported as flaky: it does not fail the run, and is named in its last word so
// that somebody mends it. Where more than three fail nothing is tried again.
//
//	go test -json ./... | testreport go RESULTS
//	testreport junit RESULTS FILE…
//	testreport failed RESULTS                       what may be tried again, a test a line
//	go test -json -run … | testreport go-again RESULTS
//	testreport junit-again RESULTS FILE…
//	testreport summary RESULTS
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: testreport go|go-again RESULTS | junit|junit-again RESULTS FILE… | failed|summary RESULTS")

var errFailed = errors.New("there were failures")

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) < 2 {
		return errUsage
	}
	verb, again := strings.CutSuffix(args[0], "-again")
	file := args[1]
	if verb == "summary" || verb == "failed" {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		results, err := parse(string(b))
		if err != nil {
			return err
		}
		if verb == "failed" {
			return retriable(out, results)
		}
		return summary(out, results)
	}
	var results []result
	switch verb {
	case "go":
		var err error
		if results, err = follow(in, out); err != nil {
			return err
		}
	case "junit":
		for _, f := range args[2:] {
			b, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			more, err := junit(b)
			if err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
			results = append(results, more...)
		}
	default:
		return errUsage
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	failed := false
	for _, r := range results {
		failed = failed || r.outcome == "fail"
		switch {
		case !again:
		case r.outcome == "pass":
			r.outcome = "flaky"
		default: // it is on record as it was at first
			continue
		}
		if _, err := fmt.Fprintln(f, r); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	if failed {
		return errFailed
	}
	return nil
}

// result is what came of one test.
type result struct {
	outcome string // pass, fail, skip, or flaky: passed after it had failed
	elapsed time.Duration
	name    string
	reason  string // why it was skipped, or may not be tried again
}

// String is the line that keeps a result; parse reads it.
func (r result) String() string {
	flat := strings.NewReplacer("\t", " ", "\n", " ")
	return fmt.Sprintf("%s\t%.3f\t%s\t%s", r.outcome, r.elapsed.Seconds(), flat.Replace(r.name), flat.Replace(r.reason))
}

func parse(lines string) ([]result, error) {
	var results []result
	for line := range strings.Lines(lines) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) < 3 {
			return nil, fmt.Errorf("bad line %q", line)
		}
		seconds, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return nil, fmt.Errorf("bad line %q: %w", line, err)
		}
		r := result{outcome: f[0], elapsed: time.Duration(seconds * float64(time.Second)), name: f[2]}
		if len(f) > 3 {
			r.reason = f[3]
		}
		results = append(results, r)
	}
	return results, nil
}

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// follow prints a line a package and the output of what failed, as it happens.
// Tests count with their subtests as one.
func follow(in io.Reader, out io.Writer) ([]result, error) {
	var results []result
	type key struct{ pkg, test string }
	said := map[key]*strings.Builder{}
	failed := map[string]int{} // tests of a package
	count := map[string]int{}
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadString('\n')
		if line == "" && err != nil {
			if errors.Is(err, io.EOF) {
				return results, nil
			}
			return nil, err
		}
		var e event
		if json.Unmarshal([]byte(line), &e) != nil {
			fmt.Fprint(out, line) // go itself speaks
			continue
		}
		top, _, isSub := strings.Cut(e.Test, "/")
		k := key{e.Package, top}
		name := short(e.Package)
		switch e.Action {
		case "output":
			if said[k] == nil {
				said[k] = &strings.Builder{}
			}
			said[k].WriteString(e.Output)
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "pass", "fail", "skip":
			if isSub {
				continue
			}
			res := result{outcome: e.Action, elapsed: time.Duration(e.Elapsed * float64(time.Second)), name: name}
			if top != "" {
				res.name += "." + top
				count[e.Package]++
				switch e.Action {
				case "fail":
					failed[e.Package]++
					res.reason = noLuck(said[k])
					fmt.Fprintf(out, "%s", said[k])
				case "skip":
					res.reason = skipReason(said[k])
				}
				results = append(results, res)
				delete(said, k)
				continue
			}
			// The package itself.
			switch {
			case e.Action == "fail":
				fmt.Fprintf(out, "FAIL  %s  %.1fs\n", name, e.Elapsed)
				if failed[e.Package] == 0 { // it was built badly, or died between its tests
					if e.FailedBuild == "" {
						for k2, text := range said {
							if k2.pkg == e.Package {
								fmt.Fprintf(out, "%s", text)
							}
						}
					}
					results = append(results, res)
				}
			case count[e.Package] > 0:
				fmt.Fprintf(out, "ok    %s  %.1fs  %d tests\n", name, e.Elapsed, count[e.Package])
			}
			for k2 := range said {
				if k2.pkg == e.Package {
					delete(said, k2)
				}
			}
		}
	}
}

// retriable writes a line per failed test that may be run alone: its kind (go or
// browser), package and name; nothing where so many failed that it is no luck, and
// not those that found a data race.
func retriable(out io.Writer, results []result) error {
	var lines []string
	failed := 0
	for _, r := range results {
		if r.outcome != "fail" {
			continue
		}
		failed++
		if r.reason != "" {
			continue
		}
		if pkg, test, ok := strings.Cut(r.name, ".Test"); ok {
			lines = append(lines, fmt.Sprintf("go\t%s\tTest%s", pkg, test))
		} else if name, ok := strings.CutPrefix(r.name, "test > "); ok { // as Node's reporter says it
			lines = append(lines, "browser\tweb/e2e\t"+name)
		}
	}
	if failed > 3 {
		return nil
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(out, l); err != nil {
			return err
		}
	}
	return nil
}

// short is a package's path within the module.
func short(pkg string) string {
	return strings.TrimPrefix(pkg, "github.com/opscenter/opscenter/")
}

// noLuck says why a failure must not be tried again, or nothing.
func noLuck(said *strings.Builder) string {
	if said != nil && strings.Contains(said.String(), "DATA RACE") {
		return "data race"
	}
	return ""
}

// skipReason is the last thing a skipped test said.
func skipReason(said *strings.Builder) string {
	if said == nil {
		return ""
	}
	reason := ""
	for line := range strings.Lines(said.String()) {
		if l := strings.TrimSpace(line); l != "" && !strings.HasPrefix(l, "--- ") && !strings.HasPrefix(l, "=== ") {
			reason = l
		}
	}
	return reason
}

// junit reads the format that Node's and Vitest's reporters share.
func junit(b []byte) ([]result, error) {
	type testcase struct {
		Name    string    `xml:"name,attr"`
		Class   string    `xml:"classname,attr"`
		Time    float64   `xml:"time,attr"`
		Failure *struct{} `xml:"failure"`
		Error   *struct{} `xml:"error"`
		Skipped *struct {
			Message string `xml:"message,attr"`
		} `xml:"skipped"`
	}
	type suite struct {
		Name   string     `xml:"name,attr"`
		Cases  []testcase `xml:"testcase"`
		Suites []suite    `xml:"testsuite"`
	}
	var root suite // <testsuites> or <testsuite>
	if err := xml.Unmarshal(b, &root); err != nil {
		return nil, err
	}
	var results []result
	var walk func(s suite, path string)
	walk = func(s suite, path string) {
		for _, c := range s.Cases {
			r := result{outcome: "pass", elapsed: time.Duration(c.Time * float64(time.Second)), name: join(cmp.Or(path, c.Class), c.Name)}
			switch {
			case c.Failure != nil || c.Error != nil:
				r.outcome = "fail"
			case c.Skipped != nil:
				r.outcome, r.reason = "skip", c.Skipped.Message
			}
			results = append(results, r)
		}
		for _, inner := range s.Suites {
			walk(inner, join(path, inner.Name))
		}
	}
	walk(root, "")
	return results, nil
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + " > " + b
}

func summary(out io.Writer, results []result) error {
	flaky := map[string]bool{}
	for _, r := range results {
		flaky[r.name] = flaky[r.name] || r.outcome == "flaky"
	}
	results = slices.DeleteFunc(results, func(r result) bool { return r.outcome == "fail" && flaky[r.name] })
	byOutcome := map[string][]result{}
	for _, r := range results {
		byOutcome[r.outcome] = append(byOutcome[r.outcome], r)
	}
	slices.SortStableFunc(results, func(a, b result) int { return cmp.Compare(b.elapsed, a.elapsed) })
	fmt.Fprintln(out, "\nThe ten slowest:")
	for _, r := range results[:min(10, len(results))] {
		fmt.Fprintf(out, "%8.1fs  %s\n", r.elapsed.Seconds(), r.name)
	}
	last := fmt.Sprintf("%d passed, %d failed", len(byOutcome["pass"]), len(byOutcome["fail"]))
	if skipped := byOutcome["skip"]; len(skipped) > 0 {
		fmt.Fprintln(out, "\nSkipped:")
		for _, r := range skipped {
			fmt.Fprintf(out, "  %s: %s\n", r.name, cmp.Or(r.reason, "no reason given"))
		}
		last += fmt.Sprintf(", %d skipped", len(skipped))
	}
	if failed := byOutcome["fail"]; len(failed) > 0 {
		fmt.Fprintln(out, "\nFailed:")
		for _, r := range failed {
			fmt.Fprintf(out, "  %s\n", r.name)
		}
	}
	if flaky := byOutcome["flaky"]; len(flaky) > 0 {
		fmt.Fprintln(out, "\nFlaky: failed, then passed alone. Mend them:")
		for _, r := range flaky {
			fmt.Fprintf(out, "  %s\n", r.name)
		}
		last += fmt.Sprintf(", %d flaky", len(flaky))
	}
	fmt.Fprintf(out, "\n%s\n", last)
	if len(byOutcome["fail"]) > 0 || len(byOutcome["pass"]) == 0 {
		return errFailed
	}
	return nil
}
