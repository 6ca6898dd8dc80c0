package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/bench/internal/measure"
	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/ops"
)

// centre is the process that stands for the centre: its end of the agent
// protocol as it is, with sinks that count instead of an archive.
func centre(instances int, id *identity) error {
	joined := make(fleet, instances)
	links := agentlink.New(agentlink.Config{Fleet: joined, MaxCaptureBytes: 1 << 40})
	mux := http.NewServeMux()
	mux.Handle(agentlink.Path, links)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() {
		if id == nil {
			failed <- srv.Serve(l)
			return
		}
		srv.TLSConfig = id.server()
		failed <- srv.ServeTLS(l, "", "")
	}()
	return measure.Answer(l.Addr().String(), func(string) (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		g, ctx := errgroup.WithContext(ctx)
		c := &clock{}
		for range instances {
			select {
			case link := <-joined:
				g.Go(func() error {
					spec, err := ops.Spec{Duration: ops.MinDuration, Kinds: []ops.Kind{ops.KindRuntime}}.Normalize()
					if err != nil {
						return err
					}
					s, err := link.Collect(ctx, "bench-stream", spec, sink{c})
					if err == nil && len(s.Losses) > 0 {
						err = errors.New(s.Losses[0].Message)
					}
					return err
				})
			case err := <-failed:
				return nil, err
			case <-ctx.Done():
				return nil, errors.New("the agents did not join")
			}
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		return c.result(), nil
	})
}

// fleet takes the links of those who join and watches them as the real one does.
type fleet chan ops.Link

// Join implements agentlink.Joiner.
func (f fleet) Join(ctx context.Context, _ ops.Instance, l ops.Link) error {
	f <- l
	return l.Watch(ctx, 5*time.Second, false, func(ops.Sample) {})
}

// clock runs from the first artifact's beginning to the last one's end.
type clock struct {
	mu     sync.Mutex
	began  time.Time
	before time.Duration
	r      got
}

func (c *clock) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		c.began, c.before = time.Now(), measure.Used().CPU
	}
}

func (c *clock) end(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := measure.Used()
	c.r.Bytes += n
	c.r.Seconds = time.Since(c.began).Seconds()
	c.r.CPU, c.r.Peak = (u.CPU - c.before).Seconds(), u.Peak
}

func (c *clock) result() got {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r
}

// sink counts. Hashing and the disk are another benchmark's.
type sink struct{ clock *clock }

// Progress implements ops.Sink.
func (sink) Progress(ops.Progress) {}

// Begin implements ops.Sink.
func (s sink) Begin(a ops.Artifact) (ops.ArtifactWriter, error) {
	w := &counting{}
	if a.Kind == ops.KindTrace {
		s.clock.begin()
		w.clock = s.clock
	}
	return w, nil
}

type counting struct {
	clock *clock // nil = beside the point
	n     counter
}

func (w *counting) Write(p []byte) (int, error) { return w.n.Write(p) }
func (w *counting) Offset() int64               { return int64(w.n) }
func (w *counting) Abort(l ops.Loss) error      { return errors.New(l.Message) }
func (w *counting) Commit(size int64, _ []byte, _ ops.Artifact) error {
	if size != int64(w.n) {
		return ops.Errorf(ops.Corrupt, "%d of %d bytes arrived", int64(w.n), size)
	}
	if w.clock != nil {
		w.clock.end(size)
	}
	return nil
}

// buildAgents compiles the agent package's test binary, which can be agents
// whose captures are ready: the agent's own sending code in a process of its own.
func buildAgents(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", to, "github.com/opscenter/opscenter/agent")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go test -c of the agent: %w: run it inside the module, with Go installed", err)
	}
	return nil
}

func agents(ctx context.Context, binary, centre, file string, size int64, instances int, id *identity) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary)
	scheme := "http"
	cmd.Env = append(os.Environ(),
		"OPS_AGENT=", "OPS_TOKEN_FILE=",
		"OPS_AGENT_TEST_SEND_FILE="+file,
		"OPS_AGENT_TEST_SEND_BYTES="+strconv.FormatInt(size, 10),
		"OPS_AGENT_TEST_SEND_INSTANCES="+strconv.Itoa(instances),
	)
	if id != nil {
		scheme = "https"
		cmd.Env = append(cmd.Env, "OPS_CA_PIN="+id.pin)
	}
	cmd.Env = append(cmd.Env, "OPS_CENTER="+scheme+"://"+centre)
	return cmd
}
