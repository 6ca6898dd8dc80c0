package desk_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/opscenter/opscenter/internal/archive/sqlite"
	"github.com/opscenter/opscenter/internal/audit"
	auditsqlite "github.com/opscenter/opscenter/internal/audit/sqlite"
	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/console/desk"
	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/ops"
)

// wallet is a service whose calls change something.
type wallet struct {
	healthv1.UnimplementedHealthServer
	testpb.UnimplementedTestServiceServer
	coins atomic.Int64
	fails bool
}

func (w *wallet) Check(_ context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if w.fails {
		return nil, status.Error(codes.Aborted, "no coins for "+req.GetService())
	}
	w.coins.Add(1)
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

func (w *wallet) FullDuplexCall(s grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	for {
		m, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

// room is a centre's desk in front of some wallets.
type room struct {
	desk    *desk.Desk
	record  *audit.Log
	wallets map[ops.InstanceID]*wallet
	conns   map[ops.InstanceID]*grpc.ClientConn
}

func (r *room) Conn(_ context.Context, id ops.InstanceID, _ console.Route) (grpc.ClientConnInterface, func(), error) {
	return r.conns[id], func() {}, nil
}

func newRoom(t testing.TB, policy guard.Policy, ids ...ops.InstanceID) *room {
	t.Helper()
	dir := t.TempDir()
	book, err := sqlite.Open(t.Context(), filepath.Join(dir, "ops.db"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := auditsqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &room{wallets: map[ops.InstanceID]*wallet{}, conns: map[ops.InstanceID]*grpc.ClientConn{}}
	if r.record, err = audit.Open(t.Context(), audit.Config{Store: rows}); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		w := &wallet{}
		g := grpc.NewServer()
		healthv1.RegisterHealthServer(g, w)
		testpb.RegisterTestServiceServer(g, w)
		reflection.Register(g)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() { defer close(served); _ = g.Serve(l) }()
		t.Cleanup(func() { g.Stop(); <-served })
		cc, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cc.Close() })
		r.wallets[id], r.conns[id] = w, cc
	}
	r.desk = desk.New(desk.Config{Conns: r, Rails: guard.New(r.record, policy), Book: book, Instance: func(id ops.InstanceID) (ops.Instance, error) {
		if r.wallets[id] == nil {
			return ops.Instance{}, ops.Errorf(ops.NotFound, "no instance %s", id)
		}
		return ops.Instance{ID: id, Project: "color-game", Service: "wallet"}, nil
	}})
	t.Cleanup(func() {
		_ = r.desk.Close()
		_ = rows.Close()
		_ = book.Close()
	})
	return r
}

func (r *room) call(t *testing.T, c desk.Call) string {
	t.Helper()
	var b strings.Builder
	if c.Actor == "" {
		c.Actor = "local:test"
	}
	err := r.desk.Call(t.Context(), c, func(e desk.Event) error {
		switch {
		case e.Started != nil:
			fmt.Fprintf(&b, "started mutating=%v replayed=%v\n", e.Started.Mutating, e.Started.Replayed)
		case e.Skipped:
			fmt.Fprintf(&b, "%s skipped\n", e.Instance)
		case e.Failed != nil:
			fmt.Fprintf(&b, "%s failed: %v\n", e.Instance, e.Failed)
		case e.Received != nil:
			fmt.Fprintf(&b, "%s %s\n", e.Instance, e.Received.JSON)
		case e.End != nil:
			fmt.Fprintf(&b, "%s %s %s\n", e.Instance, e.End.Code, e.End.Message)
		}
		return nil
	})
	if err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	return b.String()
}

func (r *room) recorded(t *testing.T) string {
	t.Helper()
	entries, err := r.record.Search(t.Context(), audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s %s %q: %s", e.Actor, e.Action, e.Subject, e.Reason, e.Outcome.Result)
		for _, s := range e.Steps {
			fmt.Fprintf(&b, " %s=%s", s.Instance, s.Result)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const check = "grpc.health.v1.Health/Check"

func TestWhatChangesSomethingNeedsAReasonAndTheTarget(t *testing.T) {
	r := newRoom(t, guard.Policy{}, "w1")
	c := desk.Call{Instances: []ops.InstanceID{"w1"}, Method: check}
	if got := r.call(t, c); got != "error: grpc.health.v1.Health/Check changes 1 instance and needs a reason: say why in one sentence\n" {
		t.Error(got)
	}
	c.Reason = "a player lost coins"
	if got := r.call(t, c); got != "error: grpc.health.v1.Health/Check changes 1 instance and needs a confirmation that names the target: confirm with wallet or w1\n" {
		t.Error(got)
	}
	c.Confirm = "w1"
	if got := r.call(t, c); got != "started mutating=true replayed=false\nw1 {\"status\":\"SERVING\"}\nw1 OK \n" {
		t.Error(got)
	}
	if n := r.wallets["w1"].coins.Load(); n != 1 {
		t.Errorf("%d effects", n)
	}
	if got := r.recorded(t); got != "local:test grpc.call grpc.health.v1.Health/Check \"a player lost coins\": ok w1=ok\n" {
		t.Error(got)
	}
	form, needs, err := r.desk.Describe(t.Context(), desk.Call{Instances: []ops.InstanceID{"w1"}, Method: check})
	if err != nil || !needs.Reason || !slices.Equal(needs.Confirm, []string{"wallet", "w1"}) || len(form.Types) < 3 {
		t.Errorf("%+v %d types, %v", needs, len(form.Types), err)
	}
}

func TestTheSameKeyTwiceIsOneEffect(t *testing.T) {
	r := newRoom(t, guard.Policy{}, "w1")
	c := desk.Call{Instances: []ops.InstanceID{"w1"}, Method: check, Reason: "coins", Confirm: "w1", Key: "k1"}
	first := r.call(t, c)
	again := r.call(t, c)
	if again != strings.Replace(first, "replayed=false", "replayed=true", 1) || r.wallets["w1"].coins.Load() != 1 {
		t.Errorf("first:\n%sagain:\n%s%d effects", first, again, r.wallets["w1"].coins.Load())
	}
	c.Messages = []json.RawMessage{json.RawMessage(`{"service":"other"}`)}
	if got := r.call(t, c); !strings.HasPrefix(got, "error: ") || r.wallets["w1"].coins.Load() != 1 {
		t.Errorf("another request under the key: %s", got)
	}
}

func TestThePolicyOfAProject(t *testing.T) {
	r := newRoom(t, guard.Policy{Default: guard.Rules{Deny: []string{"grpc.health.*/*"}}}, "w1")
	if got := r.call(t, desk.Call{Instances: []ops.InstanceID{"w1"}, Method: check, Reason: "coins", Confirm: "w1"}); got != "error: the policy of this centre forbids grpc.health.v1.Health/Check in color-game\n" {
		t.Error(got)
	}
	if n := r.wallets["w1"].coins.Load(); n != 0 {
		t.Errorf("%d effects", n)
	}
}

func TestSeveralInstances(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fails  ops.InstanceID
		call   desk.Call
		want   string
		record string
	}{
		{"all", "", desk.Call{}, "started mutating=true replayed=false\nw1 {\"status\":\"SERVING\"}\nw1 OK \nw2 {\"status\":\"SERVING\"}\nw2 OK \nw3 {\"status\":\"SERVING\"}\nw3 OK \n", "ok w1=ok w2=ok w3=ok"},
		{"the canary dies", "w1", desk.Call{Canary: true}, "started mutating=true replayed=false\nw1 Aborted no coins for \nw2 skipped\nw3 skipped\n", "failed w1=failed w2=skipped w3=skipped"},
		{"stop on error", "w2", desk.Call{StopOnError: true}, "started mutating=true replayed=false\nw1 {\"status\":\"SERVING\"}\nw1 OK \nw2 Aborted no coins for \nw3 skipped\n", "partial w1=ok w2=failed w3=skipped"},
		{"go on", "w2", desk.Call{}, "started mutating=true replayed=false\nw1 {\"status\":\"SERVING\"}\nw1 OK \nw2 Aborted no coins for \nw3 {\"status\":\"SERVING\"}\nw3 OK \n", "partial w1=ok w2=failed w3=ok"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRoom(t, guard.Policy{}, "w1", "w2", "w3")
			if tc.fails != "" {
				r.wallets[tc.fails].fails = true
			}
			tc.call.Instances, tc.call.Method, tc.call.Reason, tc.call.Confirm = []ops.InstanceID{"w1", "w2", "w3"}, check, "coins", "wallet"
			tc.call.Parallel = 1 // so that the order is told
			if got := r.call(t, tc.call); got != tc.want {
				t.Errorf("got:\n%s", got)
			}
			if got := r.recorded(t); !strings.HasSuffix(got, ": "+tc.record+"\n") {
				t.Error(got)
			}
		})
	}
	r := newRoom(t, guard.Policy{}, "w1", "w2")
	if got := r.call(t, desk.Call{Instances: []ops.InstanceID{"w1", "w2"}, Method: check, Reason: "coins", Confirm: "wallet", Expect: 3}); got != "error: this would affect 2 instances, not 3 as was shown: look again and confirm\n" {
		t.Error(got)
	}
	if got := r.call(t, desk.Call{Instances: []ops.InstanceID{"w1", "w1"}, Method: check}); got != "error: instance w1 was chosen twice\n" {
		t.Error(got)
	}
}

func TestAConversationStaysOpen(t *testing.T) {
	r := newRoom(t, guard.Policy{}, "w1")
	c := desk.Call{
		Actor: "local:test", Instances: []ops.InstanceID{"w1"}, Method: "grpc.testing.TestService/FullDuplexCall", Open: true, Reason: "look", Confirm: "w1",
		Messages: []json.RawMessage{json.RawMessage(`{"payload":{"body":"AQ=="}}`)}, Metadata: map[string][]string{"authorization": {"Bearer abcdefghijkl"}, "player": {"p1"}},
	}
	var got []string
	var id desk.CallID
	err := r.desk.Call(t.Context(), c, func(e desk.Event) error {
		switch {
		case e.Started != nil:
			id = e.Started.ID
			if err := r.desk.Send("local:other", id, nil); ops.KindOf(err) != ops.NotFound {
				t.Errorf("somebody else speaks: %v", err)
			}
		case e.Received != nil:
			got = append(got, string(e.Received.JSON))
			if len(got) < 3 {
				return r.desk.Send("local:test", id, e.Received.JSON)
			}
			if err := r.desk.Finish("local:test", id); err != nil {
				return err
			}
			if err := r.desk.Finish("local:test", id); ops.KindOf(err) != ops.Conflict {
				t.Errorf("finished twice: %v", err)
			}
		case e.End != nil:
			got = append(got, fmt.Sprint(e.End.Code, e.End.Sent))
		}
		return nil
	})
	if want := `{"payload":{"body":"AQ=="}} {"payload":{"body":"AQ=="}} {"payload":{"body":"AQ=="}} OK 3`; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%q, %v", got, err)
	}
	if err := r.desk.Send("local:test", id, nil); ops.KindOf(err) != ops.NotFound {
		t.Errorf("after the end: %v", err)
	}
	if err := r.desk.Close(); err != nil { // what was called is then in the book
		t.Fatal(err)
	}
	calls, err := r.desk.History(t.Context(), ops.CallFilter{Service: "wallet"})
	if err != nil || len(calls) != 1 {
		t.Fatalf("%+v, %v", calls, err)
	}
	if h := calls[0]; h.Code != "OK" || h.Sent != 3 || h.Received != 3 || !h.Mutating || !strings.Contains(string(h.Request), `"authorization":["[masked]"]`) || !strings.Contains(string(h.Request), `"player":["p1"]`) {
		t.Errorf("%+v\n%s", h, h.Request)
	}
}

func TestWhoLeavesEarlyIsOnTheRecord(t *testing.T) {
	r := newRoom(t, guard.Policy{}, "w1")
	ctx, leave := context.WithCancel(t.Context())
	err := r.desk.Call(ctx, desk.Call{Actor: "local:test", Instances: []ops.InstanceID{"w1"}, Method: "grpc.testing.TestService/FullDuplexCall", Open: true, Reason: "look", Confirm: "w1"}, func(e desk.Event) error {
		if e.Started != nil {
			leave()
		}
		return nil
	})
	if ops.KindOf(err) != ops.Cancelled {
		t.Errorf("%v", err)
	}
	if got := r.recorded(t); !strings.Contains(got, ": cancelled") {
		t.Error(got)
	}
}

func TestSavedRequestsAndDescriptors(t *testing.T) {
	r := newRoom(t, guard.Policy{}, "w1")
	s, err := r.desk.Save(t.Context(), ops.SavedCall{Name: " top up ", Project: "color-game", Service: "wallet", Method: check, Actor: "local:test"}, desk.Call{Messages: []json.RawMessage{json.RawMessage(`{"service":"x"}`)}, Metadata: map[string][]string{"x-api-key": {"k"}}})
	if err != nil || s.Name != "top up" {
		t.Fatal(s, err)
	}
	saved, err := r.desk.Saved(t.Context(), "color-game", "wallet")
	if err != nil || len(saved) != 1 || string(saved[0].Request) != `{"messages":[{"service":"x"}],"metadata":{"x-api-key":["[masked]"]}}` {
		t.Errorf("%+v, %v", saved, err)
	}
	if err := r.desk.Unsave(t.Context(), s.ID); err != nil {
		t.Error(err)
	}
	if err := r.desk.Unsave(t.Context(), s.ID); ops.KindOf(err) != ops.NotFound {
		t.Error(err)
	}
	body, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(healthv1.File_grpc_health_v1_health_proto)}})
	if err != nil {
		t.Fatal(err)
	}
	put := ops.DescriptorSet{Project: "color-game", Service: "wallet", Name: "health.binpb", Actor: "local:test", Body: body}
	if err := r.desk.PutDescriptors(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	m, err := r.desk.Methods(t.Context(), "w1", console.Route{}, false)
	if err != nil || m.Source != "health.binpb" || len(m.Methods) != 3 {
		t.Errorf("%+v, %v", m, err)
	}
	if err := r.desk.DeleteDescriptors(t.Context(), "color-game", "wallet"); err != nil {
		t.Error(err)
	}
	if m, err = r.desk.Methods(t.Context(), "w1", console.Route{}, false); err != nil || m.Source != "reflection v1" {
		t.Errorf("%+v, %v", m, err)
	}
}
