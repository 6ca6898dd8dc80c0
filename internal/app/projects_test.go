package app

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/opscenter/opscenter/agent"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/api"
	"github.com/opscenter/opscenter/internal/auth"
)

// Two games share a centre, each with its own agents, sources, labels, retention
// and rights. Everything of the second one has "hidden" in its name, so that any
// trace of it shows wherever it comes out.

// games is a centre with both.
type games struct {
	*configured
	config string
	admin  *http.Client // ann, who administers it
	bob    *http.Client // who has every right in the first game, and none elsewhere
	// instance and capture of each game, by its project.
	instance, capture map[string]string
}

const bothGames = `listen: 127.0.0.1:0
login: required
token-file: %s
log-level: error
access: {limits: {per_second: 100000, burst: 100000, concurrent: 1000}}
projects:
  color:
    title: {en: Color, zh-TW: 顏色}
    labels: {team: red}
    roles: {admin: ["user:bob"]}
    sources: {static: [{service: color-old, url: "%s"}]}
  hidden-chess:
    title: {en: Hidden Chess, zh-TW: 西洋棋}
    labels: {team: hidden-team}
    expect: {hidden-rook: 2}
    sources: {static: [{service: hidden-old, url: "%s"}]}
`

func twoGames(t *testing.T) *games {
	t.Helper()
	data := t.TempDir()
	accounts, done, err := openAccounts(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	all := []auth.Grant{{Role: auth.Administer, Scope: auth.Everywhere}}
	if err := errors.Join(accounts.AddUser(t.Context(), "test", "ann", passphrase, all), accounts.AddUser(t.Context(), "test", "bob", passphrase, nil), done()); err != nil {
		t.Fatal(err)
	}
	shared := filepath.Join(t.TempDir(), "shared")
	if err := os.WriteFile(shared, []byte("a-token-for-the-agents-of-both-games"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := func() string {
		s := httptest.NewServer(http.DefaultServeMux)
		t.Cleanup(s.Close)
		return s.URL + "/debug/pprof"
	}
	g := &games{instance: map[string]string{}, capture: map[string]string{}}
	g.config = fmt.Sprintf(bothGames, shared, old(), old())
	g.configured = startConfiguredIn(t, data, g.config)
	g.admin, g.bob = browserOf(t, g.url, "ann"), browserOf(t, g.url, "bob")
	g.http = g.admin
	for project, service := range map[string]string{"color": "color-game", "hidden-chess": "hidden-queen"} {
		a, err := agent.Start(agent.Config{Center: g.url, Project: project, Service: service, TokenFile: shared, SpoolDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
		g.instance[project] = a.BootID()
	}
	instances(t, g.admin, g.url, 5) // the centre's own, an agent and an address of each
	for project, id := range g.instance {
		g.capture[project] = g.captured(id)
	}
	return g
}

// captured takes a short capture of an instance, and waits until it is judged.
func (g *games) captured(instance string) string {
	g.t.Helper()
	captures := apiv1connect.NewCaptureServiceClient(g.admin, g.url)
	started, err := captures.StartCapture(g.t.Context(), connect.NewRequest(&apiv1.StartCaptureRequest{
		InstanceIds: []string{instance}, Spec: &apiv1.CaptureSpec{Duration: durationpb.New(time.Second), Kinds: []string{"goroutine", "heap", "runtime"}},
	}))
	if err != nil {
		g.t.Fatal(err)
	}
	id := started.Msg.GetCapture().GetId()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got, err := captures.GetDiagnosis(g.t.Context(), connect.NewRequest(&apiv1.GetDiagnosisRequest{CaptureId: id}))
		if err == nil && strings.Contains(got.Msg.GetJson(), instance) {
			return id
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("capture %s was never judged: %v, %v", id, got, err)
		}
	}
}

// about fills every field of a request that can name something of a game.
func (g *games) about(m protoreflect.MessageDescriptor, project string, fields []string, depth int) *dynamicpb.Message {
	out := dynamicpb.NewMessage(m)
	values := map[string]string{
		"capture_id": g.capture[project], "instance_id": g.instance[project], "instance_ids": g.instance[project], "project": project, "service": "hidden-queen",
		"artifact": "goroutine.pprof", "kind": "goroutine", "method": "a.B/C", "reason": "to see", "name": "gc", "control": "gc",
	}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		name := string(f.Name())
		switch v := values[name]; {
		case f.IsMap():
		case f.Message() != nil && depth > 0 && f.IsList():
			out.Mutable(f).List().Append(protoreflect.ValueOfMessage(g.about(f.Message(), project, fields, depth-1)))
		case f.Message() != nil && depth > 0 && f.ContainingOneof() == nil && f.Message().ParentFile().Package() == m.ParentFile().Package():
			out.Set(f, protoreflect.ValueOfMessage(g.about(f.Message(), project, fields, depth-1)))
		case f.Kind() != protoreflect.StringKind || v == "":
		case slices.Contains([]string{"capture_id", "instance_id", "instance_ids", "project", "service"}, name) && !slices.Contains(fields, name):
		case f.IsList():
			out.Mutable(f).List().Append(protoreflect.ValueOfString(v))
		default:
			out.Set(f, protoreflect.ValueOfString(v))
		}
	}
	return out
}

// requests are bodies for a call that name a game in every way there is, and one
// that names nothing.
func (g *games) requests(t *testing.T, m protoreflect.MethodDescriptor, project string) []string {
	t.Helper()
	bodies := map[string]bool{"{}": true}
	for _, fields := range [][]string{{"capture_id"}, {"instance_id", "instance_ids"}, {"project"}, {"project", "service"}, {"service"}, {"capture_id", "instance_id", "instance_ids", "project", "service"}} {
		b, err := protojson.Marshal(g.about(m.Input(), project, fields, 3))
		if err != nil {
			t.Fatal(err)
		}
		bodies[string(b)] = true
	}
	return slices.Sorted(maps.Keys(bodies))
}

// call makes a call as a browser does, and returns its answer without what was
// asked: a refusal may repeat that.
func call(t *testing.T, c *http.Client, url string, m protoreflect.MethodDescriptor, body string) (int, string) {
	t.Helper()
	typ, send := "application/json", []byte(body)
	if m.IsStreamingServer() {
		typ, send = "application/connect+json", append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/"+string(m.Parent().FullName())+"/"+string(m.Name()), bytes.NewReader(send))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", typ)
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", m.FullName(), err)
	}
	return resp.StatusCode, string(b)
}

// traces are what an answer shows of the hidden game beyond what was asked.
func (g *games) traces(asked, answer string) (found []string) {
	for _, word := range strings.FieldsFunc(answer, func(r rune) bool { return strings.ContainsRune(" \"'{}[](),:;/=&?\\\n", r) }) {
		own := strings.Contains(strings.ToLower(word), "hidden") || strings.Contains(word, g.instance["hidden-chess"]) || strings.Contains(word, g.capture["hidden-chess"]) || strings.Contains(word, "西洋棋")
		if own && !strings.Contains(asked, strings.TrimSuffix(word, ".")) {
			found = append(found, word)
		}
	}
	return found
}

// TestAGameSeesNothingOfTheOther makes every call that there is, about the hidden
// game and about nothing, as somebody with every right in the other game. That an
// administrator is shown the hidden game by the same requests is the proof that
// there was something to see. Then streams, retention and rights change for one game.
func TestAGameSeesNothingOfTheOther(t *testing.T) {
	g := twoGames(t)
	shown, made := map[string]bool{}, 0
	protoregistry.GlobalFiles.RangeFilesByPackage("opscenter.api.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				name := string(m.Name())
				if name == "Watch" || name == "LogOut" {
					continue // the one does not end, the other would end the rest
				}
				reads := strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") || strings.HasPrefix(name, "Find") || strings.HasPrefix(name, "Search")
				scope, _ := proto.GetExtension(m.Options(), apiv1.E_Scope).(apiv1.Scope)
				for _, body := range g.requests(t, m, "hidden-chess") {
					made++
					code, answer := call(t, g.bob, g.url, m, body)
					if found := g.traces(body, answer); len(found) > 0 {
						t.Errorf("%s %s: %d shows %q", name, body, code, found)
					}
					if scope == apiv1.Scope_SCOPE_UNSPECIFIED && code == http.StatusOK && !strings.Contains(answer, `"error"`) {
						t.Errorf("%s %s is let through: %.300s", name, body, answer)
					}
					if reads {
						if code, answer := call(t, g.admin, g.url, m, body); code == http.StatusOK && len(g.traces("", answer)) > 0 {
							shown[name] = true
						}
					}
				}
			}
		}
		return true
	})
	t.Logf("%d requests; an administrator is shown the game by %q", made, slices.Sorted(maps.Keys(shown)))
	for _, name := range []string{"GetCapture", "GetConfig", "GetDiagnosis", "GetInstance", "ListAudit", "ListCaptures", "ListInstances", "ListProjects", "ListSources"} {
		if !shown[name] {
			t.Errorf("%s does not show the game even to an administrator: the test sees nothing", name)
		}
	}
	g.files(t)
	// Nothing of it was changed.
	for _, project := range []string{"color", "hidden-chess"} {
		if _, err := apiv1connect.NewCaptureServiceClient(g.admin, g.url).GetCapture(t.Context(), connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: g.capture[project]})); err != nil {
			t.Error(err)
		}
	}
	g.apart(t)
}

// files asks for everything that is no call: downloads, tools, metrics, the record.
func (g *games) files(t *testing.T) {
	t.Helper()
	fill := strings.NewReplacer("{capture}", g.capture["hidden-chess"], "{instance}", g.instance["hidden-chess"], "{artifact}", "goroutine.pprof", "{name}", "goroutine.pprof")
	paths := map[string]bool{"/metrics": true, fill.Replace("/pprof/{capture}/{instance}/{artifact}/"): true, fill.Replace("/trace/{capture}/{instance}/trace.out/"): true}
	for _, r := range api.Routes() {
		if path, ok := strings.CutPrefix(r.Pattern, "GET "); ok {
			paths[fill.Replace(path)] = true
		}
	}
	open := 0
	for path := range paths {
		code, answer := send(t, g.bob, http.MethodGet, g.url+path, "")
		if found := g.traces(path, answer); len(found) > 0 || code == http.StatusOK {
			t.Errorf("%s: %d shows %q", path, code, found)
		}
		if code, _ := send(t, g.admin, http.MethodGet, g.url+path, ""); code == http.StatusOK {
			open++
		}
	}
	if open < len(paths)-2 { // there is no trace in the capture, and no heap-types
		t.Errorf("of %d paths an administrator gets %d: %v", len(paths), open, slices.Sorted(maps.Keys(paths)))
	}
}

// apart looks at what is streamed, what is deleted and who may look, each changed
// in the running centre for one game alone.
func (g *games) apart(t *testing.T) {
	t.Helper()
	stream, err := apiv1connect.NewWatchServiceClient(g.bob, g.url).Watch(t.Context(), connect.NewRequest(&apiv1.WatchRequest{
		Fleet: true, Captures: true, MetricsInstanceIds: []string{g.instance["color"], g.instance["hidden-chess"]},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	second := g.captured(g.instance["hidden-chess"])
	own := g.captured(g.instance["color"])
	told := ""
	for !strings.Contains(told, own) {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		one := stream.Msg().String()
		if found := g.traces("", one); len(found) > 0 || strings.Contains(one, second) {
			t.Errorf("the stream shows %q", found)
		}
		told += one
	}
	// Labels and sources are each game's.
	for _, i := range instances(t, g.bob, g.url, 2) {
		if i.GetProject() != "color" || i.GetLabels()["team"] != "red" {
			t.Errorf("of the first game: %v", i)
		}
	}
	of := map[string]int{}
	for _, i := range instances(t, g.admin, g.url, 5) {
		of[i.GetProject()+" "+i.GetLabels()["team"]]++
	}
	if of["color red"] != 2 || of["hidden-chess hidden-team"] != 2 {
		t.Errorf("labels: %v", of)
	}

	// The bytes of one game are bounded: its older capture goes, the newest stays.
	g.write(strings.Replace(g.config, "labels: {team: hidden-team}", "labels: {team: hidden-team}\n    retention-bytes: 1KiB", 1))
	gone := func(id string) bool {
		_, err := apiv1connect.NewCaptureServiceClient(g.admin, g.url).GetCapture(t.Context(), connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: id}))
		if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
			t.Fatal(err)
		}
		return err != nil
	}
	for deadline := time.Now().Add(time.Minute); !gone(g.capture["hidden-chess"]); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the older capture of the game stays")
		}
	}
	if gone(second) || gone(own) || gone(g.capture["color"]) {
		t.Errorf("deleted: the newest of the game %v, of the other game %v and %v", gone(second), gone(own), gone(g.capture["color"]))
	}

	// The rights move to the other game: the stream ends, and the next look is there.
	g.write(strings.Replace(strings.Replace(g.config, "    roles: {admin: [\"user:bob\"]}\n", "", 1), "    labels: {team: hidden-team}\n", "    labels: {team: hidden-team}\n    roles: {viewer: [\"user:bob\"]}\n", 1))
	for stream.Receive() {
		if found := g.traces("", stream.Msg().String()); len(found) > 0 {
			t.Errorf("the old stream shows %q", found)
		}
	}
	if err := stream.Err(); err == nil || !strings.Contains(err.Error(), "what you may do has changed: call again") {
		t.Errorf("the stream ended with %v", stream.Err())
	}
	for _, i := range instances(t, g.bob, g.url, 2) {
		if i.GetProject() != "hidden-chess" {
			t.Errorf("after the rights moved: %v", i)
		}
	}
	if code, body := post(t, g.bob, g.url, "CaptureService/StartCapture", `{"instanceIds":["`+g.instance["hidden-chess"]+`"]}`); code != http.StatusForbidden {
		t.Errorf("a viewer starts a capture: %d %s", code, body)
	}
}
