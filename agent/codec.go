package agent

import (
	"encoding/binary"
	"hash/crc32"
	"sync"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// chunkBytes is the data of one chunk. The whole encoded message must stay
// within 32 KiB: one byte more falls into gRPC's next buffer tier, 1 MiB, which
// is zeroed on every use.
const chunkBytes = 32640

// burstChunks is how many chunks are read at once. See burstBytes.
const burstChunks = 3

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkPool lends the buffers that bursts of chunks are read into and sent from.
// gRPC gives each back when the transport has written all of it: SendMsg only
// queues, so nothing else may.
type chunkPool struct{ pool sync.Pool }

// Get implements mem.BufferPool.
func (p *chunkPool) Get(n int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, burstBytes)
	return &b
}

// Put implements mem.BufferPool.
func (p *chunkPool) Put(b *[]byte) {
	*b = (*b)[:cap(*b)]
	p.pool.Put(b)
}

// chunkFrame is a Chunk within a CollectPerformanceDataResponse or a
// FetchArtifactResponse; the field has the same number in both. Its data is not
// copied on the way to the transport.
type chunkFrame struct {
	artifact uint32
	offset   int64
	crc      uint32
	data     mem.Buffer
}

// Field numbers of agent.proto.
const (
	fieldResponseChunk = 3
	fieldChunkArtifact = 1
	fieldChunkOffset   = 2
	fieldChunkCRC      = 3
	fieldChunkData     = 4
)

// frameCodec is gRPC's protobuf codec, except that it writes chunkFrames with
// their data in place. What is on the wire is the same as for the messages.
type frameCodec struct{ encoding.CodecV2 }

func newFrameCodec() frameCodec { return frameCodec{encoding.GetCodecV2(protocodec.Name)} }

// Marshal implements encoding.CodecV2.
func (c frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*chunkFrame)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	return mem.BufferSlice{mem.SliceBuffer(f.header()), f.data}, nil
}

// header is everything of the message before the data.
func (f *chunkFrame) header() []byte {
	var inner [32]byte
	h := inner[:0]
	if f.artifact != 0 {
		h = protowire.AppendTag(h, fieldChunkArtifact, protowire.VarintType)
		h = protowire.AppendVarint(h, uint64(f.artifact))
	}
	if f.offset != 0 {
		h = protowire.AppendTag(h, fieldChunkOffset, protowire.VarintType)
		h = protowire.AppendVarint(h, uint64(f.offset))
	}
	if f.crc != 0 {
		h = protowire.AppendTag(h, fieldChunkCRC, protowire.Fixed32Type)
		h = binary.LittleEndian.AppendUint32(h, f.crc)
	}
	h = protowire.AppendTag(h, fieldChunkData, protowire.BytesType)
	h = protowire.AppendVarint(h, uint64(f.data.Len()))

	out := make([]byte, 0, len(h)+8)
	out = protowire.AppendTag(out, fieldResponseChunk, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(len(h)+f.data.Len()))
	return append(out, h...)
}
