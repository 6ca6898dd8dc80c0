package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/exp/trace"
)

// capture is what ops capture --json says.
type capture struct {
	ID      string
	State   string
	Reason  string
	Targets []target
}

type target struct {
	Instance struct {
		ID      string
		Service string
	}
	State     string
	Reason    string
	Losses    []loss
	Artifacts []artifact
}

type loss struct{ Kind, Reason, Message string }

type artifact struct {
	Name      string
	TakenAt   time.Time `json:"taken_at"`
	SizeBytes int64     `json:"size_bytes"`
	Losses    []loss
	Partial   bool
}

// evidence is a capture of one instance with its files.
type evidence struct {
	capture
	files   map[string][]byte
	verdict verdict
}

// captureOne captures one instance of a service through the command line and
// exports what came of it.
func captureOne(t *testing.T, server, service string, args ...string) evidence {
	t.Helper()
	out, code := ops(t, server, append([]string{"capture", service, "--project", "color-game", "--json"}, args...)...)
	if code != exitDone && code != exitPartial {
		t.Fatalf("capturing %s: exit code %d\n%s", service, code, out)
	}
	var answer struct{ Capture capture }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("capturing %s: %v\n%s", service, err, out)
	}
	return export(t, server, answer.Capture)
}

// export downloads a capture's bundle and unpacks it.
func export(t *testing.T, server string, c capture) evidence {
	t.Helper()
	if len(c.Targets) != 1 {
		t.Fatalf("capture %s has %d targets", c.ID, len(c.Targets))
	}
	file := filepath.Join(t.TempDir(), "bundle.zip")
	if out, code := ops(t, server, "export", c.ID, "-o", file); code != exitDone {
		t.Fatalf("exporting %s: exit code %d\n%s", c.ID, code, out)
	}
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	e := evidence{capture: c, files: map[string][]byte{}, verdict: diagnosis(t, server, c.ID)}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if path.Base(path.Dir(f.Name)) == c.Targets[0].Instance.ID {
			e.files[path.Base(f.Name)] = b
		}
	}
	return e
}

// profile reads one of the capture's profiles.
func (e evidence) profile(t *testing.T, name string) *profile.Profile {
	t.Helper()
	b, ok := e.files[name]
	if !ok {
		t.Fatalf("capture %s of %s has no %s: %+v", e.ID, e.Targets[0].Instance.Service, name, e.Targets[0])
	}
	p, err := profile.ParseData(b)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return p
}

// takenAt is when an artifact was taken.
func (e evidence) takenAt(t *testing.T, name string) time.Time {
	t.Helper()
	for _, a := range e.Targets[0].Artifacts {
		if a.Name == name {
			return a.TakenAt
		}
	}
	t.Fatalf("capture %s has no %s", e.ID, name)
	return time.Time{}
}

// frame is a line of a stack.
type frame struct {
	function string
	file     string
	line     int64
}

// weigh sums a sample type over the samples that have a matching frame, and over
// all.
func weigh(t *testing.T, p *profile.Profile, sampleType string, match func(frame) bool) (matching, total float64) {
	t.Helper()
	index := -1
	for i, st := range p.SampleType {
		if st.Type == sampleType {
			index = i
		}
	}
	if index < 0 {
		t.Fatalf("the profile has no sample type %s: %v", sampleType, p.SampleType)
	}
	for _, s := range p.Sample {
		v := float64(s.Value[index])
		total += v
		if hasFrame(s, match) {
			matching += v
		}
	}
	return matching, total
}

func hasFrame(s *profile.Sample, match func(frame) bool) bool {
	for _, loc := range s.Location {
		for _, l := range loc.Line {
			if l.Function != nil && match(frame{l.Function.Name, l.Function.Filename, l.Line}) {
				return true
			}
		}
	}
	return false
}

func share(matching, total float64) float64 {
	if total == 0 {
		return 0
	}
	return matching / total
}

// function matches frames by the end of their function's name.
func function(suffixes ...string) func(frame) bool {
	return func(f frame) bool {
		for _, s := range suffixes {
			if strings.HasSuffix(f.function, s) {
				return true
			}
		}
		return false
	}
}

// waits is how goroutines spent the trace: in the network or a connection pool,
// and in all.
type waits struct {
	goroutines    int
	io, all       time.Duration
	reasons       map[string]time.Duration
	windowSeconds float64
}

// waitsOf adds up, over the goroutines that have root on their stack, how long
// they waited for the network or a connection, of all the time they were seen.
//
// Goroutines that were already waiting when the trace began have a stack but no
// reason, so both are looked at.
func waitsOf(t *testing.T, b []byte, root string) waits {
	t.Helper()
	r, err := trace.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("trace.out: %v", err)
	}
	type life struct {
		ours  bool
		since trace.Time
		in    string // what it is doing since then
		spent map[string]time.Duration
	}
	lives := map[trace.GoID]*life{}
	var first, last trace.Time
	for {
		ev, err := r.ReadEvent()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("trace.out: %v", err)
		}
		if first == 0 {
			first = ev.Time()
		}
		last = ev.Time()
		if ev.Kind() != trace.EventStateTransition {
			continue
		}
		st := ev.StateTransition()
		if st.Resource.Kind != trace.ResourceGoroutine {
			continue
		}
		id := st.Resource.Goroutine()
		from, to := st.Goroutine()
		g := lives[id]
		if g == nil {
			g = &life{since: ev.Time(), spent: map[string]time.Duration{}}
			lives[id] = g
		}
		var pool, poll, mine bool
		for f := range st.Stack.Frames() {
			mine = mine || strings.HasSuffix(f.Func, root)
			pool = pool || strings.Contains(f.Func, "pgxpool.(*Pool).Acquire") || strings.Contains(f.Func, "puddle/v2.(*Pool")
			poll = poll || strings.HasPrefix(f.Func, "internal/poll.") || f.Func == "runtime.netpollblock"
		}
		g.ours = g.ours || mine
		if from == to && from != trace.GoUndetermined {
			// A status of a later part of the trace: it may tell what we did not know.
			if g.in == "waiting" && (pool || poll) {
				g.in = "io"
			}
			continue
		}
		if g.in != "" {
			g.spent[g.in] += ev.Time().Sub(g.since)
		}
		g.since = ev.Time()
		switch {
		case to == trace.GoWaiting && (st.Reason == "network" || pool || poll):
			g.in = "io"
		case to == trace.GoWaiting:
			g.in = "waiting"
		case to == trace.GoNotExist:
			g.in = ""
		default:
			g.in = "not waiting"
		}
	}
	w := waits{reasons: map[string]time.Duration{}, windowSeconds: last.Sub(first).Seconds()}
	for _, g := range lives {
		if !g.ours {
			continue
		}
		w.goroutines++
		if g.in != "" {
			g.spent[g.in] += last.Sub(g.since)
		}
		for in, d := range g.spent {
			w.all += d
			w.reasons[in] += d
			if in == "io" {
				w.io += d
			}
		}
	}
	return w
}

// sampledCount is the relative standard deviation of an estimate of n objects of
// that size, from a heap profile that samples once in so many bytes.
func sampledCount(n, sizeBytes, everyBytes float64) float64 {
	p := 1 - math.Exp(-sizeBytes/everyBytes)
	return math.Sqrt((1 - p) / (p * n))
}
