package agent

import (
	"crypto/rand"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// BenchmarkFetch sends an artifact of 64 MiB out of the spool, through gRPC and
// loopback, to a client that only counts bytes: on the agent's own server, whose
// chunks are not copied, and on a default one.
func BenchmarkFetch(b *testing.B) {
	const size = 64 << 20
	a := startTest(b, listening)
	c := heldCapture(b, a, size)
	for _, kind := range []string{"own", "foreign"} {
		b.Run(kind, func(b *testing.B) {
			var opts []grpc.ServerOption
			s := &service{agent: a}
			if kind == "own" {
				opts = append(opts, grpc.ForceServerCodecV2(newFrameCodec()))
				s.tunnel = &tunnelActivity{last: time.Now()}
			}
			server := grpc.NewServer(opts...)
			agentv1.RegisterAgentServiceServer(server, s)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			served := make(chan struct{})
			go func() { defer close(served); _ = server.Serve(l) }()
			defer func() { server.Stop(); <-served }()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			client := newTunnelled(b, conn, nil)
			defer client.close()
			b.SetBytes(size)
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				stream, err := client.FetchArtifact(b.Context(), &agentv1.FetchArtifactRequest{CaptureId: c.plan.id, Artifact: 1})
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				for err == nil {
					var m *agentv1.FetchArtifactResponse
					m, err = stream.Recv()
					n += len(m.GetChunk().GetData())
				}
				if n != size {
					b.Fatalf("%d bytes arrived: %v", n, err)
				}
			}
			b.ReportMetric((cpuTime()-cpu).Seconds()/float64(b.N)*(1<<30)/size, "cpu-s/GiB")
		})
	}
}

// BenchmarkAgentSide is the agent's share of sending alone: spool to encoded
// frame, without a transport.
func BenchmarkAgentSide(b *testing.B) {
	const size = 64 << 20
	a := startTest(b, listening)
	c := heldCapture(b, a, size)
	for _, kind := range []string{"own", "foreign"} {
		b.Run(kind, func(b *testing.B) {
			out := &encodeOnly{codec: newFrameCodec()}
			o := outlet{stream: out, fetch: true}
			if kind == "own" {
				o.frames = &a.chunks
			}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if err := o.sendArtifact(b.Context(), c, 1, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHeartbeat is one reading of the dozen numbers.
func BenchmarkHeartbeat(b *testing.B) {
	for name, names := range map[string][]string{"dozen": heartbeatMetrics(), "full": allMetrics()} {
		b.Run(name, func(b *testing.B) {
			m := newMeter(names, findCgroup("/"), &poolRegistry{})
			prev := m.read()
			b.ReportAllocs()
			for b.Loop() {
				r := m.read()
				r.response(prev, name == "full")
				prev = r
			}
		})
	}
}

// encodeOnly is a stream that encodes and throws away.
type encodeOnly struct {
	grpc.ServerStream
	codec frameCodec
}

func (e *encodeOnly) SendMsg(m any) error {
	b, err := e.codec.Marshal(m)
	b.Free()
	return err
}

// heldCapture is a finished capture with one artifact of random bytes.
func heldCapture(tb testing.TB, a *Agent, size int) *capture {
	tb.Helper()
	p, err := newPlan(request(fmt.Sprintf("held-%d", size), time.Second), Limits{MaxDuration: time.Minute, MaxTraceWindow: time.Minute, MaxTraceBytes: 1 << 30, MaxCaptureBytes: 1 << 30})
	if err != nil {
		tb.Fatal(err)
	}
	c := &capture{plan: p, agent: a, ctx: a.ctx, cancel: func(error) {}, stopped: make(chan struct{}), spool: newSpool(tb.TempDir(), 1<<30, nil)}
	if err := a.captures.add(c, 9); err != nil {
		tb.Fatal(err)
	}
	art := c.newArtifact("trace.out", agentv1.Kind_KIND_TRACE, agentv1.Phase_PHASE_WINDOW, 0, time.Now())
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block)
	for range size / len(block) {
		if _, err := art.Write(block); err != nil {
			tb.Fatal(err)
		}
	}
	art.close(time.Now())
	c.finish(&agentv1.Summary{})
	tb.Cleanup(func() { c.drop(errReleased) })
	return c
}
