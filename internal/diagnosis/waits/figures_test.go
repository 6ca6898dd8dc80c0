package waits_test

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	ended    = regexp.MustCompile(`waits in \S+ s of trace: ([\d,]+) ended, [\d,]+ more not over at its end; together (\S+(?: \S+)?), which is (\S+ \S+) for each that ended; the longest (\S+ [^\s;]+)`)
	all      = regexp.MustCompile(`waits in \S+ s of trace: ([\d,]+)(?:, none of which ended)?[,;] together (\S+(?: \S+)?), (?:which is )?(\S+ \S+) each(?: so far)?[,;] the longest (\S+ [^\s;]+)`)
	duration = regexp.MustCompile(`\d[\d.]* (?:ns|µs|ms|s)\b`)
)

// Whoever reads a finding can check its figures against each other: what all waits
// took is their number times what one takes, none is longer than the longest, and how
// long one takes by the title is said again by what proves it.
func TestFiguresOfAFindingAgree(t *testing.T) {
	checked := 0
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, want, _ := strings.Cut(string(b), "-- want --")
		for _, re := range []*regexp.Regexp{ended, all} {
			for _, m := range re.FindAllStringSubmatch(want, -1) {
				checked++
				n, _ := strconv.ParseFloat(strings.ReplaceAll(m[1], ",", ""), 64)
				sum, each, longest := span(t, m[2]), span(t, m[3]), span(t, m[4])
				if math.Abs(n*each-sum) > 0.02*sum || each > 1.01*longest {
					t.Errorf("%s: %s", path, m[0])
				}
			}
		}
		for _, finding := range strings.Split(want, "\n\n") {
			title, rest, _ := strings.Cut(finding, "\n")
			if !strings.Contains(title, " confidence, scenario ") {
				continue
			}
			_, proofs, _ := strings.Cut(rest, "evidence: ")
			for _, d := range duration.FindAllString(title, -1) {
				if checked++; !strings.Contains(proofs, d) {
					t.Errorf("%s: %s is in the title, but in no proof: %s", path, d, title)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 50 {
		t.Errorf("only %d figures were checked", checked)
	}
}

// span reads "38.6 s" and "2h10m0s" as seconds.
func span(t *testing.T, s string) float64 {
	t.Helper()
	d, err := time.ParseDuration(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return d.Seconds()
}
