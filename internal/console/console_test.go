package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	refv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	refv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/ops"
)

const everyProto = `
syntax = "proto3";
package every.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

enum Suit { SUIT_UNSPECIFIED = 0; SUIT_RED = 1; SUIT_BLACK = 2; }
message Inner { string name = 1; Inner next = 2; }
message Every {
  double f64 = 1; float f32 = 2;
  int32 i32 = 3; int64 i64 = 4; uint32 u32 = 5; uint64 u64 = 6;
  sint32 s32 = 7; sint64 s64 = 8; fixed32 x32 = 9; fixed64 x64 = 10; sfixed32 sx32 = 11; sfixed64 sx64 = 12;
  bool flag = 13; string text = 14; bytes raw = 15; Suit suit = 16; Inner inner = 17;
  repeated int64 many = 18; map<string, Inner> named = 19; map<int64, bool> numbered = 20;
  optional string maybe = 21;
  oneof choice { string by_name = 22; int64 by_id = 23; Inner by_inner = 24; }
  google.protobuf.Timestamp at = 25; google.protobuf.Duration took = 26; google.protobuf.Any any = 27;
  google.protobuf.Struct free = 28; google.protobuf.FieldMask mask = 29; google.protobuf.Int64Value wrapped = 30; google.protobuf.Empty nothing = 31;
}
message Count { int64 n = 1; bytes pad = 2; }
service EveryService {
  // Echo answers with what it was asked.
  rpc Echo(Every) returns (Every) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Down(Count) returns (stream Count);
  rpc Up(stream Count) returns (Count);
  rpc Chat(stream Count) returns (stream Count);
  rpc Fail(Count) returns (Count) { option deprecated = true; }
  rpc Slow(Count) returns (Count);
  rpc Big(Count) returns (Count);
  rpc Die(Count) returns (stream Count);
}
`

func compiled(t testing.TB) (*protoregistry.Files, protoreflect.ServiceDescriptor) {
	t.Helper()
	c := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"every.proto": everyProto})}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	out, err := c.Compile(t.Context(), "every.proto")
	if err != nil {
		t.Fatal(err)
	}
	files := &protoregistry.Files{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if _, err := files.FindFileByPath(f.Path()); err == nil {
			return
		}
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		if err := files.RegisterFile(f); err != nil {
			t.Fatal(err)
		}
	}
	add(out[0])
	return files, out[0].Services().Get(0)
}

func descriptorSet(t testing.TB) *descriptorpb.FileDescriptorSet {
	t.Helper()
	files, _ := compiled(t)
	set := &descriptorpb.FileDescriptorSet{}
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
		return true
	})
	return set
}

// server is a real gRPC server with every.v1.EveryService.
type server struct {
	svc  protoreflect.ServiceDescriptor
	stop context.CancelFunc // ends its connections
	seen atomic.Pointer[metadata.MD]
}

type services map[string]grpc.ServiceInfo

func (s services) GetServiceInfo() map[string]grpc.ServiceInfo { return s }

// start serves with the versions of reflection that are named.
func start(t testing.TB, versions ...string) (*server, string) {
	t.Helper()
	files, svc := compiled(t)
	s := &server{svc: svc}
	g := grpc.NewServer(grpc.UnknownServiceHandler(s.handle), grpc.MaxSendMsgSize(256<<20), grpc.MaxRecvMsgSize(256<<20))
	o := reflection.ServerOptions{Services: services{"every.v1.EveryService": {}, "opscenter.agent.v1.AgentService": {}}, DescriptorResolver: files}
	for _, v := range versions {
		switch v {
		case "v1":
			refv1.RegisterServerReflectionServer(g, reflection.NewServerV1(o))
		case "v1alpha":
			refv1alpha.RegisterServerReflectionServer(g, reflection.NewServer(o))
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }()
	s.stop = g.Stop
	t.Cleanup(func() { g.Stop(); <-served })
	return s, l.Addr().String()
}

func (s *server) handle(_ any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.seen.Store(&md)
	path, _ := grpc.MethodFromServerStream(stream)
	m := s.svc.Methods().ByName(protoreflect.Name(path[strings.LastIndex(path, "/")+1:]))
	if m == nil {
		return status.Errorf(codes.Unimplemented, "unknown method %s", path)
	}
	in := dynamicpb.NewMessage(m.Input())
	n := m.Input().Fields().ByName("n")
	reply := func(v int64, pad int) error {
		out := dynamicpb.NewMessage(m.Output())
		out.Set(m.Output().Fields().ByName("n"), protoreflect.ValueOfInt64(v))
		if pad > 0 {
			out.Set(m.Output().Fields().ByName("pad"), protoreflect.ValueOfBytes(make([]byte, pad)))
		}
		return stream.SendMsg(out)
	}
	if m.IsStreamingClient() {
		sum := int64(0)
		for {
			if err := stream.RecvMsg(in); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
			sum += in.Get(n).Int()
			if m.IsStreamingServer() {
				if err := reply(in.Get(n).Int()*2, 0); err != nil {
					return err
				}
			}
		}
		if m.IsStreamingServer() {
			return nil
		}
		return reply(sum, 0)
	}
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	stream.SetTrailer(metadata.Pairs("served-by", "test"))
	switch m.Name() {
	case "Echo":
		if err := stream.SendHeader(metadata.Pairs("room", "7")); err != nil {
			return err
		}
		return stream.SendMsg(in)
	case "Down":
		for i := range in.Get(n).Int() {
			if err := reply(i, 0); err != nil {
				return err
			}
		}
		return nil
	case "Fail":
		st, err := status.New(codes.FailedPrecondition, "the wallet is locked").WithDetails(&errdetails.ErrorInfo{Reason: "LOCKED", Domain: "wallet"}, &errdetails.RetryInfo{})
		if err != nil {
			return err
		}
		return st.Err()
	case "Slow":
		<-stream.Context().Done()
		return status.FromContextError(stream.Context().Err()).Err()
	case "Big":
		return reply(1, int(in.Get(n).Int()))
	case "Die":
		if err := reply(1, 0); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}
	return status.Error(codes.Unimplemented, "not this one")
}

// at is the way to one server.
type at struct{ cc *grpc.ClientConn }

func (a at) Conn(context.Context, ops.InstanceID, console.Route) (grpc.ClientConnInterface, func(), error) {
	return a.cc, func() {}, nil
}

func newConsole(t testing.TB, address string, edit ...func(*console.Config)) *console.Console {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	cfg := console.Config{Conns: at{cc}}
	for _, e := range edit {
		e(&cfg)
	}
	return console.New(cfg)
}

// told calls and writes what happened as text.
func told(t *testing.T, c *console.Console, r console.Request) string {
	t.Helper()
	var b strings.Builder
	err := c.Call(t.Context(), r, func(e console.Event) error {
		switch {
		case e.Header != nil:
			if v := e.Header.Metadata.Get("room"); len(v) > 0 {
				fmt.Fprintf(&b, "header room=%s\n", v[0])
			}
		case e.Sent != nil:
			fmt.Fprintf(&b, "sent %d\n", e.Sent.Index)
		case e.Received != nil:
			text := string(e.Received.JSON)
			if len(text) > 200 {
				text = text[:40] + "…"
			}
			fmt.Fprintf(&b, "received %d: %s", e.Received.Index, text)
			if e.Received.Cut {
				fmt.Fprintf(&b, " (cut, %d bytes)", e.Received.WireBytes)
			}
			b.WriteByte('\n')
		case e.End != nil:
			fmt.Fprintf(&b, "%s %s", e.End.Code, e.End.Message)
			for _, d := range e.End.Details {
				fmt.Fprintf(&b, " %s", d)
			}
			if v := e.End.Trailer.Get("served-by"); len(v) > 0 {
				fmt.Fprintf(&b, " trailer served-by=%s", v[0])
			}
			b.WriteByte('\n')
		}
		return nil
	})
	if err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	return b.String()
}

func messages(text ...string) console.Next {
	var all [][]byte
	for _, m := range text {
		all = append(all, []byte(m))
	}
	return console.Messages(all...)
}

func TestWhatCanBeCalled(t *testing.T) {
	for _, versions := range [][]string{{"v1", "v1alpha"}, {"v1alpha"}} {
		_, address := start(t, versions...)
		list, err := newConsole(t, address).Methods(t.Context(), "i1", console.Route{}, false)
		if err != nil {
			t.Fatal(err)
		}
		if list.Source != "reflection "+versions[0] || len(list.Problems) > 0 {
			t.Errorf("%v: from %q, problems %v", versions, list.Source, list.Problems)
		}
		var got []string
		for _, m := range list.Methods {
			got = append(got, fmt.Sprintf("%s(%v %s) %v %s ro=%v old=%v", m.Name, m.ClientStreaming, m.Input, m.ServerStreaming, m.Output, m.ReadOnly, m.Deprecated))
		}
		want := `every.v1.EveryService/Big(false every.v1.Count) false every.v1.Count ro=false old=false
every.v1.EveryService/Chat(true every.v1.Count) true every.v1.Count ro=false old=false
every.v1.EveryService/Die(false every.v1.Count) true every.v1.Count ro=false old=false
every.v1.EveryService/Down(false every.v1.Count) true every.v1.Count ro=false old=false
every.v1.EveryService/Echo(false every.v1.Every) false every.v1.Every ro=true old=false
every.v1.EveryService/Fail(false every.v1.Count) false every.v1.Count ro=false old=true
every.v1.EveryService/Slow(false every.v1.Count) false every.v1.Count ro=false old=false
every.v1.EveryService/Up(true every.v1.Count) false every.v1.Count ro=false old=false`
		if strings.Join(got, "\n") != want {
			t.Errorf("%v:\n%s", versions, strings.Join(got, "\n"))
		}
	}
}

func TestWithoutReflection(t *testing.T) {
	_, address := start(t)
	_, err := newConsole(t, address).Methods(t.Context(), "i1", console.Route{}, false)
	if err == nil || !strings.HasPrefix(err.Error(), "the server does not say what it has: register reflection on it (google.golang.org/grpc/reflection), or upload a descriptor set") {
		t.Errorf("%v", err)
	}
	c := newConsole(t, address, func(cfg *console.Config) {
		cfg.Descriptors = func(context.Context, ops.InstanceID) (*descriptorpb.FileDescriptorSet, string, error) {
			return descriptorSet(t), "every.binpb", nil
		}
	})
	list, err := c.Methods(t.Context(), "i1", console.Route{}, false)
	if err != nil || list.Source != "every.binpb" || len(list.Methods) != 8 {
		t.Fatalf("%+v, %v", list, err)
	}
	if got := told(t, c, console.Request{Instance: "i1", Method: "EveryService/Down", Messages: messages(`{"n":2}`)}); got != "received 0: {}\nreceived 1: {\"n\":\"1\"}\nOK  trailer served-by=test\n" {
		t.Errorf("%s", got)
	}
}

func TestEveryKindOfField(t *testing.T) {
	_, address := start(t, "v1")
	c := newConsole(t, address)
	form, err := c.Describe(t.Context(), "i1", console.Route{}, "every.v1.EveryService/Echo")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range form.Types["every.v1.Every"].Fields {
		line := f.JSONName + " " + f.Kind
		if f.Type != "" {
			line += " " + f.Type
		}
		if f.MapValue != nil {
			line += " " + f.MapKey + "→" + f.MapValue.Kind
		}
		if f.Repeated {
			line += " repeated"
		}
		if f.Presence && f.Kind != "message" {
			line += " presence"
		}
		if f.Oneof != "" {
			line += " of " + f.Oneof
		}
		lines = append(lines, line)
	}
	want := "f64 double,f32 float,i32 int32,i64 int64,u32 uint32,u64 uint64,s32 sint32,s64 sint64,x32 fixed32,x64 fixed64,sx32 sfixed32,sx64 sfixed64,flag bool,text string,raw bytes,suit enum every.v1.Suit,inner message every.v1.Inner,many int64 repeated,named map string→message,numbered map int64→bool,maybe string presence,byName string presence of choice,byId int64 presence of choice,byInner message every.v1.Inner of choice,at message google.protobuf.Timestamp,took message google.protobuf.Duration,any message google.protobuf.Any,free message google.protobuf.Struct,mask message google.protobuf.FieldMask,wrapped message google.protobuf.Int64Value,nothing message google.protobuf.Empty"
	if got := strings.Join(lines, ","); got != want {
		t.Errorf("form:\n%s", got)
	}
	if v := form.Types["every.v1.Suit"].Values; len(v) != 3 || v[1].Name != "SUIT_RED" {
		t.Errorf("enum: %+v", v)
	}
	full := `{"f64":1.5,"f32":"NaN","i32":-3,"i64":"-9007199254740993","u32":4,"u64":"18446744073709551615","s32":-7,"s64":"-8","x32":9,"x64":"10","sx32":-11,"sx64":"-12","flag":true,"text":"彩球","raw":"AAH/","suit":"SUIT_RED","inner":{"name":"a","next":{"name":"b"}},"many":["1","2"],"named":{"k":{"name":"v"}},"numbered":{"-5":true},"maybe":"","byId":"0","at":"2026-01-02T03:04:05Z","took":"1.500s","any":{"@type":"type.googleapis.com/every.v1.Inner","name":"packed"},"free":{"a":[1,null,"x"]},"mask":"text,byName","wrapped":"0","nothing":{}}`
	var echoed []byte
	err = c.Call(t.Context(), console.Request{Instance: "i1", Method: "every.v1.EveryService.Echo", Messages: messages(full)}, func(e console.Event) error {
		if e.Received != nil {
			echoed = e.Received.JSON
		}
		return nil
	})
	if err != nil || !sameJSON(t, echoed, []byte(full)) {
		t.Errorf("echoed %s, %v", echoed, err)
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	ja, _ := json.Marshal(x)
	jb, _ := json.Marshal(y)
	return string(ja) == string(jb)
}

func TestCalls(t *testing.T) {
	s, address := start(t, "v1")
	c := newConsole(t, address)
	for _, tc := range []struct {
		name, method, want string
		in                 []string
	}{ //nolint:govet // in reading order
		{"one for one", "Echo", "header room=7\nreceived 0: {\"text\":\"hi\"}\nOK  trailer served-by=test\n", []string{`{"text":"hi"}`}},
		{"nothing given is the empty message", "Echo", "header room=7\nreceived 0: {}\nOK  trailer served-by=test\n", nil},
		{"many for one", "Up", "sent 0\nsent 1\nreceived 0: {\"n\":\"5\"}\nOK \n", []string{`{"n":2}`, `{"n":"3"}`}},
		{"a refusal with its details", "Fail", "FailedPrecondition the wallet is locked {\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"LOCKED\",\"domain\":\"wallet\"} {\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\"} trailer served-by=test\n", nil},
		{"two where one belongs", "Echo", "error: every.v1.EveryService/Echo takes one message, and more were given\n", []string{`{}`, `{}`}},
		{"a field that is not there", "Echo", "error: message 1 is no every.v1.Every: (line 1:2): unknown field \"txt\"\n", []string{`{"txt":"hi"}`}},
		{"no JSON", "Echo", "error: message 1 is no every.v1.Every: syntax error (line 1:1): invalid value hello\n", []string{`hello`}},
		{"a number that is too large", "Echo", "error: message 1 is no every.v1.Every: (line 1:8): invalid value for int32 field i32: 3000000000\n", []string{`{"i32":3000000000}`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := told(t, c, console.Request{Instance: "i1", Method: "every.v1.EveryService/" + tc.method, Messages: messages(tc.in...)})
			// Sent and received may overtake each other; here only their order among themselves counts.
			if got != tc.want {
				t.Errorf("got:\n%s", got)
			}
		})
	}
	if got := told(t, c, console.Request{Instance: "i1", Method: "every.v1.EveryService/Nope", Messages: messages()}); got != "error: there is no method every.v1.EveryService/Nope: list those there are with `ops call INSTANCE`\n" {
		t.Errorf("%s", got)
	}
	if got := told(t, c, console.Request{Instance: "i1", Method: "opscenter.agent.v1.AgentService/Hello", Messages: messages()}); !strings.HasPrefix(got, "error: there is no method") {
		t.Errorf("the agent can be called by hand: %s", got)
	}
	told(t, c, console.Request{Instance: "i1", Method: "EveryService/Echo", Messages: messages(), Metadata: map[string][]string{"Player": {"p1", "p2"}, "token-bin": {"AAE="}}})
	if md := *s.seen.Load(); fmt.Sprint(md.Get("player"), md.Get("token-bin")) != "[p1 p2] [\x00\x01]" {
		t.Errorf("metadata %v", md)
	}
}

func TestMetadataThatCannotBe(t *testing.T) {
	_, address := start(t, "v1")
	c := newConsole(t, address)
	for key, want := range map[string]string{
		"grpc-timeout": `the metadata key "grpc-timeout" is gRPC's own: choose one that does not begin with grpc-`,
		"a b":          `"a b" is no metadata key: use letters, digits, - _ and .`,
		"x-bin":        "the metadata x-bin is binary, and its value is no base64",
		"name":         "the metadata name has a value with characters that are not ASCII: use a key that ends in -bin, with base64",
	} {
		err := c.Call(t.Context(), console.Request{Instance: "i1", Method: "EveryService/Echo", Messages: messages(), Metadata: map[string][]string{key: {"彩"}}}, func(console.Event) error { return nil })
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// A conversation: what is sent depends on what came.
func TestAConversation(t *testing.T) {
	_, address := start(t, "v1")
	c := newConsole(t, address)
	next := make(chan string, 1)
	next <- `{"n":1}`
	var got []string
	err := c.Call(t.Context(), console.Request{Instance: "i1", Method: "EveryService/Chat", Messages: func(ctx context.Context) ([]byte, error) {
		select {
		case m, open := <-next:
			if !open {
				return nil, io.EOF
			}
			return []byte(m), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}, func(e console.Event) error {
		if e.Received != nil {
			got = append(got, string(e.Received.JSON))
			if len(got) == 4 {
				close(next)
			} else {
				next <- string(e.Received.JSON)
			}
		}
		if e.End != nil {
			got = append(got, e.End.Code.String(), fmt.Sprint(e.End.Sent))
		}
		return nil
	})
	if want := `{"n":"2"} {"n":"4"} {"n":"8"} {"n":"16"} OK 4`; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, %v", got, err)
	}
	// A message that is none ends the conversation and is told.
	if got := told(t, c, console.Request{Instance: "i1", Method: "EveryService/Chat", Messages: messages(`{"m":1}`)}); !strings.HasSuffix(got, "error: message 1 is no every.v1.Count: (line 1:2): unknown field \"m\"\n") {
		t.Errorf("%s", got)
	}
}

func TestDeadlinesAndCancelling(t *testing.T) {
	_, address := start(t, "v1")
	c := newConsole(t, address)
	got := told(t, c, console.Request{Instance: "i1", Method: "EveryService/Slow", Messages: messages(), Timeout: 50 * time.Millisecond})
	if !strings.HasPrefix(got, "DeadlineExceeded ") {
		t.Errorf("%s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var code codes.Code
	time.AfterFunc(50*time.Millisecond, cancel)
	err := c.Call(ctx, console.Request{Instance: "i1", Method: "EveryService/Slow", Messages: messages()}, func(e console.Event) error {
		if e.End != nil {
			code = e.End.Code
		}
		return nil
	})
	if err != nil || code != codes.Canceled {
		t.Errorf("%v, %v", code, err)
	}
	if err := c.Call(t.Context(), console.Request{Instance: "i1", Method: "EveryService/Slow", Messages: messages(), Timeout: time.Hour}, nil); err == nil || err.Error() != "the timeout is 1h0m0s: use more than 0 and up to 10m0s" {
		t.Errorf("%v", err)
	}
}

func TestManyAndLargeMessages(t *testing.T) {
	_, address := start(t, "v1")
	c := newConsole(t, address)
	count := 0
	err := c.Call(t.Context(), console.Request{Instance: "i1", Method: "EveryService/Down", Messages: messages(`{"n":10000}`)}, func(e console.Event) error {
		if e.Received != nil {
			count++
		}
		return nil
	})
	if err != nil || count != 10_000 {
		t.Errorf("%d messages, %v", count, err)
	}
	for _, tc := range []struct {
		n    int
		want string
	}{{1 << 20, "received 0: {\"n\":\"1\",\"pad\":\"AAAAA"}, {64 << 20, "received 0:  (cut, 67108"}} {
		got := told(t, c, console.Request{Instance: "i1", Method: "EveryService/Big", Messages: messages(fmt.Sprintf(`{"n":%d}`, tc.n)), MaxJSONBytes: 100_000})
		if !strings.HasPrefix(got, tc.want) || !strings.Contains(got, "(cut, ") || !strings.Contains(got, "\nOK ") {
			t.Errorf("%d bytes: %s", tc.n, got)
		}
	}
	small := newConsole(t, address, func(cfg *console.Config) { cfg.MaxMessageBytes = 1 << 20 })
	if got := told(t, small, console.Request{Instance: "i1", Method: "EveryService/Big", Messages: messages(`{"n":2000000}`)}); !strings.HasPrefix(got, "ResourceExhausted ") {
		t.Errorf("%s", got)
	}
}

func TestAServerThatDiesInTheMiddle(t *testing.T) {
	s, address := start(t, "v1")
	var got []string
	err := newConsole(t, address).Call(t.Context(), console.Request{Instance: "i1", Method: "EveryService/Die", Messages: messages()}, func(e console.Event) error {
		switch {
		case e.Received != nil:
			got = append(got, string(e.Received.JSON))
			go s.stop()
		case e.End != nil:
			got = append(got, e.End.Code.String())
		}
		return nil
	})
	if err != nil || strings.Join(got, " ") != `{"n":"1"} Unavailable` {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTooManyCallsAtOnce(t *testing.T) {
	_, address := start(t, "v1")
	c := newConsole(t, address, func(cfg *console.Config) { cfg.MaxCalls = 1 })
	inner := errors.New("not called")
	_ = c.Call(t.Context(), console.Request{Instance: "i1", Method: "EveryService/Echo", Messages: messages()}, func(e console.Event) error {
		if e.Received != nil {
			inner = c.Call(t.Context(), console.Request{Instance: "i1", Method: "EveryService/Echo", Messages: messages()}, nil)
		}
		return nil
	})
	if inner == nil || inner.Error() != "1 calls are running already: wait for one to end, or cancel one" {
		t.Errorf("%v", inner)
	}
}

func TestDescriptorSetsThatCannotBe(t *testing.T) {
	set := descriptorSet(t)
	lonely := &descriptorpb.FileDescriptorSet{}
	for _, f := range set.GetFile() {
		if f.GetName() == "every.proto" {
			lonely.File = append(lonely.File, f)
		}
	}
	alone, err := proto.Marshal(lonely)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ b, want string }{
		{"hello", "this is no descriptor set: make one with protoc"},
		{"", "this is no descriptor set: make one with protoc"},
		{string(alone), "the descriptor set is not whole ("},
	} {
		if _, err := console.ParseDescriptors([]byte(tc.b)); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%v", err)
		}
	}
	whole, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := console.ParseDescriptors(whole); err != nil {
		t.Error(err)
	}
}

func FuzzParseDescriptors(f *testing.F) {
	b, err := proto.Marshal(descriptorSet(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x0a, 0x02, 0x0a, 0x00})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = console.ParseDescriptors(b) })
}
