package api

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/census"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
)

// views is an API of which only the views of a capture answer.
func views(t *testing.T, cfg Config) string {
	t.Helper()
	who := everyone{auth.Actor{Name: "tester", Permissions: []auth.Permission{auth.View}}}
	cfg.Auth = who
	srv := httptest.NewServer(Guard(GuardConfig{Auth: who}, New(cfg)))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return srv.URL
}

func TestGoroutinesOverTheWire(t *testing.T) {
	var asked census.Query
	url := views(t, Config{Goroutines: func(_ context.Context, q census.Query) (*census.Census, error) {
		asked = q
		return &census.Census{
			Format: goroutines.Dump, Taken: time.Unix(5, 0), Total: 7, Compared: true, AgainstTotal: 3,
			States: []census.StateCount{{State: goroutines.Select, Count: 7, Against: 3}},
			Frames: []*evidence.Frame{{Function: "game.Wait", File: "/src/game.go", Line: 4, Package: "game", Origin: evidence.OwnCode}, {Function: "runtime.gopark", Origin: evidence.RuntimeCode}},
			Groups: []census.Group{{
				ID: "ab", Count: 7, Against: 3, State: goroutines.Select, Stack: []int{1, 0}, CreatedBy: -1, Aged: 2, Oldest: time.Minute, IDs: []int64{9},
				Wait: goroutines.Wait{Class: goroutines.Limit, Library: "x/sync"}, Labels: []goroutines.Labels{{Count: 1, Set: map[string]string{"room": "4"}}},
			}},
			OmittedGroups: 1, OmittedGoroutines: 2,
		}, nil
	}})
	client := apiv1connect.NewGoroutineServiceClient(http.DefaultClient, url)
	got, err := client.GetGoroutines(t.Context(), connect.NewRequest(&apiv1.GetGoroutinesRequest{
		Of:      &apiv1.GoroutineSnapshot{CaptureId: "01cap", InstanceId: "01inst", Artifact: "goroutine.pprof"},
		Against: &apiv1.GoroutineSnapshot{CaptureId: "01cap", InstanceId: "01inst", Artifact: "goroutine.before.pprof"},
		Text:    "room", States: []string{"select"}, MaxGroups: 5,
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := &apiv1.GetGoroutinesResponse{
		Format: "dump", Taken: &timestamppb.Timestamp{Seconds: 5}, Total: 7, Compared: true, AgainstTotal: 3,
		States: []*apiv1.GoroutineState{{State: "select", Count: 7, Against: 3}},
		Frames: []*apiv1.CodeFrame{{Function: "game.Wait", File: "/src/game.go", Line: 4, Package: "game", Origin: apiv1.CodeOrigin_CODE_ORIGIN_OWN}, {Function: "runtime.gopark", Origin: apiv1.CodeOrigin_CODE_ORIGIN_RUNTIME}},
		Groups: []*apiv1.GoroutineGroup{{
			Id: "ab", Count: 7, Against: 3, State: "select", Stack: []uint32{1, 0}, Aged: 2, Oldest: &durationpb.Duration{Seconds: 60}, Ids: []int64{9},
			WaitClass: "limit", WaitLibrary: "x/sync", Labels: []*apiv1.GoroutineLabels{{Count: 1, Labels: map[string]string{"room": "4"}}},
		}},
		OmittedGroups: 1, OmittedGoroutines: 2,
	}
	if d := cmp.Diff(want, got.Msg, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	before := ops.ArtifactRef{Capture: "01cap", Instance: "01inst", Name: "goroutine.before.pprof"}
	if d := cmp.Diff(census.Query{Of: ops.ArtifactRef{Capture: "01cap", Instance: "01inst", Name: "goroutine.pprof"}, Against: &before, Text: "room", States: []string{"select"}, Groups: 5}, asked); d != "" {
		t.Error(d)
	}
}

func TestRuntimeOverTheWire(t *testing.T) {
	url := views(t, Config{Runtime: func(_ context.Context, ref ops.ArtifactRef) ([]byte, error) {
		return []byte(`"` + ref.String() + `"`), nil
	}})
	got, err := apiv1connect.NewRuntimeServiceClient(http.DefaultClient, url).GetRuntime(t.Context(), connect.NewRequest(&apiv1.GetRuntimeRequest{CaptureId: "01cap", InstanceId: "01inst", Artifact: "runtime.json"}))
	if err != nil || got.Msg.GetJson() != `"01cap/01inst/runtime.json"` {
		t.Errorf("%v %v", got, err)
	}
}

func TestViewsRefuseWhatIsNoArtifact(t *testing.T) {
	url := views(t, Config{})
	_, err := apiv1connect.NewGoroutineServiceClient(http.DefaultClient, url).GetGoroutines(t.Context(), connect.NewRequest(&apiv1.GetGoroutinesRequest{Of: &apiv1.GoroutineSnapshot{CaptureId: "..", InstanceId: "x", Artifact: "y"}}))
	if want := `invalid_argument: "../x/y" is not the name of an artifact`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSpeedscopeIsADownload(t *testing.T) {
	for _, c := range []struct {
		path, body, named string
		code              int
		fail              error
	}{
		{"/api/captures/01cap/01inst/cpu.pprof/speedscope.json", "01cap/01inst/cpu.pprof", `attachment; filename="cpu.speedscope.json"`, http.StatusOK, nil},
		{"/api/captures/01cap/01inst/cpu.pprof/speedscope.json", `{"code":"data_loss","message":"no profile"}`, "", http.StatusUnprocessableEntity, ops.Errorf(ops.Corrupt, "no profile")},
		{"/api/captures/01cap/01inst/a%20b/speedscope.json", `{"code":"invalid_argument","message":"\"01cap/01inst/a b\" is not the name of an artifact"}`, "", http.StatusBadRequest, nil},
	} {
		who := everyone{auth.Actor{Name: "tester", Permissions: []auth.Permission{auth.Download}}}
		h := New(Config{Auth: who, Speedscope: func(_ context.Context, ref ops.ArtifactRef, w io.Writer) error {
			if c.fail != nil {
				return c.fail
			}
			_, err := io.WriteString(w, ref.String())
			return err
		}})
		w := httptest.NewRecorder()
		Guard(GuardConfig{Auth: who}, h).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+c.path, nil))
		if w.Code != c.code || w.Body.String() != c.body || w.Header().Get("Content-Disposition") != c.named {
			t.Errorf("%s: %d %s %s", c.path, w.Code, w.Header().Get("Content-Disposition"), w.Body)
		}
	}
}
