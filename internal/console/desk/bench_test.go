package desk_test

import (
	"encoding/json"
	"testing"

	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/opscenter/opscenter/internal/console/desk"
	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/ops"
)

// BenchmarkCall is a unary call through the desk beside one of a compiled client;
// bench/console has both in processes of their own.
func BenchmarkCall(b *testing.B) {
	r := newRoom(b, guard.Policy{}, "w1")
	file := protodesc.ToFileDescriptorProto(testpb.File_grpc_testing_test_proto)
	for _, m := range file.GetService()[0].GetMethod() {
		m.Options = &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()}
	}
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(testpb.File_grpc_testing_empty_proto), protodesc.ToFileDescriptorProto(testpb.File_grpc_testing_messages_proto), file,
	}}
	body, err := proto.Marshal(set)
	if err != nil {
		b.Fatal(err)
	}
	if err := r.desk.PutDescriptors(b.Context(), ops.DescriptorSet{Project: "color-game", Service: "wallet", Name: "t", Body: body}); err != nil {
		b.Fatal(err)
	}
	b.Run("compiled", func(b *testing.B) {
		client := testpb.NewTestServiceClient(r.conns["w1"])
		for b.Loop() {
			_, _ = client.EmptyCall(b.Context(), &testpb.Empty{})
		}
	})
	b.Run("desk", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := r.desk.Call(b.Context(), desk.Call{Actor: "b", Instances: []ops.InstanceID{"w1"}, Method: "grpc.testing.TestService/EmptyCall", Messages: []json.RawMessage{json.RawMessage(`{}`)}}, func(desk.Event) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
