// Package guide is what the product teaches: a recorded capture of each scenario of
// the guide, judged by today's rules, and what every rule means. It opens no
// network and keeps nothing but what it was asked to import.
package guide

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/diagnosis"
	"github.com/opscenter/opscenter/internal/examine"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/report"
)

// The bundles of scenarios 1 to 6 and of a healthy service, as
// scripts/samples.sh records them.
//
//go:embed samples/*.zip
var samples embed.FS

// Scenarios is how many the guide has; 0 is the healthy counter-example.
const Scenarios = 6

// Importer is what a Guide needs of the archive.
type Importer interface {
	// Capture returns a capture, or NotFound.
	Capture(context.Context, ops.CaptureID) (ops.Capture, error)
	// Import adds the capture of a bundle; Conflict if it is there already.
	Import(ctx context.Context, bundle io.ReaderAt, size int64, actor string) (ops.Capture, error)
}

// Guide answers questions. Safe for concurrent use.
type Guide struct {
	archive Importer

	mu   sync.Mutex // guards made; held while one is made, which takes a tenth of a second
	made map[int]*Sample
}

// New returns a guide that imports into an archive.
func New(a Importer) *Guide { return &Guide{archive: a, made: map[int]*Sample{}} }

// Sample is a recorded capture and what the rules say of it.
type Sample struct {
	Capture ops.Capture
	// Bodies are the diagnosis, as report.JSON writes it.
	Bodies map[ops.Lang][]byte
}

// Sample returns the capture of a scenario, 0 for the healthy one. NotFound if
// there is no such scenario.
func (g *Guide) Sample(ctx context.Context, scenario int) (*Sample, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.made[scenario]; s != nil {
		return s, nil
	}
	raw, err := bundle(scenario)
	if err != nil {
		return nil, err
	}
	s, err := judge(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("the sample of scenario %d: %w", scenario, err)
	}
	g.made[scenario] = s
	return s, nil
}

// Kept reports whether the capture of a sample is in the archive.
func (g *Guide) Kept(ctx context.Context, s *Sample) (bool, error) {
	_, err := g.archive.Capture(ctx, s.Capture.ID)
	if ops.KindOf(err) == ops.NotFound {
		return false, nil
	}
	return err == nil, err
}

// Open puts the capture of a scenario into the archive, unless it is there, and
// returns its id: all views of a capture then show it.
func (g *Guide) Open(ctx context.Context, scenario int, actor string) (ops.CaptureID, error) {
	s, err := g.Sample(ctx, scenario)
	if err != nil {
		return "", err
	}
	if kept, err := g.Kept(ctx, s); kept || err != nil {
		return s.Capture.ID, err
	}
	raw, err := bundle(scenario)
	if err != nil {
		return "", err
	}
	_, err = g.archive.Import(ctx, bytes.NewReader(raw), int64(len(raw)), actor)
	if ops.KindOf(err) == ops.Conflict { // somebody else opened it meanwhile
		err = nil
	}
	return s.Capture.ID, err
}

func bundle(scenario int) ([]byte, error) {
	if scenario < 0 || scenario > Scenarios {
		return nil, ops.Errorf(ops.NotFound, "the guide has no scenario %d: it has 1 to %d, and 0 where all is well", scenario, Scenarios)
	}
	name := "healthy"
	if scenario > 0 {
		name = fmt.Sprint(scenario)
	}
	return samples.ReadFile("samples/" + name + ".zip")
}

// judge lets the rules of today look at a bundle: what was said when it was
// recorded may be of older ones.
func judge(ctx context.Context, raw []byte) (*Sample, error) {
	b, err := archive.OpenBundle(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, err
	}
	res, err := examine.Capture(ctx, b.Capture, func(ctx context.Context, ref ops.ArtifactRef) (ops.Blob, error) {
		var w bytes.Buffer
		if err := b.Extract(ctx, ref.Instance, ref.Name, &w); err != nil {
			return nil, err
		}
		return blob{bytes.NewReader(w.Bytes())}, nil
	})
	if err != nil {
		return nil, err
	}
	s := &Sample{Capture: b.Capture, Bodies: map[ops.Lang][]byte{}}
	for _, l := range []ops.Lang{ops.English, ops.TraditionalChinese} {
		if s.Bodies[l], err = report.JSON(res.Diagnoses, res.Outliers, l); err != nil {
			return nil, err
		}
	}
	return s, nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

// Page is what a rule means, for who reads a finding of it.
type Page struct {
	Rule ops.RuleID
	// Scenario of the guide that it belongs to; 0 = none.
	Scenario int
	Name     ops.Text
	Manual
}

// Manual is what a rule's page says.
type Manual struct {
	// Means is what is wrong, and how people notice.
	Means ops.Text
	// Evidence is what the rule looks at.
	Evidence ops.Text
	// Thresholds are what makes a notice, a warning, a critical finding, and why.
	Thresholds ops.Text
	// NotThis is what looks alike and is something else.
	NotThis ops.Text
	// Kinds are what a capture needs for it.
	Kinds []ops.Kind
	// Related are rules that are easily mistaken for it, or are its cause or effect.
	Related []ops.RuleID
}

// Pages are those of all rules, by id. A rule without a page has its name alone.
func Pages() []Page {
	manuals := manuals()
	var out []Page
	for _, r := range diagnosis.Rules() {
		out = append(out, Page{Rule: r.ID, Scenario: r.Scenario, Name: r.Name, Manual: manuals[r.ID]})
	}
	return out
}

// PageOf returns that of one rule, or NotFound.
func PageOf(id ops.RuleID) (Page, error) {
	all := Pages()
	i := slices.IndexFunc(all, func(p Page) bool { return p.Rule == id })
	if i < 0 {
		return Page{}, ops.Errorf(ops.NotFound, "there is no rule %q: the guide lists those there are", id)
	}
	return all[i], nil
}
