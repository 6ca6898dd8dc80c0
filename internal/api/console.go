package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/console/desk"
	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/ops"
)

// Desk is what the API needs to make gRPC calls for people.
type Desk interface {
	Methods(ctx context.Context, id ops.InstanceID, r console.Route, fresh bool) (console.Methods, error)
	Describe(ctx context.Context, c desk.Call) (console.Form, guard.Needs, error)
	Call(ctx context.Context, c desk.Call, fn func(desk.Event) error) error
	Send(actor string, id desk.CallID, message json.RawMessage) error
	Finish(actor string, id desk.CallID) error
	History(ctx context.Context, f ops.CallFilter) ([]ops.CallRecord, error)
	Save(ctx context.Context, s ops.SavedCall, c desk.Call) (ops.SavedCall, error)
	Saved(ctx context.Context, p ops.ProjectName, s ops.ServiceName) ([]ops.SavedCall, error)
	Unsave(ctx context.Context, id string) error
	PutDescriptors(ctx context.Context, set ops.DescriptorSet) error
	Descriptors(ctx context.Context) ([]ops.DescriptorSet, error)
	DeleteDescriptors(ctx context.Context, p ops.ProjectName, s ops.ServiceName) error
}

// consoleServer implements ConsoleService.
type consoleServer struct{ *server }

func (s consoleServer) ListMethods(ctx context.Context, req *connect.Request[apiv1.ListMethodsRequest]) (*connect.Response[apiv1.ListMethodsResponse], error) {
	m, err := s.Desk.Methods(ctx, ops.InstanceID(req.Msg.GetInstanceId()), routeFrom(req.Msg.GetRoute()), req.Msg.GetFresh())
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListMethodsResponse{Source: m.Source, Problems: m.Problems}
	for _, x := range m.Methods {
		out.Methods = append(out.Methods, rpcMethodProto(x))
	}
	return connect.NewResponse(out), nil
}

func (s consoleServer) DescribeMethod(ctx context.Context, req *connect.Request[apiv1.DescribeMethodRequest]) (*connect.Response[apiv1.DescribeMethodResponse], error) {
	form, needs, err := s.Desk.Describe(ctx, desk.Call{Actor: auth.ActorOf(ctx).Name, Instances: instanceIDs(req.Msg.GetInstanceIds()), Method: req.Msg.GetMethod(), Route: routeFrom(req.Msg.GetRoute())})
	if err != nil {
		return nil, err
	}
	out := &apiv1.DescribeMethodResponse{
		Method: rpcMethodProto(form.Method), Types: map[string]*apiv1.RpcType{},
		Needs: &apiv1.CallNeeds{Instances: int32(needs.Instances), Reason: needs.Reason, Confirm: needs.Confirm, Refused: needs.Refused},
	}
	for name, t := range form.Types {
		out.Types[name] = rpcTypeProto(t)
	}
	return connect.NewResponse(out), nil
}

func (s consoleServer) Call(ctx context.Context, req *connect.Request[apiv1.CallRequest], stream *connect.ServerStream[apiv1.CallResponse]) error {
	return s.Desk.Call(ctx, callFrom(ctx, req.Msg), func(e desk.Event) error { return stream.Send(eventProto(e)) })
}

func (s consoleServer) SendMessage(ctx context.Context, req *connect.Request[apiv1.SendMessageRequest]) (*connect.Response[apiv1.SendMessageResponse], error) {
	actor, id := auth.ActorOf(ctx).Name, desk.CallID(req.Msg.GetCallId())
	if req.Msg.Message != nil {
		if err := s.Desk.Send(actor, id, json.RawMessage(req.Msg.GetMessage())); err != nil {
			return nil, err
		}
	}
	if req.Msg.GetFinish() {
		if err := s.Desk.Finish(actor, id); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&apiv1.SendMessageResponse{}), nil
}

func (s consoleServer) ListCalls(ctx context.Context, req *connect.Request[apiv1.ListCallsRequest]) (*connect.Response[apiv1.ListCallsResponse], error) {
	size := int(req.Msg.GetPageSize())
	switch {
	case size == 0:
		size = 50
	case size < 0 || size > 500:
		return nil, ops.Errorf(ops.Invalid, "page size %d is out of range: use 1 to 500", size)
	}
	f := ops.CallFilter{Project: ops.ProjectName(req.Msg.GetProject()), Service: ops.ServiceName(req.Msg.GetService()), Method: req.Msg.GetMethod(), Before: req.Msg.GetPageToken(), Limit: size}
	if req.Msg.GetMine() {
		f.Actor = auth.ActorOf(ctx).Name
	}
	calls, err := s.Desk.History(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListCallsResponse{}
	for _, c := range calls {
		if holds(ctx, auth.Control, c.Project, c.Service) {
			out.Calls = append(out.Calls, callRecordProto(c))
		}
	}
	if len(calls) == size {
		out.NextPageToken = calls[len(calls)-1].ID
	}
	return connect.NewResponse(out), nil
}

func (s consoleServer) SaveCall(ctx context.Context, req *connect.Request[apiv1.SaveCallRequest]) (*connect.Response[apiv1.SaveCallResponse], error) {
	c := callFrom(ctx, req.Msg.GetCall())
	saved, err := s.Desk.Save(ctx, ops.SavedCall{
		Name: req.Msg.GetName(), Actor: c.Actor, Project: ops.ProjectName(req.Msg.GetProject()), Service: ops.ServiceName(req.Msg.GetService()), Method: c.Method,
	}, c)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.SaveCallResponse{Saved: savedCallProto(saved)}), nil
}

func (s consoleServer) ListSavedCalls(ctx context.Context, req *connect.Request[apiv1.ListSavedCallsRequest]) (*connect.Response[apiv1.ListSavedCallsResponse], error) {
	saved, err := s.Desk.Saved(ctx, ops.ProjectName(req.Msg.GetProject()), ops.ServiceName(req.Msg.GetService()))
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListSavedCallsResponse{}
	for _, x := range saved {
		if holds(ctx, auth.Control, x.Project, x.Service) {
			out.Saved = append(out.Saved, savedCallProto(x))
		}
	}
	return connect.NewResponse(out), nil
}

func (s consoleServer) DeleteSavedCall(ctx context.Context, req *connect.Request[apiv1.DeleteSavedCallRequest]) (*connect.Response[apiv1.DeleteSavedCallResponse], error) {
	return connect.NewResponse(&apiv1.DeleteSavedCallResponse{}), s.Desk.Unsave(ctx, req.Msg.GetId())
}

func (s consoleServer) PutDescriptors(ctx context.Context, req *connect.Request[apiv1.PutDescriptorsRequest]) (*connect.Response[apiv1.PutDescriptorsResponse], error) {
	return connect.NewResponse(&apiv1.PutDescriptorsResponse{}), s.Desk.PutDescriptors(ctx, ops.DescriptorSet{
		Project: ops.ProjectName(req.Msg.GetProject()), Service: ops.ServiceName(req.Msg.GetService()), Name: req.Msg.GetName(),
		Actor: auth.ActorOf(ctx).Name, Body: req.Msg.GetDescriptorSet(),
	})
}

func (s consoleServer) ListDescriptors(ctx context.Context, _ *connect.Request[apiv1.ListDescriptorsRequest]) (*connect.Response[apiv1.ListDescriptorsResponse], error) {
	sets, err := s.Desk.Descriptors(ctx)
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListDescriptorsResponse{}
	for _, d := range sets {
		if !sees(ctx, d.Project, d.Service) {
			continue
		}
		out.Descriptors = append(out.Descriptors, &apiv1.Descriptors{Project: string(d.Project), Service: string(d.Service), Name: d.Name, Time: timestamppb.New(d.At), Actor: d.Actor})
	}
	return connect.NewResponse(out), nil
}

func (s consoleServer) DeleteDescriptors(ctx context.Context, req *connect.Request[apiv1.DeleteDescriptorsRequest]) (*connect.Response[apiv1.DeleteDescriptorsResponse], error) {
	return connect.NewResponse(&apiv1.DeleteDescriptorsResponse{}), s.Desk.DeleteDescriptors(ctx, ops.ProjectName(req.Msg.GetProject()), ops.ServiceName(req.Msg.GetService()))
}

func instanceIDs(ids []string) []ops.InstanceID {
	out := make([]ops.InstanceID, len(ids))
	for i, id := range ids {
		out[i] = ops.InstanceID(id)
	}
	return out
}

func routeFrom(r *apiv1.CallRoute) console.Route {
	return console.Route{Port: int(r.GetPort()), TLS: r.GetTls(), ServerName: r.GetServerName(), SkipVerify: r.GetSkipVerify()}
}

func callFrom(ctx context.Context, m *apiv1.CallRequest) desk.Call {
	c := desk.Call{
		Actor: auth.ActorOf(ctx).Name, Instances: instanceIDs(m.GetInstanceIds()), Method: m.GetMethod(), Open: m.GetOpen(),
		Timeout: m.GetTimeout().AsDuration(), Route: routeFrom(m.GetRoute()), Defaults: m.GetDefaults(), MaxJSONBytes: int(m.GetMaxJsonBytes()),
		Reason: m.GetReason(), Confirm: m.GetConfirm(), Key: m.GetIdempotencyKey(), Expect: int(m.GetExpectInstances()),
		Canary: m.GetCanary(), StopOnError: m.GetStopOnError(), Parallel: int(m.GetParallel()),
	}
	for _, text := range m.GetMessages() {
		c.Messages = append(c.Messages, json.RawMessage(text))
	}
	for key, v := range m.GetMetadata() {
		if c.Metadata == nil {
			c.Metadata = map[string][]string{}
		}
		c.Metadata[key] = v.GetValues()
	}
	return c
}

func eventProto(e desk.Event) *apiv1.CallResponse {
	out := &apiv1.CallResponse{InstanceId: string(e.Instance)}
	switch {
	case e.Started != nil:
		out.Event = &apiv1.CallResponse_Started{Started: &apiv1.CallStarted{
			CallId: string(e.Started.ID), Method: rpcMethodProto(e.Started.Method), AuditId: string(e.Started.Audit), Replayed: e.Started.Replayed,
		}}
	case e.Header != nil:
		out.Event = &apiv1.CallResponse_Header{Header: &apiv1.CallHeader{Metadata: metadataProto(e.Header.Metadata)}}
	case e.Sent != nil:
		out.Event = &apiv1.CallResponse_Sent{Sent: &apiv1.CallSent{Index: int32(e.Sent.Index), WireBytes: int64(e.Sent.WireBytes)}}
	case e.Received != nil:
		out.Event = &apiv1.CallResponse_Received{Received: &apiv1.CallReceived{
			Index: int32(e.Received.Index), WireBytes: int64(e.Received.WireBytes), Json: string(e.Received.JSON), Cut: e.Received.Cut,
		}}
	case e.End != nil:
		end := &apiv1.CallEnd{
			Code: e.End.Code.String(), CodeNumber: int32(e.End.Code), Message: strings.ToValidUTF8(e.End.Message, "?"), Trailer: metadataProto(e.End.Trailer),
			Duration: dur(e.End.Duration), Sent: int32(e.End.Sent), Received: int32(e.End.Received),
		}
		for _, d := range e.End.Details {
			end.Details = append(end.Details, string(d))
		}
		out.Event = &apiv1.CallResponse_End{End: end}
	case e.Failed != nil:
		out.Event = &apiv1.CallResponse_Failed{Failed: strings.ToValidUTF8(e.Failed.Error(), "?")}
	case e.Skipped:
		out.Event = &apiv1.CallResponse_Skipped{Skipped: true}
	}
	return out
}

// metadataProto writes binary values as base64, as they are written in requests.
func metadataProto(md metadata.MD) map[string]*apiv1.MetadataValues {
	out := map[string]*apiv1.MetadataValues{}
	for key, values := range md {
		v := &apiv1.MetadataValues{}
		for _, x := range values {
			if strings.HasSuffix(key, "-bin") {
				x = base64.StdEncoding.EncodeToString([]byte(x))
			}
			v.Values = append(v.Values, strings.ToValidUTF8(x, "?"))
		}
		out[strings.ToValidUTF8(key, "?")] = v
	}
	return out
}

func rpcMethodProto(m console.Method) *apiv1.RpcMethod {
	return &apiv1.RpcMethod{
		Name: m.Name, ClientStreaming: m.ClientStreaming, ServerStreaming: m.ServerStreaming, Input: m.Input, Output: m.Output,
		ReadOnly: m.ReadOnly, Idempotent: m.Idempotent, Deprecated: m.Deprecated, Comment: m.Comment,
	}
}

func rpcTypeProto(t console.Type) *apiv1.RpcType {
	out := &apiv1.RpcType{Comment: t.Comment}
	for _, f := range t.Fields {
		out.Fields = append(out.Fields, rpcFieldProto(f))
	}
	for _, v := range t.Values {
		out.Values = append(out.Values, &apiv1.RpcEnumValue{Name: v.Name, Number: v.Number, Comment: v.Comment})
	}
	return out
}

func rpcFieldProto(f console.Field) *apiv1.RpcField {
	out := &apiv1.RpcField{
		Name: f.Name, JsonName: f.JSONName, Number: f.Number, Kind: f.Kind, Type: f.Type, MapKey: f.MapKey, Repeated: f.Repeated,
		Presence: f.Presence, Required: f.Required, Oneof: f.Oneof, DefaultValue: f.Default, Deprecated: f.Deprecated, Comment: f.Comment,
	}
	if f.MapValue != nil {
		out.MapValue = rpcFieldProto(*f.MapValue)
	}
	return out
}

func callRecordProto(c ops.CallRecord) *apiv1.CallRecord {
	out := &apiv1.CallRecord{
		Id: c.ID, Time: timestamppb.New(c.At), Actor: c.Actor, Project: string(c.Project), Service: string(c.Service), Method: c.Method, Request: string(c.Request),
		Mutating: c.Mutating, Code: c.Code, Message: c.Message, Duration: dur(c.Duration), Sent: int32(c.Sent), Received: int32(c.Received),
	}
	for _, id := range c.Instances {
		out.InstanceIds = append(out.InstanceIds, string(id))
	}
	return out
}

func savedCallProto(c ops.SavedCall) *apiv1.SavedCall {
	return &apiv1.SavedCall{Id: c.ID, Name: c.Name, Time: timestamppb.New(c.At), Actor: c.Actor, Project: string(c.Project), Service: string(c.Service), Method: c.Method, Request: string(c.Request)}
}
