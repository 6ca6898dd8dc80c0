package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/timeline"
)

func timelineClient(t *testing.T, holds ...auth.Permission) apiv1connect.TimelineServiceClient {
	t.Helper()
	b, err := os.ReadFile("../trace/testdata/go1.26.8.trace")
	if err != nil {
		t.Fatal(err)
	}
	files := &shelf{files: map[ops.ArtifactRef]string{{Capture: "01cap", Instance: "01inst", Name: "trace.out"}: string(b)}}
	all := timeline.New(timeline.Config{Open: files.OpenArtifact, Dir: t.TempDir()})
	t.Cleanup(func() {
		if err := all.Close(); err != nil {
			t.Error(err)
		}
	})
	who := everyone{auth.Actor{Name: "tester", Permissions: holds}}
	srv := httptest.NewServer(Guard(GuardConfig{Auth: who}, New(Config{Auth: who, Timelines: all})))
	t.Cleanup(func() { srv.Close(); http.DefaultClient.CloseIdleConnections() })
	return apiv1connect.NewTimelineServiceClient(http.DefaultClient, srv.URL)
}

var testTrace = &apiv1.TraceRef{CaptureId: "01cap", InstanceId: "01inst"}

func TestATimelineFromItsOverviewToOneGoroutine(t *testing.T) {
	client, ctx := timelineClient(t, auth.View), t.Context()
	stream, err := client.OpenTimeline(ctx, connect.NewRequest(&apiv1.OpenTimelineRequest{Trace: testTrace}))
	if err != nil {
		t.Fatal(err)
	}
	var o *apiv1.TimelineOverview
	progress := int32(0)
	for stream.Receive() {
		if p := stream.Msg().GetProgress(); p != nil {
			progress = p.GetDone()
		} else {
			o = stream.Msg().GetOverview()
		}
	}
	if stream.Err() != nil || o == nil || progress != 2 || len(o.GetGenerationsNs()) != 2 {
		t.Fatalf("overview %v after %d of 2 parts: %v", o, progress, stream.Err())
	}
	group := o.GetGroups()[0].GetFunction()
	list, err := client.ListGoroutines(ctx, connect.NewRequest(&apiv1.ListGoroutinesRequest{Trace: testTrace, Group: group, Limit: 3}))
	if err != nil || len(list.Msg.GetGoroutines()) != 3 || list.Msg.GetTotal() != o.GetGroups()[0].GetGoroutines() {
		t.Fatalf("%v, %v", list, err)
	}
	id := list.Msg.GetGoroutines()[0].GetId()
	tracks := []*apiv1.TimelineTrack{
		{Track: &apiv1.TimelineTrack_Proc{Proc: 0}}, {Track: &apiv1.TimelineTrack_Group{Group: group}}, {Track: &apiv1.TimelineTrack_Goroutine{Goroutine: id}},
	}
	tile, err := client.GetTiles(ctx, connect.NewRequest(&apiv1.GetTilesRequest{Trace: testTrace, Tracks: tracks, Level: 22}))
	if err != nil {
		t.Fatal(err)
	}
	rows := tile.Msg.GetRows()
	if len(rows) != 3 || len(rows[1].GetShares()) != 512*len(rows[1].GetShareStates()) || len(rows[1].GetGoroutines()) != 4*512 || len(rows[2].GetState()) == 0 || len(rows[2].GetFromNs()) != 8*len(rows[2].GetState()) {
		t.Errorf("%d rows: %v", len(rows), rows)
	}
	if got := tile.Header().Get("Cache-Control"); got != "private, max-age=600" {
		t.Errorf("a tile may be kept: %q", got)
	}
	g, err := client.GetGoroutine(ctx, connect.NewRequest(&apiv1.GetGoroutineRequest{Trace: testTrace, Id: id, AtNs: -1}))
	if err != nil || g.Msg.GetGroup() != group || g.Msg.GetInterval() == nil || g.Msg.GetCreator() == 0 || len(g.Msg.GetCreatedAt().GetFrames()) == 0 {
		t.Fatalf("%v, %v", g, err)
	}
	iv := g.Msg.GetInterval()
	next, err := client.FindInterval(ctx, connect.NewRequest(&apiv1.FindIntervalRequest{Trace: testTrace, Track: tracks[1], State: iv.GetState(), AtNs: iv.GetFromNs()}))
	if err != nil || next.Msg.GetInterval().GetFromNs() <= iv.GetFromNs() {
		t.Errorf("%v, %v", next, err)
	}
	sum, err := client.GetStatistics(ctx, connect.NewRequest(&apiv1.GetStatisticsRequest{Trace: testTrace, ToNs: o.GetDurationNs(), Tracks: tracks[1:2]}))
	if err != nil || sum.Msg.GetGoroutines() != list.Msg.GetTotal() || len(sum.Msg.GetSites()) == 0 {
		t.Errorf("%v, %v", sum, err)
	}
	hits, err := client.SearchTimeline(ctx, connect.NewRequest(&apiv1.SearchTimelineRequest{Trace: testTrace, Query: "main"}))
	if err != nil || len(hits.Msg.GetGroups()) == 0 || len(hits.Msg.GetSites()) == 0 {
		t.Errorf("%v, %v", hits, err)
	}
}

func TestTimelineErrorsReachTheCaller(t *testing.T) {
	client, ctx := timelineClient(t, auth.View), t.Context()
	_, err := client.GetTiles(ctx, connect.NewRequest(&apiv1.GetTilesRequest{Trace: &apiv1.TraceRef{CaptureId: "01cap", InstanceId: "01inst", Artifact: "other.out"}}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("no such file: %v", err)
	}
	_, err = client.FindInterval(ctx, connect.NewRequest(&apiv1.FindIntervalRequest{Trace: testTrace, State: 99}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "there is no state 99: use one of the overview") {
		t.Errorf("no such state: %v", err)
	}
	stream, err := timelineClient(t).OpenTimeline(ctx, connect.NewRequest(&apiv1.OpenTimelineRequest{Trace: testTrace}))
	if err == nil {
		for stream.Receive() {
			t.Error("it was shown")
		}
		err = stream.Err()
	}
	if connect.CodeOf(err) != connect.CodePermissionDenied || errors.Is(err, context.Canceled) {
		t.Errorf("without permission: %v", err)
	}
}
