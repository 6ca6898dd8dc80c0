package agent

import (
	"bytes"
	"errors"
	"hash/crc32"
	"testing"

	"google.golang.org/grpc"
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

// chunks collects what a stream of the agent's own server sends, freeing each
// chunk as the transport does.
type chunks struct {
	grpc.ServerStream
	t    *testing.T
	took int // chunks before the stream breaks
	got  []byte
}

func (c *chunks) SendMsg(m any) error {
	f := m.(*chunkFrame)
	defer f.data.Free()
	if c.took--; c.took < 0 {
		return errBroken
	}
	b := f.data.ReadOnlyData()
	if f.offset != int64(len(c.got)) || len(b) > chunkBytes || f.crc != crc32.Checksum(b, castagnoli) {
		c.t.Errorf("a chunk of %d bytes at %d has CRC %x, after %d bytes", len(b), f.offset, f.crc, len(c.got))
	}
	c.got = append(c.got, b...)
	return nil
}

var errBroken = errors.New("the stream broke")

// counting counts the buffers that are lent.
type counting struct {
	chunkPool
	lent int
}

func (p *counting) Put(b *[]byte) { p.lent--; p.chunkPool.Put(b) }

// lend returns a buffer with the first bytes of data, as outlet.send reads it.
func (p *counting) lend(data []byte) mem.Buffer {
	b := p.Get(burstChunks * chunkBytes)
	*b = (*b)[:copy(*b, data)]
	p.lent++
	return mem.NewBuffer(b, p)
}

func TestBurst(t *testing.T) {
	data := make([]byte, burstChunks*chunkBytes)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	for _, size := range []int{1, 100, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3*chunkBytes - 5, len(data)} {
		var pool counting
		stream := &chunks{t: t, took: burstChunks}
		if err := (outlet{stream: stream}).burst(1, 0, pool.lend(data[:size])); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stream.got, data[:size]) {
			t.Errorf("%d bytes arrived otherwise than they were sent", size)
		}
		if pool.lent != 0 {
			t.Errorf("after a burst of %d bytes %d buffers are still lent", size, pool.lent)
		}
	}
}

func TestBurstIntoABrokenStream(t *testing.T) {
	for took := range burstChunks {
		var pool counting
		err := (outlet{stream: &chunks{t: t, took: took}}).burst(1, 0, pool.lend(make([]byte, burstChunks*chunkBytes)))
		if !errors.Is(err, errBroken) {
			t.Errorf("a stream that breaks after %d chunks: %v", took, err)
		}
		if pool.lent != 0 {
			t.Errorf("a stream that breaks after %d chunks keeps %d buffers", took, pool.lent)
		}
	}
}
