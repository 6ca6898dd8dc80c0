package agentlink

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

type collectStream = grpc.ServerStreamingServer[agentv1.CollectPerformanceDataResponse]

func begin(n uint32, name string) *agentv1.CollectPerformanceDataResponse {
	return &agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_ArtifactBegin{
		ArtifactBegin: &agentv1.ArtifactBegin{Artifact: n, Name: name, Kind: agentv1.Kind_KIND_HEAP},
	}}
}

func data(n uint32, off int64, s string) *agentv1.CollectPerformanceDataResponse {
	return collectChunk(&agentv1.Chunk{Artifact: n, Offset: off, Data: []byte(s), Crc32C: crc32.Checksum([]byte(s), castagnoli)})
}

func ended(n uint32, size int64, sum string) *agentv1.CollectPerformanceDataResponse {
	return &agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_ArtifactEnd{
		ArtifactEnd: &agentv1.ArtifactEnd{Artifact: n, SizeBytes: size, Sha256: []byte(sum)},
	}}
}

func summary() *agentv1.CollectPerformanceDataResponse {
	return &agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Summary{Summary: &agentv1.Summary{}}}
}

// TestHostileOrderings plays streams that no honest agent sends.
func TestHostileOrderings(t *testing.T) {
	sum := strings.Repeat("x", 32)
	type script []*agentv1.CollectPerformanceDataResponse
	many := script{}
	for n := range uint32(maxArtifacts + 1) {
		many = append(many, begin(n+1, fmt.Sprintf("a%d", n)), ended(n+1, 0, sum))
	}
	cases := []struct {
		name   string
		script script
		want   string
	}{
		{"nothing", nil, "the stream ended without a summary"},
		{"data of what never began", script{data(1, 0, "x")}, "data of artifact 1, which never began"},
		{"the end of what never began", script{ended(1, 0, sum)}, "the end of artifact 1, which never began"},
		{"begun twice", script{begin(1, "a"), begin(1, "a")}, "artifact 1 began twice"},
		{"a number left out", script{begin(2, "a")}, "artifact 2 began where 1 was due"},
		{"number zero", script{begin(0, "a")}, "artifact 0 began where 1 was due"},
		{"one name for two", script{begin(1, "a"), begin(2, "a")}, "two artifacts are named a"},
		{"a path", script{begin(1, "../../etc/passwd")}, `artifact 1 is named "../../etc/passwd", which is not a file name`},
		{"no name", script{begin(1, "")}, `artifact 1 is named "", which is not a file name`},
		{"data after the end", script{begin(1, "a"), ended(1, 0, sum), data(1, 0, "x")}, "data of artifact 1 after its end"},
		{"ended twice", script{begin(1, "a"), ended(1, 0, sum), ended(1, 0, sum)}, "artifact 1 ended twice"},
		{"a short sum", script{begin(1, "a"), ended(1, 0, "abc")}, "the SHA-256 of artifact 1 has 3 bytes"},
		{"more after the summary", script{summary(), summary()}, "the stream goes on after the summary"},
		{"too many artifacts", many, "it sends more than 256 artifacts"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ce := newCentre(t, Config{})
			a := newFakeAgent("boot-1")
			a.onCollect = func(_ *agentv1.CollectPerformanceDataRequest, s collectStream) error {
				for _, m := range c.script {
					if err := s.Send(m); err != nil {
						return err
					}
				}
				return nil
			}
			a.dial(t, ce.address)
			r := opstest.NewRecorder()
			got := <-collect(t.Context(), ce.roster.next(t).link, spec(t, time.Second), r)
			want := "the agent broke the protocol: " + c.want + "; update it"
			if got.err == nil || got.err.Error() != want || ops.KindOf(got.err) != ops.Corrupt {
				t.Errorf("%v (%s)\nwant: %s", got.err, ops.KindOf(got.err), want)
			}
			for _, x := range r.Artifacts() {
				if x.Ends != 1 {
					t.Errorf("%s was ended %d times", x.Begun.Name, x.Ends)
				}
			}
		})
	}
}

func TestWhatAnAgentMaySay(t *testing.T) {
	cases := []struct {
		name string
		play func(*agentv1.CollectPerformanceDataRequest, collectStream) error
		want string
		kind ops.ErrorKind
	}{
		{"its own limit", func(*agentv1.CollectPerformanceDataRequest, collectStream) error {
			return status.Error(codes.ResourceExhausted, "2 captures are running on this instance, which is its limit")
		}, "instance boot-1: 2 captures are running on this instance, which is its limit", ops.Exhausted},
		{"a message without end", func(_ *agentv1.CollectPerformanceDataRequest, s collectStream) error {
			if err := s.Send(begin(1, "a")); err != nil {
				return err
			}
			return s.Send(data(1, 0, strings.Repeat("x", maxEventBytes)))
		}, "instance boot-1: grpc: received message larger than max (65551 vs. 65536)", ops.Exhausted},
		{"runs already", func(*agentv1.CollectPerformanceDataRequest, collectStream) error {
			return status.Error(codes.AlreadyExists, "capture capture-1 is already on this instance")
		}, "instance boot-1: capture capture-1 is already on this instance", ops.Conflict},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ce := newCentre(t, Config{})
			a := newFakeAgent("boot-1")
			a.onCollect = c.play
			a.dial(t, ce.address)
			got := <-collect(t.Context(), ce.roster.next(t).link, spec(t, time.Second), opstest.NewRecorder())
			if got.err == nil || got.err.Error() != c.want || ops.KindOf(got.err) != c.kind {
				t.Errorf("%v (%s)\nwant: %s (%s)", got.err, ops.KindOf(got.err), c.want, c.kind)
			}
		})
	}
}

func TestMoreBytesThanACaptureMayHave(t *testing.T) {
	c := newCollection(&link{s: New(Config{}), id: "boot-1"}, "capture-1", spec(t, time.Second), opstest.NewRecorder())
	c.conn = &conn{}
	if err := c.begin(begin(1, "a").GetArtifactBegin(), 0); err != nil {
		t.Fatal(err)
	}
	c.received = ops.MaxCaptureBytes
	var e event
	if err := newCodec().Unmarshal(inPieces(marshal(t, data(1, 0, "x")), 5), &e); err != nil {
		t.Fatal(err)
	}
	err := c.take(t.Context(), &e, 0)
	want := "instance boot-1 sent more than 512 MiB, the most for one capture: ask for fewer kinds or a shorter trace"
	if err == nil || err.Error() != want || ops.KindOf(err) != ops.Exhausted {
		t.Errorf("%v\nwant: %s", err, want)
	}
	c.abortOpen(err)
	if l := c.sink.(*opstest.Recorder).Artifacts()[0].Loss; l.Reason != ops.LossTruncated {
		t.Errorf("%+v, want it truncated", l)
	}
}

func TestAKindOfANewerAgent(t *testing.T) {
	ce := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	var b *agentv1.ArtifactBegin
	a.onCollect = func(_ *agentv1.CollectPerformanceDataRequest, s collectStream) error {
		m := begin(1, "future.bin")
		b = m.GetArtifactBegin()
		b.Kind = 77
		for _, m := range []*agentv1.CollectPerformanceDataResponse{m, data(1, 0, "abc"), ended(1, 3, strings.Repeat("x", 32)), {}, summary()} {
			if err := s.Send(m); err != nil {
				return err
			}
		}
		return nil
	}
	a.dial(t, ce.address)
	r := opstest.NewRecorder()
	got := <-collect(t.Context(), ce.roster.next(t).link, spec(t, time.Second), r)
	if got.err != nil || len(r.Artifacts()) != 0 {
		t.Errorf("%v, %d artifacts; want none and no error", got.err, len(r.Artifacts()))
	}
	want := ops.Loss{Reason: ops.LossUnsupported, Message: "future.bin is of a kind that this centre does not know and was not kept: update the centre"}
	if len(got.sum.Losses) != 1 || got.sum.Losses[0] != want {
		t.Errorf("losses %+v, want %+v", got.sum.Losses, want)
	}
}

func TestAStreamThatDoesNotEndAfterItsLastWord(t *testing.T) {
	ce := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	a.onCollect = func(_ *agentv1.CollectPerformanceDataRequest, s collectStream) error {
		if err := s.Send(summary()); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	}
	a.dial(t, ce.address)
	began := time.Now()
	got := <-collect(t.Context(), ce.roster.next(t).link, spec(t, time.Second), opstest.NewRecorder())
	if got.err != nil || time.Since(began) > 10*endWithin {
		t.Errorf("%v after %v", got.err, time.Since(began))
	}
}

func TestHeartbeatsWithoutEnd(t *testing.T) {
	ce := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	a.onWatch = func(s grpc.ServerStreamingServer[agentv1.WatchMetricsResponse]) error {
		for {
			if err := s.Send(&agentv1.WatchMetricsResponse{}); err != nil {
				return err
			}
		}
	}
	a.dial(t, ce.address)
	link := ce.roster.next(t).link
	n := 0
	err := link.Watch(t.Context(), time.Second, false, func(ops.Sample) { n++ })
	if want := "instance boot-1 sends far more heartbeats than it was asked for: update its agent"; err == nil || (err.Error() != want && ops.KindOf(err) != ops.Unavailable) {
		t.Errorf("%v\nwant: %s", err, want) // the lease's watch may have ended the connection first
	}
	if n > 5 {
		t.Errorf("%d samples were passed on", n)
	}
}

func TestNumbersThatAreNone(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	s := sampleOf(&agentv1.WatchMetricsResponse{
		At: &timestamppb.Timestamp{Seconds: math.MaxInt64},
		Heartbeat: &agentv1.Heartbeat{
			CpuCores: nan, Goroutines: -5, RssBytes: math.MinInt64, GcCpuFraction: inf, SchedLatencyP99Seconds: math.Inf(-1), Gomaxprocs: -1,
		},
		Metrics: []*agentv1.Metric{
			{Name: "nan", Value: &agentv1.Metric_Float64{Float64: nan}},
			{Name: "torn", Value: &agentv1.Metric_Histogram{Histogram: &agentv1.Histogram{Counts: []uint64{1}, Buckets: []float64{0}}}},
			{Name: "whole", Value: &agentv1.Metric_Histogram{Histogram: &agentv1.Histogram{Counts: []uint64{1}, Buckets: []float64{math.Inf(-1), inf}}}},
			{Name: "nothing"},
			{Value: &agentv1.Metric_Uint64{Uint64: 1}},
		},
		Pools: []*agentv1.PoolStats{{Waiting: -9, WaitDuration: &durationpb.Duration{Seconds: math.MaxInt64}}},
	}, time.Hour)
	h := s.Heartbeat
	if h.CPUCores != 0 || h.Goroutines != 0 || h.RSSBytes != 0 || h.GCCPUFraction != 0 || h.SchedLatencyP99Second != 0 || h.GOMAXPROCS != 0 {
		t.Errorf("heartbeat %+v, want zeros", h)
	}
	if d := time.Since(h.At); d < 0 || d > time.Minute {
		t.Errorf("an impossible time became %v, want about now", h.At)
	}
	if len(s.Metrics) != 2 || s.Metrics[0].Value != 0 || s.Metrics[1].Name != "whole" {
		t.Errorf("metrics %+v, want nan as 0 and the whole histogram", s.Metrics)
	}
	if s.Pools[0].Waiting != -1 || s.Pools[0].WaitDuration != 0 {
		t.Errorf("pool %+v", s.Pools[0])
	}
	if at := onOurClock(timestamppb.New(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)), -48*time.Hour); !at.IsZero() {
		t.Errorf("a time beyond JSON's became %v", at)
	}
}

// TestAClockThatIsNone says a time from which no bundle could be made that is
// imported again.
func TestAClockThatIsNone(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	t.Cleanup(a.wg.Wait)
	a.onHello = func(h *agentv1.HelloResponse) { h.Now = timestamppb.New(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)) }
	a.dial(t, c.address)
	if j := c.roster.next(t); j.ClockOffset != 0 {
		t.Errorf("clock offset %v, want none", j.ClockOffset)
	}
}

// TestNumbersBeyondMeasure are numbers whose sums over a fleet would be none.
func TestNumbersBeyondMeasure(t *testing.T) {
	h := sampleOf(&agentv1.WatchMetricsResponse{Heartbeat: &agentv1.Heartbeat{
		CpuCores: math.MaxFloat64, MutexWaitRate: -math.MaxFloat64, RssBytes: math.MaxInt64, Goroutines: math.MaxInt64, Gomaxprocs: math.MaxInt32,
	}}, 0).Heartbeat
	if h.CPUCores != 0 || h.MutexWaitRate != 0 {
		t.Errorf("rates %v and %v, want 0", h.CPUCores, h.MutexWaitRate)
	}
	const instances = 20_000
	if h.RSSBytes*instances <= h.RSSBytes || h.Goroutines*instances <= h.Goroutines {
		t.Errorf("%d instances of %d bytes and %d goroutines are more than a sum can hold", instances, h.RSSBytes, h.Goroutines)
	}
	if h.GOMAXPROCS != math.MaxInt32 {
		t.Errorf("GOMAXPROCS %d", h.GOMAXPROCS)
	}
}

func TestLossesAreBounded(t *testing.T) {
	var in []*agentv1.Loss
	for range 1000 {
		in = append(in, &agentv1.Loss{Kind: agentv1.Kind_KIND_CPU, Reason: agentv1.LossReason_LOSS_REASON_GAP, Message: "ü"})
	}
	if out := lossesOf(in); len(out) != maxLosses+1 {
		t.Errorf("%d losses, want %d and one that says so", len(out), maxLosses)
	}
	for _, l := range in {
		l.Message = strings.Repeat("ü", maxLossText)
	}
	out := lossesOf(in)
	if len(out) != maxLossTexts/maxLossText+1 || len(out[0].Message) > maxLossText+3 || out[0].Kind != ops.KindCPU || out[0].Reason != ops.LossGap {
		t.Errorf("%d losses, the first of %d bytes: %s %s", len(out), len(out[0].Message), out[0].Kind, out[0].Reason)
	}
	if !strings.HasSuffix(out[0].Message, "ü…") {
		t.Errorf("the message was cut within a character: %q", out[0].Message[len(out[0].Message)-6:])
	}
}

// FuzzEvents plays any sequence of events into a collection: it must end in an
// error or go on, never panic, and never leave an artifact open.
func FuzzEvents(f *testing.F) {
	seed := func(ms ...*agentv1.CollectPerformanceDataResponse) {
		var script []byte
		for _, m := range ms {
			b := marshal(f, m)
			script = append(append(script, byte(len(b)), 0), b...)
		}
		f.Add(script)
	}
	sum := strings.Repeat("x", 32)
	seed(begin(1, "a"), data(1, 0, "abc"), ended(1, 3, sum), summary())
	seed(begin(1, "a"), begin(2, "b"), data(2, 0, "x"), data(1, 9, "y"), ended(1, 1, sum), summary())
	seed(data(1, 0, "x"), begin(1, "a"))
	server := New(Config{MaxCaptureBytes: 1 << 10})
	f.Fuzz(func(t *testing.T, script []byte) {
		r := opstest.NewRecorder()
		c := newCollection(&link{s: server, id: "boot-1"}, "capture-1", ops.Spec{Duration: time.Second}, r)
		c.conn = &conn{client: noAgent{}}
		var e event
		var err error
		for len(script) > 2 && err == nil {
			n, only := min(int(script[0]), len(script)-2), uint32(script[1]&3)
			if newCodec().Unmarshal(inPieces(script[2:2+n], 7), &e) == nil {
				err = c.take(t.Context(), &e, only)
				e.free()
			}
			script = script[2+n:]
		}
		if err == nil {
			err = errors.New("the end of the script")
		}
		c.abortOpen(err)
		for _, a := range r.Artifacts() {
			if a.Ends != 1 || !ops.ValidName(a.Begun.Name) {
				t.Errorf("%q was ended %d times", a.Begun.Name, a.Ends)
			}
		}
	})
}

func marshal(t testing.TB, m *agentv1.CollectPerformanceDataResponse) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// noAgent takes acknowledgements.
type noAgent struct{ agentv1.AgentServiceClient }

func (noAgent) AckArtifact(context.Context, *agentv1.AckArtifactRequest, ...grpc.CallOption) (*agentv1.AckArtifactResponse, error) {
	return nil, nil
}
