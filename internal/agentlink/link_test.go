package agentlink

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// roster is a Joiner that watches links as the fleet does.
type roster struct {
	mu      sync.Mutex
	joined  chan joined
	refuse  error
	samples int
	ends    []error
}

type joined struct {
	ops.Instance
	link ops.Link
}

func newRoster() *roster { return &roster{joined: make(chan joined, 100)} }

func (r *roster) Join(ctx context.Context, i ops.Instance, l ops.Link) error {
	if r.refuse != nil {
		return r.refuse
	}
	r.joined <- joined{i, l}
	err := l.Watch(ctx, time.Second, false, func(ops.Sample) {
		r.mu.Lock()
		r.samples++
		r.mu.Unlock()
	})
	r.mu.Lock()
	r.ends = append(r.ends, err)
	r.mu.Unlock()
	return err
}

func (r *roster) next(t testing.TB) joined {
	t.Helper()
	select {
	case j := <-r.joined:
		return j
	case <-time.After(time.Minute):
		t.Fatal("no instance joined")
		panic("unreachable")
	}
}

// centre is a Server behind an HTTP server on loopback.
type centre struct {
	*Server
	roster  *roster
	address string
}

func newCentre(t testing.TB, cfg Config) *centre {
	t.Helper()
	c := &centre{roster: newRoster()}
	cfg.Fleet = c.roster
	if cfg.Patience == 0 {
		cfg.Patience = 30 * time.Second
	}
	c.Server = New(cfg)
	mux := http.NewServeMux()
	mux.Handle(Path, c.Server)
	hs := httptest.NewServer(mux)
	c.address = strings.TrimPrefix(hs.URL, "http://")
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		hs.Close()
	})
	return c
}

func TestLink(t *testing.T) {
	opstest.TestLink(t, func(t *testing.T) opstest.LinkTarget {
		c := newCentre(t, Config{Patience: 2 * time.Second})
		a := newFakeAgent("boot-1")
		t.Cleanup(a.wg.Wait)
		tun := a.dial(t, c.address)
		t.Cleanup(a.dropAll) // windows whose stream broke
		return opstest.LinkTarget{Link: c.roster.next(t).link, Kill: tun.cut}
	})
}

func spec(t testing.TB, d time.Duration) ops.Spec {
	t.Helper()
	s, err := ops.Spec{Duration: d}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type result struct {
	sum ops.CollectSummary
	err error
}

func collect(ctx context.Context, l ops.Link, s ops.Spec, sink ops.Sink) <-chan result {
	out := make(chan result, 1)
	go func() {
		sum, err := l.Collect(ctx, "capture-1", s, sink)
		out <- result{sum, err}
	}()
	return out
}

// whole fails unless every artifact of the fake agent's window arrived.
func whole(t testing.TB, r *opstest.Recorder) {
	t.Helper()
	got := map[string]bool{}
	for _, a := range r.Artifacts() {
		if !a.Committed || a.Ends != 1 || a.Size != int64(len(a.Data)) {
			t.Errorf("%s: committed %v, %d ends, %d bytes of %d", a.Begun.Name, a.Committed, a.Ends, len(a.Data), a.Size)
		}
		got[a.Begun.Name] = true
	}
	for _, n := range []string{"goroutine.before.pprof", "heap.pprof", "cpu.0.pprof"} {
		if !got[n] {
			t.Errorf("%s is missing", n)
		}
	}
}

func TestANetworkThatBreaksAgainAndAgain(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	defer a.end()
	tun := a.dial(t, c.address)
	link := c.roster.next(t).link
	r := opstest.NewRecorder()
	done := collect(t.Context(), link, spec(t, time.Minute), r)
	<-r.FirstProgress()
	for n := range 4 {
		time.Sleep(250 * time.Millisecond)
		tun.cut()
		time.Sleep(50 * time.Millisecond)
		tun = a.dial(t, c.address)
		if again := c.roster.next(t); again.link != link {
			t.Error("the same process has another link now")
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			a.mu.Lock()
			fetches := a.fetches
			a.mu.Unlock()
			if fetches > n {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d fetches after %d cuts", fetches, n+1)
			}
		}
	}
	if err := link.Stop(t.Context(), "capture-1"); err != nil {
		t.Error(err)
	}
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	whole(t, r)
	if len(got.sum.Losses) != 0 {
		t.Errorf("losses %+v, want none", got.sum.Losses)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.acked) != 3 || len(a.windows) != 0 || a.fetches < 4 {
		t.Errorf("acknowledged %v, %d windows kept, %d fetches", a.acked, len(a.windows), a.fetches)
	}
}

func TestACutBeforeTheFirstWord(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	defer a.end()
	tun := a.dial(t, c.address)
	link := c.roster.next(t).link
	tun.cut()
	c.roster.mu.Lock()
	c.roster.mu.Unlock()
	r := opstest.NewRecorder()
	// The link may not know yet; either it says so at once or the window runs
	// when the process is back.
	done := collect(t.Context(), link, spec(t, time.Second), r)
	a.dial(t, c.address)
	if got := <-done; got.err == nil {
		whole(t, r)
	} else if ops.KindOf(got.err) != ops.Unavailable {
		t.Errorf("%v (%s), want Unavailable", got.err, ops.KindOf(got.err))
	}
}

func TestAProcessThatSaysGoodbyeIsNotWaitedFor(t *testing.T) {
	c := newCentre(t, Config{Patience: time.Hour})
	a := newFakeAgent("boot-1")
	defer a.end()
	tun := a.dial(t, c.address)
	link := c.roster.next(t).link
	r := opstest.NewRecorder()
	done := collect(t.Context(), link, spec(t, time.Minute), r)
	<-r.FirstProgress()
	close(a.goodbye)
	time.Sleep(100 * time.Millisecond)
	tun.cut()
	a.dropAll()
	got := <-done
	if want := "instance boot-1 ended while it was captured"; got.err == nil || got.err.Error() != want {
		t.Errorf("%v\nwant: %s", got.err, want)
	}
}

// lastProgress remembers where a window is said to be.
type lastProgress struct {
	ops.Sink
	at ops.Progress
}

func (l *lastProgress) Progress(p ops.Progress) { l.at = p }

// Time passes while one waits for a process that was killed; its window does not
// get any further by that.
func TestALostWindowEndsWhereItWasHeardOfLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &lastProgress{}
		c := newCollection(nil, "", ops.Spec{Duration: 12 * time.Second}, sink)
		c.said, c.saidAt = ops.Progress{Elapsed: 6 * time.Second, Duration: 12 * time.Second, Activity: "recording"}, time.Now()
		c.tell(c.said)
		time.Sleep(time.Second)
		c.last = time.Now()
		for range 30 {
			time.Sleep(time.Second)
			c.tellAlone("waiting")
		}
		if sink.at.Elapsed != 12*time.Second {
			t.Errorf("while waiting: %v", sink.at)
		}
		c.tellTheEnd()
		if sink.at.Elapsed != 7*time.Second || sink.at.Duration != 12*time.Second {
			t.Errorf("in the end: %v, heard of it for 7s", sink.at)
		}
	})
}

func TestAProcessThatDoesNotComeBack(t *testing.T) {
	c := newCentre(t, Config{Patience: 300 * time.Millisecond})
	a := newFakeAgent("boot-1")
	defer a.end()
	tun := a.dial(t, c.address)
	link := c.roster.next(t).link
	r := opstest.NewRecorder()
	done := collect(t.Context(), link, spec(t, time.Minute), r)
	<-r.FirstProgress()
	tun.cut()
	got := <-done
	if want := "instance boot-1 was lost while it was captured and did not come back within 300ms"; got.err == nil || got.err.Error() != want {
		t.Errorf("%v\nwant: %s", got.err, want)
	}
	kept := map[string]bool{}
	for _, x := range r.Artifacts() {
		kept[x.Begun.Name] = x.Committed
		if !x.Committed && (x.Loss.Reason != ops.LossDisconnected || len(x.Data) == 0) {
			t.Errorf("%s: %d bytes with %+v", x.Begun.Name, len(x.Data), x.Loss)
		}
	}
	if !kept["goroutine.before.pprof"] {
		t.Error("the first snapshot is not kept")
	}
	a.dropAll()
}

func TestANetworkThatIsABlackHole(t *testing.T) {
	c := newCentre(t, Config{Patience: time.Second})
	c.silence = 2 * time.Second // what is sent at once has arrived by then
	a := newFakeAgent("boot-1")
	defer a.end()
	cancelled := make(chan bool, 1)
	var tun *tunnel
	a.onCollect = func(_ *agentv1.CollectPerformanceDataRequest, s collectStream) error {
		if err := s.Send(begin(1, "a")); err != nil {
			return err
		}
		if err := s.Send(data(1, 0, "what arrived")); err != nil {
			return err
		}
		<-s.Context().Done() // no progress, no end
		select {
		case <-tun.closed:
			cancelled <- false
		case <-time.After(time.Minute):
			cancelled <- true
		}
		return nil
	}
	tun = a.dial(t, c.address)
	r := opstest.NewRecorder()
	began := time.Now()
	got := <-collect(t.Context(), c.roster.next(t).link, spec(t, time.Minute), r)
	if ops.KindOf(got.err) != ops.Unavailable || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %v, want Unavailable after about three seconds", got.err, time.Since(began))
	}
	if x := r.Artifacts()[0]; string(x.Data) != "what arrived" || x.Loss.Reason != ops.LossDisconnected {
		t.Errorf("kept %q with %+v", x.Data, x.Loss)
	}
	if <-cancelled {
		t.Error("the agent was told to drop the data")
	}
}

func TestAProcessThatComesBackWithoutTheCapture(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	defer a.end()
	tun := a.dial(t, c.address)
	link := c.roster.next(t).link
	r := opstest.NewRecorder()
	done := collect(t.Context(), link, spec(t, time.Minute), r)
	<-r.FirstProgress()
	tun.cut()
	a.dropAll()
	a.dial(t, c.address)
	got := <-done
	if want := "the connection to instance boot-1 was lost, and when it came back the instance no longer had the capture"; got.err == nil || got.err.Error() != want || ops.KindOf(got.err) != ops.Unavailable {
		t.Errorf("%v\nwant: %s", got.err, want)
	}
}

func TestAChunkThatArrivesDamagedIsFetchedAgain(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	defer a.end()
	spoiled := map[int64]int{}
	a.onChunk = func(fetch bool, ch *agentv1.Chunk) {
		if ch.Artifact == 1 && ch.Offset >= 32640 && spoiled[ch.Offset] < 2 {
			spoiled[ch.Offset]++
			ch.Crc32C++
		}
	}
	a.dial(t, c.address)
	r := opstest.NewRecorder()
	if got := <-collect(t.Context(), c.roster.next(t).link, spec(t, time.Second), r); got.err != nil {
		t.Fatal(got.err)
	}
	whole(t, r)
}

func TestAnArtifactThatNeverArrivesWholeIsPartial(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	defer a.end()
	a.onChunk = func(_ bool, ch *agentv1.Chunk) {
		if ch.Artifact == 1 && ch.Offset >= 32640 {
			ch.Crc32C++
		}
	}
	a.dial(t, c.address)
	r := opstest.NewRecorder()
	if got := <-collect(t.Context(), c.roster.next(t).link, spec(t, time.Second), r); got.err != nil {
		t.Fatal(got.err)
	}
	for _, x := range r.Artifacts() {
		if x.Begun.Name == "goroutine.before.pprof" {
			if x.Committed || len(x.Data) != 32640 || x.Loss.Reason != ops.LossFailed || x.Loss.Message != "goroutine.before.pprof arrived damaged 3 times" {
				t.Errorf("committed %v, %d bytes, %+v", x.Committed, len(x.Data), x.Loss)
			}
		} else if !x.Committed {
			t.Errorf("%s is not committed", x.Begun.Name)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.acked) != 2 {
		t.Errorf("acknowledged: %v, want all but the damaged one", a.acked)
	}
}

func TestNothingIsAcknowledgedThatDidNotCommit(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	defer a.end()
	a.dial(t, c.address)
	r := opstest.NewRecorder()
	r.CommitErr = ops.Errorf(ops.Corrupt, "the sum is another")
	if got := <-collect(t.Context(), c.roster.next(t).link, spec(t, time.Second), r); got.err != nil {
		t.Fatal(got.err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.acked) != 0 || len(r.Artifacts()) != 3 {
		t.Errorf("acknowledged: %v of %d artifacts, want none of 3", a.acked, len(r.Artifacts()))
	}
}

func TestCancelAfterAReconnectDropsTheDataToo(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	defer a.end()
	tun := a.dial(t, c.address)
	link := c.roster.next(t).link
	r := opstest.NewRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := collect(ctx, link, spec(t, time.Minute), r)
	<-r.FirstProgress()
	tun.cut()
	a.dial(t, c.address)
	n := r.ProgressCount()
	for deadline := time.Now().Add(time.Minute); r.ProgressCount() < n+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no progress after the reconnect")
		}
	}
	cancel()
	if got := <-done; ops.KindOf(got.err) != ops.Cancelled {
		t.Errorf("%v, want Cancelled", got.err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.dropped) != 1 {
		t.Errorf("dropped windows: %v, want the one", a.dropped)
	}
}

func TestTimesAreOnTheCentresClock(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	a.clock = 42 * time.Hour
	defer a.end()
	a.dial(t, c.address)
	j := c.roster.next(t)
	if d := j.ClockOffset - a.clock; d < -time.Minute || d > time.Minute {
		t.Errorf("clock offset %v, want about %v", j.ClockOffset, a.clock)
	}
	r := opstest.NewRecorder()
	got := <-collect(t.Context(), j.link, spec(t, time.Second), r)
	if got.err != nil {
		t.Fatal(got.err)
	}
	near := func(what string, at time.Time) {
		if d := time.Since(at); d < -time.Hour || d > time.Hour {
			t.Errorf("%s was %v ago", what, d)
		}
	}
	near("the window's start", got.sum.WindowStart)
	near("the window's end", got.sum.WindowEnd)
	for _, x := range r.Artifacts() {
		near(x.Begun.Name, x.Begun.TakenAt)
		near(x.Begun.Name+" (start)", x.Final.WindowStart)
		near(x.Begun.Name+" (end)", x.Final.WindowEnd)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_ = j.link.Watch(ctx, time.Second, true, func(s ops.Sample) {
		near("the sample", s.Heartbeat.At)
		if len(s.Metrics) != 1 || s.Metrics[0].Value != 7 || len(s.Pools) != 1 || s.Pools[0].Waiting != -1 {
			t.Errorf("a full sample: %+v", s)
		}
		cancel()
	})
}
