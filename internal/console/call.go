package console

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/opscenter/opscenter/internal/ops"
)

// Request is one call of one method on one instance.
type Request struct {
	Instance ops.InstanceID
	Route    Route
	Method   string
	// Messages gives what is sent, as JSON. A method that takes one message takes
	// an empty one if there is none.
	Messages Next
	// Metadata goes with the call. Values of keys that end in -bin are base64.
	Metadata map[string][]string
	// Timeout of the call; 0 = 10 s, or 10 min for one that streams, which is the
	// most there is.
	Timeout time.Duration
	// Defaults writes fields that have their zero value as well.
	Defaults bool
	// MaxJSONBytes cuts the JSON of a received message, and leaves out that of one
	// that is larger than 16 MiB on the wire; 0 = neither.
	MaxJSONBytes int
}

// Event is something that happened in a call: exactly one of its fields is set.
type Event struct {
	Header   *Header
	Sent     *Sent
	Received *Received
	End      *End
}

// Header is what the server sent before its first message.
type Header struct{ Metadata metadata.MD }

// Sent is a message that went out, counted from 0.
type Sent struct{ Index, WireBytes int }

// Received is a message that came, counted from 0.
type Received struct {
	Index, WireBytes int
	JSON             []byte // valid JSON unless Cut
	Cut              bool
}

// End is how the call ended, whatever the outcome.
type End struct {
	Code     codes.Code
	Message  string
	Details  []json.RawMessage // of the status, each an Any as JSON
	Trailer  metadata.MD
	Duration time.Duration
	Sent     int
	Received int
}

const (
	defaultTimeout = 10 * time.Second
	// MaxTimeout is how long a call may take.
	MaxTimeout = 10 * time.Minute
	// maxShown is the wire size up to which a message is turned into JSON for
	// somebody who reads only its beginning.
	maxShown     = 16 << 20
	maxMetadata  = 64
	maxMetaBytes = 64 << 10
)

// Call makes a call and tells fn what happens, in order and from one goroutine.
// A status that the server answers with is the last event, not an error; the
// error says why the call was not made, that a message could not be sent, or
// what fn returned. The call ends with ctx.
func (c *Console) Call(ctx context.Context, r Request, fn func(Event) error) error {
	cat, err := c.catalogue(ctx, r.Instance, r.Route, false)
	if err != nil {
		return err
	}
	m, err := cat.method(r.Method)
	if err != nil {
		return err
	}
	md, err := metadataOf(r.Metadata)
	if err != nil {
		return err
	}
	if r.Timeout < 0 || r.Timeout > MaxTimeout {
		return ops.Errorf(ops.Invalid, "the timeout is %v: use more than 0 and up to %v", r.Timeout, MaxTimeout)
	}
	streams := m.IsStreamingClient() || m.IsStreamingServer()
	if r.Timeout == 0 {
		r.Timeout = defaultTimeout
		if streams {
			r.Timeout = MaxTimeout
		}
	}
	leave, err := c.enter()
	if err != nil {
		return err
	}
	defer leave()
	call := &call{cat: cat, m: m, r: r, fn: fn, max: c.cfg.MaxMessageBytes}
	if !m.IsStreamingClient() {
		if call.first, err = call.only(ctx); err != nil {
			return err
		}
	}
	cc, release, err := c.cfg.Conns.Conn(ctx, r.Instance, r.Route)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(ctx, md), r.Timeout)
	defer cancel()
	return call.run(ctx, cancel, cc)
}

// call is one call while it runs.
type call struct {
	cat   *catalogue
	m     protoreflect.MethodDescriptor
	r     Request
	fn    func(Event) error
	max   int
	first []byte // of a method that takes one message, on the wire

	began          time.Time
	sent, received int
}

// only returns the one message of a method that takes one.
func (c *call) only(ctx context.Context) ([]byte, error) {
	text, err := c.r.Messages(ctx)
	if errors.Is(err, io.EOF) {
		return c.encode(nil, 0)
	}
	if err != nil {
		return nil, err
	}
	if _, err := c.r.Messages(ctx); !errors.Is(err, io.EOF) {
		return nil, ops.Errorf(ops.Invalid, "%s takes one message, and more were given", c.r.Method)
	}
	return c.encode(text, 0)
}

// encode turns JSON into a message's bytes.
func (c *call) encode(text []byte, index int) ([]byte, error) {
	msg := dynamicpb.NewMessage(c.m.Input())
	if len(bytes.TrimSpace(text)) > 0 {
		if err := (protojson.UnmarshalOptions{Resolver: eitherTypes{c.cat.types}}).Unmarshal(text, msg); err != nil {
			why := strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto:"))
			return nil, ops.Errorf(ops.Invalid, "message %d is no %s: %s", index+1, c.m.Input().FullName(), why)
		}
	}
	b, err := proto.Marshal(msg)
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "message %d: %w", index+1, err)
	}
	return b, nil
}

func (c *call) run(ctx context.Context, cancel context.CancelFunc, cc grpc.ClientConnInterface) error {
	c.began = time.Now()
	desc := &grpc.StreamDesc{StreamName: string(c.m.Name()), ClientStreams: c.m.IsStreamingClient(), ServerStreams: true} // true, so that the status is received apart from the message
	path := "/" + string(c.m.Parent().FullName()) + "/" + string(c.m.Name())
	stream, err := cc.NewStream(ctx, desc, path, grpc.ForceCodecV2(wireCodec{}), grpc.MaxCallRecvMsgSize(c.max), grpc.MaxCallSendMsgSize(c.max))
	if err != nil {
		return c.end(err, nil)
	}
	if !c.m.IsStreamingClient() {
		// An error of sending is told by receiving.
		if err := stream.SendMsg(&c.first); err == nil || errors.Is(err, io.EOF) {
			_ = stream.CloseSend()
		}
		c.sent = 1
		return c.listen(stream)
	}
	sends := make(chan Sent)
	failed := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(sends)
		if err := c.sendAll(ctx, stream, sends); err != nil {
			failed <- err
			cancel()
		}
	}()
	err = c.receive(stream, sends)
	cancel()
	for range sends { // nobody is interested any more
	}
	<-done
	select {
	case why := <-failed:
		return why
	default:
		return err
	}
}

// sendAll sends what there is to send. The error is that of a message that is
// none; what the server thinks of them is told by receiving.
func (c *call) sendAll(ctx context.Context, stream grpc.ClientStream, sends chan<- Sent) error {
	for index := 0; ; index++ {
		text, err := c.r.Messages(ctx)
		switch {
		case errors.Is(err, io.EOF):
			_ = stream.CloseSend()
			return nil
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the call ended, which its end says
		case err != nil:
			return err
		}
		b, err := c.encode(text, index)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&b); err != nil {
			return nil //nolint:nilerr // the stream's end says more
		}
		select {
		case sends <- Sent{index, len(b)}:
		case <-ctx.Done():
			return nil
		}
	}
}

// listen tells fn what comes, when nothing more is sent meanwhile.
func (c *call) listen(stream grpc.ClientStream) error {
	for headed := false; ; headed = true {
		var msg []byte
		err := stream.RecvMsg(&msg)
		if !headed {
			if err := c.header(stream); err != nil {
				return err
			}
		}
		if err != nil {
			return c.end(err, stream.Trailer())
		}
		if err := c.fn(Event{Received: c.shown(msg)}); err != nil {
			return err
		}
	}
}

func (c *call) header(stream grpc.ClientStream) error {
	md, err := stream.Header()
	if err != nil || md == nil {
		return nil //nolint:nilerr // the stream's end says more
	}
	return c.fn(Event{Header: &Header{md}})
}

// arrival is what a receiver reads from the stream.
type arrival struct {
	msg []byte
	err error
}

// receive tells fn what comes until the stream ends.
func (c *call) receive(stream grpc.ClientStream, sends <-chan Sent) error {
	arrivals := make(chan arrival)
	quit := make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			var a arrival
			a.err = stream.RecvMsg(&a.msg)
			select {
			case arrivals <- a:
			case <-quit:
				return
			}
			if a.err != nil {
				return
			}
		}
	}()
	// The stream's context ends with the call's, which ends RecvMsg; who leaves
	// early has cancelled it or is about to.
	defer func() { close(quit) }()
	headed := false
	for {
		select {
		case s, open := <-sends:
			if !open {
				sends = nil
				continue
			}
			c.sent++
			if err := c.fn(Event{Sent: &s}); err != nil {
				return err
			}
		case a := <-arrivals:
			if !headed {
				headed = true
				if err := c.header(stream); err != nil {
					return err
				}
			}
			if a.err != nil {
				<-gone
				return c.end(a.err, stream.Trailer())
			}
			if err := c.fn(Event{Received: c.shown(a.msg)}); err != nil {
				return err
			}
		}
	}
}

// shown turns a message that came into JSON.
func (c *call) shown(wire []byte) *Received {
	out := &Received{Index: c.received, WireBytes: len(wire)}
	c.received++
	if c.r.MaxJSONBytes > 0 && len(wire) > maxShown {
		out.Cut = true
		return out
	}
	msg := dynamicpb.NewMessage(c.m.Output())
	if err := (proto.UnmarshalOptions{Resolver: eitherTypes{c.cat.types}}).Unmarshal(wire, msg); err != nil {
		out.JSON, _ = json.Marshal(map[string]string{"@problem": fmt.Sprintf("the server sent %d bytes that are no %s: %v", len(wire), c.m.Output().FullName(), err)})
		return out
	}
	text, err := protojson.MarshalOptions{Resolver: eitherTypes{c.cat.types}, EmitUnpopulated: c.r.Defaults}.Marshal(msg)
	if err != nil {
		text, _ = json.Marshal(map[string]string{"@problem": err.Error()})
	}
	out.JSON = compact(text)
	if n := c.r.MaxJSONBytes; n > 0 && len(out.JSON) > n {
		out.JSON, out.Cut = bytes.ToValidUTF8(out.JSON[:n], nil), true
	}
	return out
}

// compact removes the spaces that protojson adds at random.
func compact(text []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text
	}
	return b.Bytes()
}

// end tells how the call ended.
func (c *call) end(err error, trailer metadata.MD) error {
	e := &End{Trailer: trailer, Duration: time.Since(c.began), Sent: c.sent, Received: c.received}
	if !errors.Is(err, io.EOF) {
		st := status.Convert(err)
		e.Code, e.Message = st.Code(), st.Message()
		for _, d := range st.Proto().GetDetails() {
			e.Details = append(e.Details, c.detail(d))
		}
	}
	return c.fn(Event{End: e})
}

// detail turns a detail into JSON, or into its type and its bytes.
func (c *call) detail(d *anypb.Any) json.RawMessage {
	if text, err := (protojson.MarshalOptions{Resolver: eitherTypes{c.cat.types}}).Marshal(d); err == nil {
		return compact(text)
	}
	text, _ := json.Marshal(map[string]string{"@type": d.GetTypeUrl(), "value": base64.StdEncoding.EncodeToString(d.GetValue())})
	return text
}

// metadataOf checks what goes with a call before gRPC does so in its own words.
func metadataOf(in map[string][]string) (metadata.MD, error) {
	if len(in) > maxMetadata {
		return nil, ops.Errorf(ops.Invalid, "%d metadata keys are too many: up to %d", len(in), maxMetadata)
	}
	md, size := metadata.MD{}, 0
	for _, key := range slices.Sorted(maps.Keys(in)) {
		name := strings.ToLower(key)
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
		}) {
			return nil, ops.Errorf(ops.Invalid, "%q is no metadata key: use letters, digits, - _ and .", key)
		}
		if strings.HasPrefix(name, "grpc-") {
			return nil, ops.Errorf(ops.Invalid, "the metadata key %q is gRPC's own: choose one that does not begin with grpc-", key)
		}
		for _, v := range in[key] {
			if strings.HasSuffix(name, "-bin") {
				b, err := base64.StdEncoding.DecodeString(v)
				if err != nil {
					return nil, ops.Errorf(ops.Invalid, "the metadata %s is binary, and its value is no base64", key)
				}
				v = string(b)
			} else if strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				return nil, ops.Errorf(ops.Invalid, "the metadata %s has a value with characters that are not ASCII: use a key that ends in -bin, with base64", key)
			}
			if size += len(name) + len(v); size > maxMetaBytes {
				return nil, ops.Errorf(ops.Invalid, "the metadata is larger than %d KiB", maxMetaBytes>>10)
			}
			md.Append(name, v)
		}
	}
	return md, nil
}

// wireCodec leaves messages as they are on the wire: their size is then known,
// and they are decoded with the server's own types.
type wireCodec struct{}

var _ encoding.CodecV2 = wireCodec{}

func (wireCodec) Name() string { return "proto" }

func (wireCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (wireCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
