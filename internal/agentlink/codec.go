package agentlink

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	protoenc "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// event is one message of CollectPerformanceData or of FetchArtifact: the two
// have the same fields. It is received into again and again; free it in between.
type event struct {
	// chunk is the message if isChunk; its data lies in the transport's buffers.
	isChunk bool
	chunk   chunk
	// msg is the message otherwise.
	msg agentv1.CollectPerformanceDataResponse
}

type chunk struct {
	artifact uint32
	offset   int64
	crc      uint32
	data     mem.BufferSlice
}

// free gives the transport its buffers back.
func (e *event) free() {
	e.chunk.data.Free()
	e.isChunk, e.chunk = false, chunk{}
}

// codec is gRPC's protobuf codec, but it receives events without copying their
// chunks: what the transport read is what the archive writes. The wire is plain
// protobuf, so the peer may be any gRPC server.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(protoenc.Name)} }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	e, ok := v.(*event)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	e.free()
	if e.isChunk = e.chunk.read(data); e.isChunk {
		return nil
	}
	// Not a chunk, or one that is written in an unusual way.
	if err := proto.Unmarshal(data.Materialize(), &e.msg); err != nil {
		return fmt.Errorf("a message of the agent: %w", err)
	}
	if ch := e.msg.GetChunk(); ch != nil {
		e.isChunk = true
		e.chunk = chunk{ch.GetArtifact(), ch.GetOffset(), ch.GetCrc32C(), mem.BufferSlice{mem.SliceBuffer(ch.GetData())}}
	}
	return nil
}

// Field numbers of agent.proto, as tags.
var (
	tagChunk    = protowire.EncodeTag(3, protowire.BytesType)
	tagArtifact = protowire.EncodeTag(1, protowire.VarintType)
	tagOffset   = protowire.EncodeTag(2, protowire.VarintType)
	tagCRC      = protowire.EncodeTag(3, protowire.Fixed32Type)
	tagData     = protowire.EncodeTag(4, protowire.BytesType)
)

// read takes a message that is one chunk, written as every protobuf library
// writes it: known fields, none twice. It says no to anything else and then
// holds nothing.
func (ch *chunk) read(data mem.BufferSlice) bool {
	c := cursor{bufs: data, left: data.Len()}
	if tag, ok := c.varint(); !ok || tag != tagChunk {
		return false
	}
	if n, ok := c.varint(); !ok || n != uint64(c.left) {
		return false
	}
	var out chunk
	seen := uint64(0)
	for c.left > 0 {
		tag, ok := c.varint()
		if !ok || tag > 63 || seen&(1<<tag) != 0 {
			out.data.Free()
			return false
		}
		seen |= 1 << tag
		switch tag {
		case tagArtifact:
			var v uint64
			v, ok = c.varint()
			out.artifact = uint32(v)
		case tagOffset:
			var v uint64
			v, ok = c.varint()
			out.offset = int64(v)
		case tagCRC:
			out.crc, ok = c.fixed32()
		case tagData:
			var n uint64
			if n, ok = c.varint(); ok && n <= uint64(c.left) {
				out.data = c.take(int(n))
			} else {
				ok = false
			}
		default:
			ok = false
		}
		if !ok {
			out.data.Free()
			return false
		}
	}
	*ch = out
	return true
}

// cursor reads across the buffers of a message.
type cursor struct {
	bufs mem.BufferSlice // what is left of them
	off  int             // in the first
	left int             // bytes, over all
}

func (c *cursor) next() (byte, bool) {
	for len(c.bufs) > 0 {
		if b := c.bufs[0].ReadOnlyData(); c.off < len(b) {
			v := b[c.off]
			c.off++
			c.left--
			return v, true
		}
		c.bufs, c.off = c.bufs[1:], 0
	}
	return 0, false
}

func (c *cursor) varint() (v uint64, ok bool) {
	for shift := 0; shift < 64; shift += 7 {
		b, ok := c.next()
		if !ok || (shift == 63 && b > 1) {
			return 0, false
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, true
		}
	}
	return 0, false
}

func (c *cursor) fixed32() (v uint32, ok bool) {
	for shift := 0; shift < 32; shift += 8 {
		b, ok := c.next()
		if !ok {
			return 0, false
		}
		v |= uint32(b) << shift
	}
	return v, true
}

// take refers to the next n bytes, which must be there.
func (c *cursor) take(n int) mem.BufferSlice {
	out := make(mem.BufferSlice, 0, 4)
	c.left -= n
	for n > 0 {
		b := c.bufs[0]
		here := min(b.Len()-c.off, n)
		if here == 0 {
			c.bufs, c.off = c.bufs[1:], 0
			continue
		}
		out = append(out, b.Slice(c.off, c.off+here))
		c.off += here
		n -= here
	}
	return out
}
