package capture_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet is a fixed set of instances.
type fleet struct {
	instances []ops.Instance
	links     map[ops.InstanceID]ops.Link
}

func (f *fleet) add(service ops.ServiceName, id ops.InstanceID, link ops.Link) {
	f.instances = append(f.instances, ops.Instance{ID: id, Project: "color-game", Service: service, State: ops.InstanceUp})
	if f.links == nil {
		f.links = map[ops.InstanceID]ops.Link{}
	}
	if link != nil {
		f.links[id] = link
	}
}

func (f *fleet) Instances(k ops.ServiceKey) (out []ops.Instance) {
	for _, i := range f.instances {
		if i.Key() == k && i.State != ops.InstanceGone {
			out = append(out, i)
		}
	}
	return out
}

func (f *fleet) Instance(id ops.InstanceID) (ops.Instance, error) {
	for _, i := range f.instances {
		if i.ID == id {
			return i, nil
		}
	}
	return ops.Instance{}, ops.Errorf(ops.NotFound, "no instance %s", id)
}

func (f *fleet) Link(id ops.InstanceID) (ops.Link, error) {
	if l := f.links[id]; l != nil {
		return l, nil
	}
	return nil, ops.Errorf(ops.Unavailable, "instance %s has no link", id)
}

// link plays a script as its Collect.
type link struct {
	collect func(ctx context.Context, id ops.CaptureID, spec ops.Spec, sink ops.Sink, stop <-chan struct{}) (ops.CollectSummary, error)
	// opensLate makes Stop answer NotFound until that long after Collect began.
	opensLate time.Duration

	mu      sync.Mutex // guards all below
	windows map[ops.CaptureID]chan struct{}
	began   []time.Time
}

func (l *link) Collect(ctx context.Context, id ops.CaptureID, spec ops.Spec, sink ops.Sink) (ops.CollectSummary, error) {
	stop := make(chan struct{})
	l.mu.Lock()
	if l.windows == nil {
		l.windows = map[ops.CaptureID]chan struct{}{}
	}
	l.windows[id] = stop
	l.began = append(l.began, time.Now())
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.windows, id)
	}()
	return l.collect(ctx, id, spec, sink, stop)
}

func (l *link) Stop(_ context.Context, id ops.CaptureID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	stop := l.windows[id]
	if stop == nil || time.Since(l.began[len(l.began)-1]) < l.opensLate {
		return ops.Errorf(ops.NotFound, "no such window")
	}
	close(stop)
	delete(l.windows, id)
	return nil
}

func (*link) Watch(context.Context, time.Duration, bool, func(ops.Sample)) error {
	return errors.New("not part of these tests")
}

func (l *link) began0() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.began) == 0 {
		return time.Time{}
	}
	return l.began[0]
}

func (l *link) calls() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.began)
}

var errLost = ops.Errorf(ops.Unavailable, "read tcp 127.0.0.1:1: connection reset by peer")

// agent plays an agent's window in the order of the design: snapshots first,
// CPU in segments of 10 s, the rest at the end. dies > 0 loses the connection at
// that point of the window.
func agent(dies time.Duration) *link { return &link{collect: agentWindow(dies)} }

func agentWindow(dies time.Duration) func(context.Context, ops.CaptureID, ops.Spec, ops.Sink, <-chan struct{}) (ops.CollectSummary, error) {
	return func(ctx context.Context, _ ops.CaptureID, spec ops.Spec, sink ops.Sink, stop <-chan struct{}) (ops.CollectSummary, error) {
		start := time.Now()
		sum := ops.CollectSummary{WindowStart: start}
		put := func(name string, kind ops.Kind, phase ops.Phase, from time.Time, data []byte) error {
			return send(sink, ops.Artifact{Name: name, Kind: kind, Phase: phase, TakenAt: from, WindowStart: from, WindowEnd: time.Now()}, data)
		}
		for _, k := range []ops.Kind{ops.KindGoroutine, ops.KindHeap, ops.KindBlock, ops.KindMutex, ops.KindAllocs} {
			if err := put(k.FileNameBefore(), k, ops.PhaseBefore, start, blockProfile(map[string]int64{"old": 100, "hot": 10})); err != nil {
				return sum, err
			}
		}
		segment, from := 0, start
		closeSegment := func() error {
			d := time.Since(from)
			err := put(ops.KindCPU.FileNameSegment(segment), ops.KindCPU, ops.PhaseWindow, from, cpuProfile(from, d, map[string]int64{"work": int64(d / (10 * time.Millisecond))}))
			segment, from = segment+1, time.Now()
			return err
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for open := true; open; {
			select {
			case <-ctx.Done():
				return sum, ctx.Err()
			case <-stop:
				sum.StoppedEarly, open = true, false
			case <-tick.C:
				elapsed := time.Since(start)
				sink.Progress(ops.Progress{Elapsed: elapsed, Duration: spec.Duration, Activity: fmt.Sprintf("cpu segment %d", segment)})
				if dies > 0 && elapsed >= dies {
					w, err := sink.Begin(ops.Artifact{Name: "trace.out", Kind: ops.KindTrace, Phase: ops.PhaseWindow, TakenAt: time.Now()})
					if err == nil {
						_, _ = w.Write([]byte("go 1.26 trace"))
					}
					return sum, errLost // and leaves the trace open
				}
				open = elapsed < spec.Duration
				if time.Since(from) >= 10*time.Second {
					if err := closeSegment(); err != nil {
						return sum, err
					}
					time.Sleep(100 * time.Millisecond) // the gap
					from = time.Now()
				}
			}
		}
		if time.Since(from) >= 10*time.Millisecond {
			if err := closeSegment(); err != nil {
				return sum, err
			}
		}
		sum.WindowEnd = time.Now()
		for _, k := range []ops.Kind{ops.KindBlock, ops.KindMutex, ops.KindAllocs} {
			if err := put(k.FileNameAfter(), k, ops.PhaseAfter, time.Now(), blockProfile(map[string]int64{"old": 100, "hot": 35})); err != nil {
				return sum, err
			}
		}
		for _, k := range []ops.Kind{ops.KindGoroutine, ops.KindHeap} {
			if err := put(k.FileName(), k, ops.PhaseAfter, time.Now(), blockProfile(map[string]int64{"old": 1})); err != nil {
				return sum, err
			}
		}
		sum.Losses = []ops.Loss{{Kind: ops.KindGoroutineLeak, Reason: ops.LossUnsupported, Message: "this build has no goroutine leak profile"}}
		return sum, nil
	}
}

// send hands one whole artifact over.
func send(sink ops.Sink, a ops.Artifact, data []byte) error {
	w, err := sink.Begin(a)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		_ = w.Abort(ops.Loss{Kind: a.Kind, Reason: ops.LossTruncated, Message: err.Error()})
		return err
	}
	sum := sha256.Sum256(data)
	return w.Commit(int64(len(data)), sum[:], a)
}

// archive keeps everything in memory.
type archive struct {
	mu        sync.Mutex // guards all below
	log       []string
	rows      map[ops.CaptureID]*ops.Capture
	data      map[ops.ArtifactRef][]byte
	arts      map[ops.ArtifactRef]ops.Artifact
	beginErr  error
	updateErr error
	writeErr  error // of artifacts, once writeMost bytes are in
	writeMost int
	written   int
}

func newArchive() *archive {
	return &archive{rows: map[ops.CaptureID]*ops.Capture{}, data: map[ops.ArtifactRef][]byte{}, arts: map[ops.ArtifactRef]ops.Artifact{}}
}

func (a *archive) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

func (a *archive) Begin(_ context.Context, c ops.Capture) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.beginErr != nil {
		return a.beginErr
	}
	c.Targets = slices.Clone(c.Targets)
	a.rows[c.ID] = &c
	a.log = append(a.log, "begin "+string(c.State))
	return nil
}

func (a *archive) Update(_ context.Context, c ops.Capture) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.updateErr != nil {
		return a.updateErr
	}
	r := a.rows[c.ID]
	r.State, r.Reason, r.Finished, r.Pinned = c.State, c.Reason, c.Finished, c.Pinned
	a.log = append(a.log, "capture "+string(c.State))
	return nil
}

func (a *archive) UpdateTarget(_ context.Context, id ops.CaptureID, t ops.CaptureTarget) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.updateErr != nil {
		return a.updateErr
	}
	for i := range a.rows[id].Targets {
		if old := &a.rows[id].Targets[i]; old.Instance.ID == t.Instance.ID {
			t.Instance = old.Instance
			t.Losses = slices.Clone(t.Losses)
			*old = t
		}
	}
	return nil
}

func (a *archive) Create(_ context.Context, ref ops.ArtifactRef, art ops.Artifact) (ops.ArtifactWriter, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, "create "+ref.Name)
	return &archiveWriter{a: a, ref: ref, art: art}, nil
}

func (a *archive) Put(_ context.Context, ref ops.ArtifactRef, art ops.Artifact, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	sum := sha256.Sum256(b.Bytes())
	a.mu.Lock()
	defer a.mu.Unlock()
	art.SizeBytes, art.SHA256 = int64(b.Len()), hex.EncodeToString(sum[:])
	a.data[ref], a.arts[ref] = b.Bytes(), art
	a.log = append(a.log, "put "+ref.Name)
	return nil
}

func (a *archive) Remove(_ context.Context, ref ops.ArtifactRef) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.data, ref)
	delete(a.arts, ref)
	a.log = append(a.log, "remove "+ref.Name)
	return nil
}

func (a *archive) Capture(_ context.Context, id ops.CaptureID) (ops.Capture, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.rows[id]
	if r == nil {
		return ops.Capture{}, ops.Errorf(ops.NotFound, "no capture %s", id)
	}
	c := *r
	c.Targets = slices.Clone(c.Targets)
	for i := range c.Targets {
		for ref, art := range a.arts {
			if ref.Capture == id && ref.Instance == c.Targets[i].Instance.ID {
				c.Targets[i].Artifacts = append(c.Targets[i].Artifacts, art)
			}
		}
		slices.SortFunc(c.Targets[i].Artifacts, func(x, y ops.Artifact) int { return bytes.Compare([]byte(x.Name), []byte(y.Name)) })
	}
	return c, nil
}

func (a *archive) Captures(ctx context.Context, _ ops.CaptureFilter) (out []ops.Capture, err error) {
	a.mu.Lock()
	ids := slices.Sorted(maps.Keys(a.rows))
	a.mu.Unlock()
	slices.Reverse(ids)
	for _, id := range ids {
		c, err := a.Capture(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

type blob struct{ *bytes.Reader }

func (b blob) Close() error { return nil }
func (b blob) Size() int64  { return b.Reader.Size() }

func (a *archive) OpenArtifact(_ context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.data[ref]
	if !ok {
		return nil, ops.Artifact{}, ops.Errorf(ops.NotFound, "no artifact %s", ref)
	}
	return blob{bytes.NewReader(d)}, a.arts[ref], nil
}

func (a *archive) Pin(_ context.Context, id ops.CaptureID, pinned bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rows[id].Pinned = pinned
	return nil
}

func (a *archive) Delete(_ context.Context, id ops.CaptureID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.rows, id)
	return nil
}

func (a *archive) Import(_ context.Context, _ io.ReaderAt, _ int64, actor string) (ops.Capture, error) {
	c := ops.Capture{ID: "imported", State: ops.CaptureDone, Actor: actor, Imported: true}
	a.set(func() { a.rows[c.ID] = &c })
	return c, nil
}

type archiveWriter struct {
	a   *archive
	ref ops.ArtifactRef
	art ops.Artifact
	buf bytes.Buffer
}

func (w *archiveWriter) Write(p []byte) (int, error) {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	if w.a.writeErr != nil && w.a.written+len(p) > w.a.writeMost {
		return 0, w.a.writeErr
	}
	w.a.written += len(p)
	return w.buf.Write(p)
}

func (w *archiveWriter) Offset() int64 { return int64(w.buf.Len()) }

func (w *archiveWriter) Commit(size int64, sum []byte, final ops.Artifact) error {
	got := sha256.Sum256(w.buf.Bytes())
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	final.SizeBytes, final.SHA256 = int64(w.buf.Len()), hex.EncodeToString(got[:])
	if size != final.SizeBytes || !bytes.Equal(sum, got[:]) {
		final.Partial = true
		w.a.data[w.ref], w.a.arts[w.ref] = w.buf.Bytes(), final
		return ops.Errorf(ops.Corrupt, "%s does not match its checksum", w.ref.Name)
	}
	w.a.data[w.ref], w.a.arts[w.ref] = w.buf.Bytes(), final
	return nil
}

func (w *archiveWriter) Abort(l ops.Loss) error {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	if w.buf.Len() == 0 {
		return nil
	}
	w.art.Partial, w.art.SizeBytes, w.art.Losses = true, int64(w.buf.Len()), []ops.Loss{l}
	w.a.data[w.ref], w.a.arts[w.ref] = w.buf.Bytes(), w.art
	return nil
}

// house is an engine with its surroundings, which runs until the test ends.
type house struct {
	*capture.Engine
	fleet   *fleet
	archive *archive
	t       *testing.T
	// end ends Run and waits for it.
	end func()
}

func newHouse(t *testing.T, limits capture.Limits, fill func(*fleet)) *house {
	t.Helper()
	h := &house{fleet: &fleet{}, archive: newArchive(), t: t}
	fill(h.fleet)
	h.Engine = capture.New(capture.Config{Fleet: h.fleet, Archive: h.archive, Limits: limits})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := h.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	h.end = func() {
		cancel()
		<-ended
	}
	t.Cleanup(h.end)
	return h
}

// start begins a capture that must be accepted.
func (h *house) start(req capture.Request) ops.CaptureID {
	h.t.Helper()
	if req.Project == "" && req.Instances == nil {
		req.Project = "color-game"
	}
	c, err := h.Start(h.t.Context(), req)
	if err != nil {
		h.t.Fatalf("Start: %v", err)
	}
	return c.ID
}

// ended waits for a capture to end.
func (h *house) ended(id ops.CaptureID) ops.Capture {
	h.t.Helper()
	sub := h.Subscribe()
	defer sub.Close()
	for {
		s, err := h.Capture(h.t.Context(), id)
		if err != nil {
			h.t.Fatalf("Capture: %v", err)
		}
		if s.State.Ended() && len(s.Live) == 0 {
			return s.Capture
		}
		if _, err := sub.Next(h.t.Context()); err != nil {
			h.t.Fatal(err)
		}
	}
}

// read parses an artifact.
func (h *house) read(id ops.CaptureID, instance ops.InstanceID, name string) *pprof.Profile {
	h.t.Helper()
	b, _, err := h.archive.OpenArtifact(h.t.Context(), ops.ArtifactRef{Capture: id, Instance: instance, Name: name})
	if err != nil {
		h.t.Fatalf("%s: %v", name, err)
	}
	p, err := pprof.Parse(b)
	if err != nil {
		h.t.Fatalf("%s: %v", name, err)
	}
	return p
}

// sums adds the last value up by function.
func sums(p *pprof.Profile) map[string]int64 {
	out := map[string]int64{}
	for _, s := range p.Sample {
		out[s.Location[0].Line[0].Function.Name] += s.Value[len(s.Value)-1]
	}
	return out
}

func names(t ops.CaptureTarget) (out []string) {
	for _, a := range t.Artifacts {
		out = append(out, a.Name)
	}
	return out
}

func cpuProfile(at time.Time, d time.Duration, samples map[string]int64) []byte {
	return encode(&pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1e7,
		TimeNanos: at.UnixNano(), DurationNanos: int64(d),
	}, samples)
}

func blockProfile(samples map[string]int64) []byte {
	return encode(&pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "contentions", Unit: "count"}, Period: 1,
		TimeNanos: time.Now().UnixNano(),
	}, samples)
}

func encode(p *pprof.Profile, samples map[string]int64) []byte {
	p.Mapping = []*pprof.Mapping{{ID: 1, Start: 0x1000, Limit: 0x9000, File: "/app"}}
	for i, name := range slices.Sorted(maps.Keys(samples)) {
		f := &pprof.Function{ID: uint64(i + 1), Name: name, SystemName: name, Filename: name + ".go"}
		l := &pprof.Location{ID: uint64(i + 1), Mapping: p.Mapping[0], Address: 0x1000 + uint64(i), Line: []pprof.Line{{Function: f, Line: 1}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
		p.Sample = append(p.Sample, &pprof.Sample{Location: []*pprof.Location{l}, Value: []int64{samples[name], samples[name]}})
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}
