package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

func lastRequest(id string, last time.Duration) *agentv1.CollectPerformanceDataRequest {
	return &agentv1.CollectPerformanceDataRequest{CaptureId: id, Last: durationpb.New(last)}
}

func TestTheLastSecondsAreCapturedBesideAWindow(t *testing.T) {
	work(t)
	a, client := joined(t, func(c *Config, _ *tuning) { c.FlightRecorder = 2 * time.Second })
	ended := make(chan struct{})
	go func() { // a window with a trace of its own
		defer close(ended)
		mustCollect(t, client, request("capture-window", 2*time.Second, agentv1.Kind_KIND_TRACE))
	}()
	time.Sleep(1500 * time.Millisecond)
	r := mustCollect(t, client, lastRequest("capture-past", time.Second))
	if got, want := r.names(), []string{"goroutine.pprof", "heap.pprof", "runtime.json", "trace.out"}; !slices.Equal(got, want) {
		t.Errorf("artifacts %q, want %q", got, want)
	}
	if span := readTrace(t, r.file("trace.out")); span < time.Second || span > 30*time.Second {
		t.Errorf("the trace spans %v, want the last second and not much more", span)
	}
	<-ended
	if s := a.flight.state(); !s.On || s.LastBytes == 0 || !slices.Equal(s.WantedBy, []string{"the configuration"}) {
		t.Errorf("state %v", s)
	}
}

func TestThePastOfARecorderThatIsOffIsALoss(t *testing.T) {
	_, client := joined(t, nil)
	r := mustCollect(t, client, lastRequest("capture-off", time.Second))
	var said []string
	for _, l := range r.summary.GetLosses() {
		said = append(said, l.GetMessage())
	}
	want := "there is no trace of the past: the flight recorder is off: turn it on with the control flight-recorder, with OPS_FLIGHT_RECORDER=10s, or with a rule that takes the last seconds"
	if !slices.Contains(said, want) {
		t.Errorf("losses %q lack\n%s", said, want)
	}
	if got, want := r.names(), []string{"goroutine.pprof", "heap.pprof", "runtime.json"}; !slices.Equal(got, want) {
		t.Errorf("artifacts %q, want %q", got, want)
	}
}

func TestTheFlightRecorderKeepsWhatTheMostDemandingWants(t *testing.T) {
	a, _ := joined(t, nil)
	d := a.flight
	for _, step := range []struct {
		who  string
		keep time.Duration
		want string
	}{
		{"rule stalls", 2 * time.Second, "2s"},
		{wantedByControl, 5 * time.Second, "5s"},
		{"rule stalls", 0, "5s"},
		{wantedByControl, 0, off},
	} {
		if err := d.want(step.who, step.keep); err != nil {
			t.Fatal(err)
		}
		if got := (flightKnob{d}).value(); got != step.want {
			t.Errorf("after %s wants %v it keeps %s, want %s", step.who, step.keep, got, step.want)
		}
	}
}

func TestFlightRecorderConfiguration(t *testing.T) {
	for env, want := range map[string]string{
		"10s": "", "off": "", "": "",
		"soon": `agent: OPS_FLIGHT_RECORDER "soon" is no time: write one such as 10s, or off`,
		"5m":   "agent: the flight recorder cannot keep 5m0s: use 1s to 1m0s",
	} {
		_, _, err := Config{}.resolveFlight(env)
		if got := strings.TrimPrefix(errText(err), "<nil>"); got != want {
			t.Errorf("%q: %q, want %q", env, got, want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
