package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
)

// wallets is what the centre of the scripts calls.
type wallets struct {
	apiv1connect.UnimplementedConsoleServiceHandler

	mu       sync.Mutex
	said     []string
	finished chan struct{}
}

func (w *wallets) ListMethods(context.Context, *connect.Request[apiv1.ListMethodsRequest]) (*connect.Response[apiv1.ListMethodsResponse], error) {
	return connect.NewResponse(&apiv1.ListMethodsResponse{Source: "reflection v1", Problems: []string{"old.Service: no descriptor"}, Methods: []*apiv1.RpcMethod{
		walletMethod("AddBalance", false), walletMethod("GetBalance", true),
		{Name: "colorgame.v1.RoomService/Chat", Input: "colorgame.v1.Said", Output: "colorgame.v1.Said", ClientStreaming: true, ServerStreaming: true},
	}}), nil
}

func walletMethod(name string, readOnly bool) *apiv1.RpcMethod {
	return &apiv1.RpcMethod{Name: "colorgame.v1.WalletService/" + name, Input: "colorgame.v1." + name + "Request", Output: "colorgame.v1.Wallet", ReadOnly: readOnly, Comment: name + " of a player."}
}

func (w *wallets) DescribeMethod(_ context.Context, r *connect.Request[apiv1.DescribeMethodRequest]) (*connect.Response[apiv1.DescribeMethodResponse], error) {
	return connect.NewResponse(&apiv1.DescribeMethodResponse{
		Method: walletMethod("GetBalance", true), Needs: &apiv1.CallNeeds{Instances: int32(len(r.Msg.GetInstanceIds()))},
		Types: map[string]*apiv1.RpcType{
			"colorgame.v1.GetBalanceRequest": {Fields: []*apiv1.RpcField{{JsonName: "player", Kind: "string", Comment: " Who.\n More."}, {JsonName: "colour", Kind: "enum", Type: "colorgame.v1.Color", Repeated: true}}},
			"colorgame.v1.Color":             {Values: []*apiv1.RpcEnumValue{{Name: "COLOR_RED", Number: 1}}},
			"colorgame.v1.Wallet":            {Fields: []*apiv1.RpcField{{JsonName: "balance", Kind: "int64"}, {JsonName: "rooms", Kind: "map", MapKey: "string", MapValue: &apiv1.RpcField{Kind: "bool"}}}},
		},
	}), nil
}

func (w *wallets) Call(_ context.Context, r *connect.Request[apiv1.CallRequest], s *connect.ServerStream[apiv1.CallResponse]) error {
	m := r.Msg
	adds := strings.HasSuffix(m.GetMethod(), "AddBalance")
	switch {
	case adds && m.GetReason() == "":
		return connect.NewError(connect.CodeInvalidArgument, errors.New("colorgame.v1.WalletService/AddBalance changes 1 instance and needs a reason: say why in one sentence"))
	case adds && m.GetConfirm() != "game-service":
		return connect.NewError(connect.CodeInvalidArgument, errors.New("colorgame.v1.WalletService/AddBalance changes 1 instance and needs a confirmation that names the target: confirm with game-service or b00t-a1"))
	}
	send := func(id string, e *apiv1.CallResponse) error { e.InstanceId = id; return s.Send(e) }
	if err := send("", &apiv1.CallResponse{Event: &apiv1.CallResponse_Started{Started: &apiv1.CallStarted{CallId: "c1", Method: walletMethod("GetBalance", true), Replayed: m.GetIdempotencyKey() == "again"}}}); err != nil {
		return err
	}
	if m.GetOpen() {
		<-w.finished
		w.mu.Lock()
		defer w.mu.Unlock()
		m.Messages = append(m.Messages, w.said...)
	}
	for _, id := range m.GetInstanceIds() {
		end := &apiv1.CallEnd{Code: "OK"}
		if id == "b00t-a2" {
			end = &apiv1.CallEnd{Code: "Aborted", CodeNumber: 10, Message: "the room is closed", Details: []string{`{"@type":"x","reason":"CLOSED"}`}}
		} else {
			json := fmt.Sprintf(`{"balance":"7","given":%d,"with":%d}`, len(m.GetMessages()), len(m.GetMetadata()))
			if err := send(id, &apiv1.CallResponse{Event: &apiv1.CallResponse_Received{Received: &apiv1.CallReceived{Json: json}}}); err != nil {
				return err
			}
		}
		if err := send(id, &apiv1.CallResponse{Event: &apiv1.CallResponse_End{End: end}}); err != nil {
			return err
		}
	}
	return nil
}

func (w *wallets) SendMessage(_ context.Context, r *connect.Request[apiv1.SendMessageRequest]) (*connect.Response[apiv1.SendMessageResponse], error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Msg.Message != nil {
		w.said = append(w.said, r.Msg.GetMessage())
	}
	if r.Msg.GetFinish() {
		close(w.finished)
	}
	return connect.NewResponse(&apiv1.SendMessageResponse{}), nil
}

func TestACallThatReadsItsMessages(t *testing.T) {
	c := newCentre(t, "")
	stdout, stderr, code := run{stdin: strings.NewReader("{\"n\":1}\n\n{\"n\":2}\n")}.ops(t, c, "call", "game-service/b00t-a1", "RoomService/Chat", "--stdin")
	if code != 0 || stdout != `{"balance":"7","given":2,"with":0}`+"\n" || strings.Join(c.wallets.said, " ") != `{"n":1} {"n":2}` {
		t.Errorf("%d %s%s said %q", code, stdout, stderr, c.wallets.said)
	}
}
