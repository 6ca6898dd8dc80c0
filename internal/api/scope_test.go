package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
)

// twoGames has an instance and a capture of each of two projects, and a caller
// who may operate one service of the first.
func twoGames(t *testing.T, grants ...auth.Grant) *rig {
	r := startAs(t, auth.Actor{Name: "user:ann", Grants: grants})
	var wg sync.WaitGroup
	ctx, leave := context.WithCancel(r.ctx)
	t.Cleanup(func() { leave(); wg.Wait() })
	for id, p := range map[ops.InstanceID]ops.ProjectName{"boot-color": "color", "boot-chess": "chess"} {
		wg.Go(func() { _ = r.fleet.Join(ctx, ops.Instance{ID: id, Project: p, Service: "user"}, link{}) })
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if _, err := r.fleet.Instance(id); err == nil {
				break
			} else if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	r.put(ops.Capture{ID: "01color", Project: "color", Service: "user", State: ops.CaptureDone})
	r.put(ops.Capture{ID: "01chess", Project: "chess", Service: "user", State: ops.CaptureDone})
	for _, id := range []ops.CaptureID{"01color", "01chess"} {
		r.files[ops.ArtifactRef{Capture: id, Instance: "boot", Name: "cpu.pprof"}] = "bytes"
	}
	return r
}

func TestAScopedCallerReachesTheirOwn(t *testing.T) {
	r := twoGames(t, auth.Grant{Role: auth.Operator, Scope: "color/user"})
	const api = "POST /opscenter.api.v1."
	for call, want := range map[string]string{
		api + `CaptureService/GetCapture {"captureId":"01color"}`:                                                           "200 01color",
		api + `CaptureService/GetCapture {"captureId":"01chess"}`:                                                           "404 there is no capture 01chess, or you may not see it",
		api + `CaptureService/GetCapture {"captureId":"01none"}`:                                                            "404 there is no capture 01none, or you may not see it",
		api + `CaptureService/GetCapture {"captureId":"../../x"}`:                                                           "404 there is no capture ../../x, or you may not see it",
		api + `CaptureService/PinCapture {"captureId":"01chess","pinned":true}`:                                             "404 there is no capture 01chess, or you may not see it",
		api + `CaptureService/StopCapture {"captureId":"01color"}`:                                                          "200 {}",
		api + `CaptureService/DeleteCapture {"captureId":"01color"}`:                                                        `403 user:ann may not do this: it needs the permission \"delete\"`,
		api + `CaptureService/StartCapture {"project":"color","service":"user"}`:                                            "200 01new",
		api + `CaptureService/StartCapture {"instanceIds":["boot-color"]}`:                                                  "200 01new",
		api + `CaptureService/StartCapture {"project":"color","service":"wallet"}`:                                          `403 needs the permission \"capture\" on color/wallet`,
		api + `CaptureService/StartCapture {"project":"color"}`:                                                             `403 needs the permission \"capture\" on project color`,
		api + `CaptureService/StartCapture {"service":"user"}`:                                                              `403 needs the permission \"capture\" on user of every project`,
		api + `CaptureService/StartCapture {}`:                                                                              `403 needs the permission \"capture\" on the whole centre`,
		api + `CaptureService/StartCapture {"instanceIds":["boot-color","boot-chess"]}`:                                     "404 there is no instance boot-chess, or you may not see it",
		api + `FleetService/GetInstance {"instanceId":"boot-color"}`:                                                        "200 boot-color",
		api + `FleetService/GetInstance {"instanceId":"boot-chess"}`:                                                        "404 there is no instance boot-chess, or you may not see it",
		api + `ProfileService/GetTop {"query":{"source":{"captureId":"01chess","instanceIds":["a"]}}}`:                      "404 there is no capture 01chess",
		api + `ProfileService/GetTop {"query":{"source":{"captureId":"01color"},"base":{"captureId":"01chess"}}}`:           "404 there is no capture 01chess",
		api + `TimelineService/GetTiles {"trace":{"captureId":"01chess","instanceId":"boot-color"}}`:                        "404 there is no capture 01chess",
		api + `GoroutineService/GetGoroutines {"of":{"captureId":"01color"},"against":{"captureId":"01chess"}}`:             "404 there is no capture 01chess",
		api + `ControlService/ListControls {"selection":{"project":"color","service":"user","instanceIds":["boot-chess"]}}`: "404 there is no instance boot-chess",
		api + `ConsoleService/DescribeMethod {"instanceIds":["boot-chess"],"method":"x"}`:                                   "404 there is no instance boot-chess",
		"GET /api/captures/01color/boot/cpu.pprof":                                                                          "200 bytes",
		"GET /api/captures/01chess/boot/cpu.pprof":                                                                          "404 there is no capture 01chess, or you may not see it",
		"GET /api/captures/01chess/boot/cpu.pprof/speedscope.json":                                                          "404 there is no capture 01chess",
		"GET /api/captures/01chess/bundle.zip":                                                                              "404 there is no capture 01chess",
		"GET /api/audit.jsonl":                                                                                              `403 needs the permission \"audit\"`,
		"POST /api/import a bundle":                                                                                         `403 needs the permission \"capture\" on the whole centre`,
	} {
		method, rest, _ := strings.Cut(call, " ")
		path, body, _ := strings.Cut(rest, " ")
		code, answer := do(t, method, r.url+path, body)
		wantCode, says, _ := strings.Cut(want, " ")
		if wantCode != strconv.Itoa(code) || !strings.Contains(answer, says) {
			t.Errorf("%s:\n  %d %s\n  want %s", call, code, answer, want)
		}
	}
}

func TestListsHoldWhatTheCallerMaySee(t *testing.T) {
	r := twoGames(t, auth.Grant{Role: auth.Viewer, Scope: "color"})
	for call, of := range map[string][]string{
		"FleetService/ListInstances":  {"boot-color", "boot-chess"},
		"CaptureService/ListCaptures": {"01color", "01chess"},
	} {
		code, body := do(t, http.MethodPost, r.url+"/opscenter.api.v1."+call, "{}")
		if code != 200 || !strings.Contains(body, of[0]) || strings.Contains(body, of[1]) {
			t.Errorf("%s: %d %s", call, code, body)
		}
	}
}

func TestAWatcherIsToldOfTheirOwn(t *testing.T) {
	r := twoGames(t, auth.Grant{Role: auth.Viewer, Scope: "color"})
	c := apiv1connect.NewWatchServiceClient(http.DefaultClient, r.url)
	stream, err := c.Watch(r.ctx, connect.NewRequest(&apiv1.WatchRequest{Fleet: true, Captures: true, MetricsInstanceIds: []string{"boot-color", "boot-chess"}}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	r.put(ops.Capture{ID: "02chess", Project: "chess", Service: "user", State: ops.CaptureDone})
	r.put(ops.Capture{ID: "02color", Project: "color", Service: "user", State: ops.CaptureDone})
	var said strings.Builder
	for metrics := false; !metrics || !strings.Contains(said.String(), "02color"); {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		metrics = metrics || stream.Msg().GetMetrics() != nil
		said.WriteString(stream.Msg().String())
	}
	if !strings.Contains(said.String(), "boot-color") || strings.Contains(said.String(), "chess") {
		t.Errorf("told %s", &said)
	}
}

// TestSubjectsAreFoundByTheirFieldsNames keeps requests from naming a capture or
// an instance in a field that nobody looks at, beside others that are looked at.
// One that names nothing that is known needs the whole centre anyway.
func TestSubjectsAreFoundByTheirFieldsNames(t *testing.T) {
	rules := declaredRules()
	known := []string{"capture_id", "instance_id", "instance_ids", "project", "service"}
	harmless := []string{"include_gone", "max_instances", "expect_instances"}
	protoregistry.GlobalFiles.RangeFilesByPackage("opscenter.api.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			svc := f.Services().Get(i)
			for j := range svc.Methods().Len() {
				m := svc.Methods().Get(j)
				name := "/" + string(svc.FullName()) + "/" + string(m.Name())
				if rules[name].scope != apiv1.Scope_SCOPE_UNSPECIFIED {
					continue
				}
				all := fieldNames(m.Input(), map[protoreflect.FullName]bool{})
				if !slices.ContainsFunc(all, func(n string) bool { return slices.Contains(known, n) }) {
					continue
				}
				for _, n := range all {
					about := strings.Contains(n, "capture") || strings.Contains(n, "instance") || strings.Contains(n, "project") || strings.Contains(n, "service")
					if about && !slices.Contains(known, n) && !slices.Contains(harmless, n) {
						t.Errorf("%s: the field %s is not found by finder.collect: give it a known name, or teach it", name, n)
					}
				}
			}
		}
		return true
	})
}

func fieldNames(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) (out []string) {
	if seen[m.FullName()] {
		return nil
	}
	seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Message() != nil {
			out = append(out, fieldNames(f.Message(), seen)...)
		} else {
			out = append(out, string(f.Name()))
		}
	}
	return out
}
