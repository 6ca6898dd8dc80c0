package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

func TestPlanDefaults(t *testing.T) {
	own, err := Limits{}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(&agentv1.CollectPerformanceDataRequest{CaptureId: "defaults"}, own)
	if err != nil {
		t.Fatal(err)
	}
	if p.duration != 30*time.Second || p.traceWindow != 5*time.Second || p.traceMaxBytes != 128<<20 || p.maxBytes != 512<<20 || p.blockNanos != 1 || p.mutexFraction != 1 || len(p.kinds) != len(fullSet) {
		t.Errorf("%+v", p)
	}
	p, err = newPlan(&agentv1.CollectPerformanceDataRequest{CaptureId: "balanced", Fidelity: agentv1.Fidelity_FIDELITY_BALANCED}, own)
	if err != nil || p.blockNanos != 10_000 || p.mutexFraction != 10 {
		t.Errorf("balanced: %+v, %v", p, err)
	}
	// A process with tight limits has tight defaults.
	tight, err := Limits{MaxDuration: 10 * time.Second, MaxTraceWindow: time.Second, MaxTraceBytes: 2 << 20}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	p, err = newPlan(&agentv1.CollectPerformanceDataRequest{CaptureId: "tight"}, tight)
	if err != nil || p.duration != 10*time.Second || p.traceWindow != time.Second || p.traceMaxBytes != 2<<20 {
		t.Errorf("tight: %+v, %v", p, err)
	}
}

func TestCutArtifactsSayWhy(t *testing.T) {
	for _, tc := range []struct {
		err    error
		reason agentv1.LossReason
		want   string
	}{
		{errCaptureBytes, lossTruncated, "trace.out was cut: the capture's size limit is reached"},
		{errQueueFull, lossTruncated, "trace.out was cut: the receiver did not take it in time and there is no spool file to keep it in"},
		{fmt.Errorf("write: %w", syscall.ENOSPC), lossTruncated, "trace.out was cut: the disk of the spool directory is full"},
		{errors.New("input/output error"), lossFailed, "trace.out was cut: writing the spool: input/output error"},
	} {
		if l := writeLoss(agentv1.Kind_KIND_TRACE, "trace.out", tc.err); l.Reason != tc.reason || l.Message != tc.want {
			t.Errorf("%v: %v", tc.err, l)
		}
	}
}

func TestLossesFitIntoAMessage(t *testing.T) {
	var many []*agentv1.Loss
	for range 1000 {
		many = append(many, loss(kindOfAll, lossFailed, "%s", strings.Repeat("é", 400)+"\xff"))
	}
	got := boundLosses(many)
	if len(got) != maxLosses || got[maxLosses-1].Message != "969 more losses are not listed" || len(got[0].Message) > maxLossMessage+4 {
		t.Errorf("%d losses, the last %v", len(got), got[len(got)-1])
	}
}

// A panic in a call is the call's error and no more.
func TestPanicInACall(t *testing.T) {
	s := &service{agent: startTest(t, listening), tunnel: &tunnelActivity{}}
	err := s.guard(context.Background(), "Hello", func() error { panic("on purpose") })
	if got := status.Convert(err); got.Code() != codes.Internal || got.Message() != "the agent failed in Hello: on purpose" {
		t.Errorf("got %v", err)
	}
	if err := s.guard(context.Background(), "Hello", func() error { return nil }); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestCentresThatAreNone(t *testing.T) {
	for _, tc := range []struct {
		status int
		header http.Header
		body   string
		want   string
	}{
		{404, nil, "404 page not found\n", "there is no centre at this address (404 Not Found): 404 page not found; check OPS_CENTER, with its base path"},
		{403, nil, "", "the centre refused this agent (403 Forbidden): ; check OPS_TOKEN_FILE"},
		{101, http.Header{"Upgrade": {"websocket"}}, "", `the centre switched to "websocket" instead of opscenter-agent/1`},
		{502, nil, "<h1>bad\n  gateway</h1>", "the centre answered 502 Bad Gateway: <h1>bad gateway</h1>"},
	} {
		resp := &http.Response{StatusCode: tc.status, Status: fmt.Sprint(tc.status, " ", http.StatusText(tc.status)), Header: tc.header, Body: http.NoBody}
		if tc.body != "" {
			resp.Body = readCloser{strings.NewReader(tc.body)}
		}
		if err := refusal(resp); err.Error() != tc.want {
			t.Errorf("%d:\ngot  %v\nwant %s", tc.status, err, tc.want)
		}
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }
