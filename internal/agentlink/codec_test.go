package agentlink

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

func collectChunk(c *agentv1.Chunk) *agentv1.CollectPerformanceDataResponse {
	return &agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Chunk{Chunk: c}}
}

// inPieces cuts a message as a transport may have read it.
func inPieces(b []byte, size int) (out mem.BufferSlice) {
	for len(b) > 0 {
		n := min(size, len(b))
		out = append(out, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return out
}

func TestChunksAreNotCopied(t *testing.T) {
	data := pattern(1, 32640)
	msg, err := proto.Marshal(collectChunk(&agentv1.Chunk{Artifact: 7, Offset: 1 << 40, Crc32C: 0xdeadbeef, Data: data}))
	if err != nil {
		t.Fatal(err)
	}
	if len(msg) > 32<<10 {
		t.Errorf("a chunk of %d bytes makes a message of %d, more than 32 KiB", len(data), len(msg))
	}
	for _, size := range []int{1, 7, 16 << 10, len(msg)} {
		var e event
		if err := newCodec().Unmarshal(inPieces(msg, size), &e); err != nil {
			t.Fatal(err)
		}
		if !e.isChunk || e.chunk.artifact != 7 || e.chunk.offset != 1<<40 || e.chunk.crc != 0xdeadbeef || !bytes.Equal(e.chunk.data.Materialize(), data) {
			t.Fatalf("in pieces of %d: %v %d %d %x", size, e.isChunk, e.chunk.artifact, e.chunk.offset, e.chunk.crc)
		}
		last := e.chunk.data[len(e.chunk.data)-1].ReadOnlyData()
		if &last[len(last)-1] != &msg[len(msg)-1] {
			t.Errorf("in pieces of %d: the data was copied", size)
		}
	}
	whole := inPieces(msg, len(msg))
	var e event
	if n := testing.AllocsPerRun(100, func() { _ = newCodec().Unmarshal(whole, &e); e.free() }); n > 4 {
		t.Errorf("%v allocations a chunk", n)
	}
}

// counted tells when a buffer is given back.
type counted struct{ puts int }

func (c *counted) Get(n int) *[]byte { b := make([]byte, n); return &b }
func (c *counted) Put(*[]byte)       { c.puts++ }

func TestBuffersAreGivenBack(t *testing.T) {
	good, _ := proto.Marshal(collectChunk(&agentv1.Chunk{Artifact: 1, Data: pattern(1, 20_000)}))
	odd := append(append([]byte(nil), good...), protowire.AppendTag(nil, 99, protowire.VarintType)...)
	for name, msg := range map[string][]byte{
		"a chunk": good, "an unusual chunk": append(odd, 1), "garbage after a chunk": odd,
	} {
		pool := &counted{}
		buf := pool.Get(len(msg))
		copy(*buf, msg)
		in := mem.BufferSlice{mem.NewBuffer(buf, pool)}
		var e event
		_ = newCodec().Unmarshal(in, &e)
		in.Free() // as gRPC does when Unmarshal has returned
		if name == "a chunk" && pool.puts != 0 {
			t.Errorf("%s: the buffer was given back while its data was in use", name)
		}
		e.free()
		if pool.puts != 1 {
			t.Errorf("%s: the buffer was given back %d times, want once", name, pool.puts)
		}
	}
}

// FuzzCodec holds the reader of chunks against protobuf's: whatever the bytes
// and however they are cut, both see the same message or both refuse it.
func FuzzCodec(f *testing.F) {
	add := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(3))
	}
	add(collectChunk(&agentv1.Chunk{Artifact: 1, Offset: 5, Crc32C: 9, Data: []byte("abc")}))
	add(collectChunk(&agentv1.Chunk{}))
	add(collectChunk(&agentv1.Chunk{Offset: -1, Artifact: 1<<32 - 1}))
	add(&agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Summary{Summary: &agentv1.Summary{StoppedEarly: true}}})
	f.Add([]byte{0x1a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, uint8(1))
	f.Add([]byte{0x1a, 0x02, 0x22, 0x7f}, uint8(1))
	f.Add([]byte{0x1a, 0x04, 0x22, 0x00, 0x22, 0x00, 0x1a, 0x00}, uint8(2))
	f.Fuzz(func(t *testing.T, msg []byte, size uint8) {
		var want agentv1.CollectPerformanceDataResponse
		wantErr := proto.Unmarshal(msg, &want)
		pool := &counted{}
		buf := pool.Get(len(msg))
		copy(*buf, msg)
		whole := mem.NewBuffer(buf, pool)
		var in mem.BufferSlice
		for off := 0; off < len(msg); off += int(size) + 1 {
			in = append(in, whole.Slice(off, min(off+int(size)+1, len(msg))))
		}
		whole.Free()
		var e event
		err := newCodec().Unmarshal(in, &e)
		in.Free()
		switch {
		case (err == nil) != (wantErr == nil):
			t.Fatalf("%x: %v, protobuf says %v", msg, err, wantErr)
		case err != nil:
		case e.isChunk != (want.GetChunk() != nil):
			t.Fatalf("%x: a chunk: %v, protobuf says %v", msg, e.isChunk, want.GetChunk() != nil)
		case e.isChunk:
			w := want.GetChunk()
			if e.chunk.artifact != w.GetArtifact() || e.chunk.offset != w.GetOffset() || e.chunk.crc != w.GetCrc32C() || !bytes.Equal(e.chunk.data.Materialize(), w.GetData()) {
				t.Fatalf("%x: %+v, protobuf says %v", msg, e.chunk, w)
			}
		case !proto.Equal(&e.msg, &want):
			t.Fatalf("%x: %v, protobuf says %v", msg, &e.msg, &want)
		}
		e.free()
		if pool.puts > 1 || (pool.puts == 0 && !mem.IsBelowBufferPoolingThreshold(cap(*buf)) && len(in) > 0) {
			t.Fatalf("%x: the buffer was given back %d times", msg, pool.puts)
		}
	})
}
