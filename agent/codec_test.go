package agent

import (
	"bytes"
	"hash/crc32"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// What the codec writes for a frame is, byte for byte, what protobuf writes for
// the message.
func TestFrameIsPlainProtobuf(t *testing.T) {
	full := bytes.Repeat([]byte("0123456789abcdef"), chunkBytes/16)
	for _, c := range []*agentv1.Chunk{
		{Artifact: 1, Offset: 0, Crc32C: 7, Data: []byte("x")},
		{Artifact: 16, Offset: 1 << 20, Crc32C: crc32.Checksum(full, castagnoli), Data: full},
		{Artifact: 1<<32 - 1, Offset: 1<<62 + 5, Crc32C: 1<<32 - 1, Data: full},
		{Artifact: 3, Offset: 300, Data: []byte("no crc")},
	} {
		var pool chunkPool
		b := pool.Get(len(c.Data))
		copy(*b, c.Data)
		got, err := newFrameCodec().Marshal(&chunkFrame{artifact: c.Artifact, offset: c.Offset, crc: c.Crc32C, data: mem.NewBuffer(b, &pool)})
		if err != nil {
			t.Fatal(err)
		}
		wire := got.Materialize()
		got.Free()
		if len(wire) > 32<<10 {
			t.Errorf("a message of %d bytes", len(wire))
		}
		for _, m := range []proto.Message{
			&agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Chunk{Chunk: c}},
			&agentv1.FetchArtifactResponse{Event: &agentv1.FetchArtifactResponse_Chunk{Chunk: c}},
		} {
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(wire, want) {
				t.Errorf("%T of artifact %d: %x…, want %x…", m, c.Artifact, wire[:min(len(wire), 32)], want[:min(len(want), 32)])
			}
		}
	}
}

// A buffer comes back to the pool when the last reference is given up, not
// before.
func TestBuffersAreNotReusedWhileSent(t *testing.T) {
	var pool chunkPool
	b := pool.Get(chunkBytes)
	copy(*b, "still on its way")
	frame := mem.NewBuffer(b, &pool)
	frame.Ref() // as the transport does
	frame.Free()
	if other := pool.Get(chunkBytes); &(*other)[0] == &(*b)[0] {
		t.Error("the buffer was lent again while it was referenced")
	}
	if !bytes.HasPrefix(frame.ReadOnlyData(), []byte("still on its way")) {
		t.Error("the data changed")
	}
	frame.Free()
}
