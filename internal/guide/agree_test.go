package guide_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/diagnosis"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/flame"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/guide"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// unpacked is a sample as an archive has it.
type unpacked struct {
	capture ops.Capture
	files   map[string][]byte // of its only instance
}

func (u *unpacked) Capture(context.Context, ops.CaptureID) (ops.Capture, error) {
	return u.capture, nil
}

func (u *unpacked) OpenArtifact(_ context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	raw, ok := u.files[ref.Name]
	if !ok {
		return nil, ops.Artifact{}, ops.Errorf(ops.NotFound, "there is no %s", ref)
	}
	return blob{bytes.NewReader(raw)}, ops.Artifact{Name: ref.Name}, nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

func unpack(t *testing.T, name string) *unpacked {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("samples", name+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := archive.OpenBundle(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	u := &unpacked{capture: b.Capture, files: map[string][]byte{}}
	target := b.Capture.Targets[0]
	for _, a := range target.Artifacts {
		var w bytes.Buffer
		if err := b.Extract(t.Context(), target.Instance.ID, a.Name, &w); err != nil {
			t.Fatal(err)
		}
		u.files[a.Name] = w.Bytes()
	}
	return u
}

func (u *unpacked) diagnose(t *testing.T) ops.Diagnosis {
	t.Helper()
	var files []evidence.File
	for name, raw := range u.files {
		files = append(files, evidence.File{Name: name, Reader: bytes.NewReader(raw), Size: int64(len(raw))})
	}
	slices.SortFunc(files, func(a, b evidence.File) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	e, err := evidence.Load(t.Context(), files, evidence.Options{Instance: u.capture.Targets[0].Instance})
	if err != nil {
		t.Fatal(err)
	}
	d, err := diagnosis.Diagnose(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// differences are figures of two files, which no view shows by itself.
var differences = map[string]bool{"inuse_space_growth": true, "array_size": true, "kept_share": true}

// digits is what the three digits of a sentence do not show.
const digits = 5e-4

// What evidence says must be what one reads in the view that it points to: the figure
// at its place, and the share of the whole file.
func TestEvidenceOfSamplesAgreesWithItsViews(t *testing.T) {
	compared := map[ops.Kind]int{}
	for scenario := 1; scenario <= guide.Scenarios; scenario++ {
		u := unpack(t, fmt.Sprint(scenario))
		for _, f := range u.diagnose(t).Findings {
			for _, p := range slices.Concat(f.Evidence, f.CounterEvidence) {
				if len(p.At) == 0 || differences[p.Metric] {
					continue
				}
				value, whole := u.seen(t, p)
				if whole == 0 {
					continue
				}
				compared[p.Artifact]++
				if math.Abs(value-p.Value) > digits*p.Value {
					t.Errorf("scenario %d, %s: %q says %g %s, and the view of it at %v %g", scenario, f.Rule, p.Text.EN, p.Value, p.Unit, p.At, value)
				}
				if p.Share > 0 && math.Abs(value/whole-p.Share) > digits*p.Share {
					t.Errorf("scenario %d, %s: %q has a share of %g, and the view of it %g", scenario, f.Rule, p.Text.EN, p.Share, value/whole)
				}
			}
		}
	}
	for _, k := range []ops.Kind{ops.KindCPU, ops.KindBlock, ops.KindMutex, ops.KindHeap, ops.KindGoroutine} {
		if compared[k] == 0 {
			t.Errorf("no figure of a %s is compared", k)
		}
	}
}

// seen is what the view shows at the proof's places, and of how much. whole is 0 of a
// file that has no such view.
func (u *unpacked) seen(t *testing.T, p ops.Proof) (value, whole float64) {
	t.Helper()
	if p.Artifact == ops.KindGoroutine || p.Artifact == ops.KindGoroutineDump {
		return u.counted(t, p)
	}
	unit, ok := map[string]struct {
		types []string
		value float64
	}{"s": {[]string{"cpu", "delay"}, 1e9}, "bytes": {[]string{"inuse_space", "alloc_space"}, 1}, "B": {[]string{"inuse_space", "alloc_space"}, 1}, "objects": {[]string{"inuse_objects", "alloc_objects"}, 1}}[p.Unit]
	if !ok || u.files[string(p.Artifact)+".pprof"] == nil {
		return 0, 0
	}
	r := flame.New(flame.Config{Archive: u})
	for _, typ := range unit.types {
		q := flame.Query{Source: flame.Source{Capture: u.capture.ID, Artifact: string(p.Artifact) + ".pprof"}, Type: typ}
		if p.Artifact == ops.KindAllocs && typ == "inuse_space" || p.Artifact == ops.KindAllocs && typ == "inuse_objects" {
			continue
		}
		sum := 0.0
		var in float64
		for _, at := range p.At {
			f, err := r.Function(t.Context(), q, at.Function)
			if err != nil {
				break
			}
			sum += float64(f.Total) / unit.value
			in = float64(f.Source.Total) / unit.value
		}
		if in > 0 {
			return sum, in
		}
	}
	t.Errorf("%q points to %v, which is not in %s", p.Text.EN, p.At, p.Artifact)
	return 0, 0
}

func (u *unpacked) counted(t *testing.T, p ops.Proof) (value, whole float64) {
	t.Helper()
	name := "goroutine.pprof"
	if p.Artifact == ops.KindGoroutineDump {
		name = "goroutine.txt"
	}
	s, err := goroutines.Read(bytes.NewReader(u.files[name]), profile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range s.Groups {
		frames := g.Stack
		if g.CreatedBy != nil {
			frames = append(slices.Clip(frames), *g.CreatedBy)
		}
		if slices.ContainsFunc(frames, func(f goroutines.Frame) bool {
			return slices.ContainsFunc(p.At, func(at ops.Place) bool {
				return f.Function == at.Function && (at.Line == 0 || f.Line == int64(at.Line))
			})
		}) {
			value += float64(g.Count)
		}
	}
	return value, float64(s.Total)
}

// waits are the metrics whose sentences name the longest wait.
var waits = map[string]bool{"wait_seconds": true, "runnable_wait_seconds": true, "runnable_per_running": true}

// The timeline opens at the wait that the sentence names as its longest.
func TestTheTimelineOpensAtTheWaitThatIsClaimed(t *testing.T) {
	claims := 0
	for scenario := 1; scenario <= guide.Scenarios; scenario++ {
		for _, f := range unpack(t, fmt.Sprint(scenario)).diagnose(t).Findings {
			for _, p := range f.Evidence {
				if p.Artifact != ops.KindTrace || !waits[p.Metric] {
					continue
				}
				claims++
				if p.Moment == nil || len(p.Moment.Goroutines) == 0 || !tells(t, p.Text.EN, p.Moment.To-p.Moment.From) {
					t.Errorf("scenario %d, %s: %q opens at %+v", scenario, f.Rule, p.Text.EN, p.Moment)
				}
			}
		}
	}
	if claims < 6 {
		t.Errorf("only %d claims of waits", claims)
	}
}

var durations = regexp.MustCompile(`\d[\d.]* (?:ns|µs|ms|s)\b`)

// tells reports whether a sentence names the duration. What a wait for a lock took has
// the time until its goroutine ran, which the timeline shows apart: a hundredth.
func tells(t *testing.T, sentence string, d time.Duration) bool {
	t.Helper()
	return slices.ContainsFunc(durations.FindAllString(sentence, -1), func(s string) bool {
		told, err := time.ParseDuration(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return math.Abs(float64(told-d)) <= 0.01*float64(d)
	})
}

// One capture is told the same each time: also of waits that lasted equally long.
func TestASampleIsToldTheSameEachTime(t *testing.T) {
	u := unpack(t, "2")
	first := u.diagnose(t)
	for range 3 {
		if diff := cmp.Diff(first, u.diagnose(t)); diff != "" {
			t.Fatal(diff)
		}
	}
}
