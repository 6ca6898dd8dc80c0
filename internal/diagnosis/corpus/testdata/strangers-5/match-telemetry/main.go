package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type matchEvent struct {
	Match  int64  `json:"match"`
	Player int    `json:"player"`
	Kind   string `json:"kind"`
	At     int64  `json:"at"`
}

type pipe[T any] struct {
	ch chan T
}

func newPipe[T any](depth int) *pipe[T] { return &pipe[T]{ch: make(chan T, depth)} }

func (p *pipe[T]) publish(v T) { p.ch <- v }

func (p *pipe[T]) attach(workers int, fn func(T)) {
	for i := 0; i < workers; i++ {
		go func() {
			for v := range p.ch {
				fn(v)
			}
		}()
	}
}

type collector struct {
	client *http.Client
	url    string
}

func (c *collector) upload(ev matchEvent) {
	b, _ := json.Marshal(ev)
	resp, err := c.client.Post(c.url, "application/json", bytes.NewReader(b))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

type match struct {
	id  int64
	out *pipe[matchEvent]
}

func (m *match) run(ctx context.Context) {
	kinds := []string{"kill", "assist", "pickup", "spawn"}
	for ctx.Err() == nil {
		time.Sleep(time.Duration(30+rand.Intn(40)) * time.Millisecond)
		m.record(kinds[rand.Intn(len(kinds))])
	}
}

func (m *match) record(kind string) {
	m.out.publish(matchEvent{Match: m.id, Player: rand.Intn(10), Kind: kind, At: time.Now().UnixMilli()})
}

func main() {
	if len(os.Args) > 1 {
		runSidecar(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(4 * time.Millisecond)
			w.WriteHeader(http.StatusNoContent)
		}))
		return
	}
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	sc, err := startSidecar("ingest")
	if err != nil {
		log.Fatal(err)
	}
	defer sc.stop()
	col := &collector{client: &http.Client{Timeout: 2 * time.Second}, url: fmt.Sprintf("http://%s/events", sc.addr)}
	events := newPipe[matchEvent](64)
	events.attach(1, col.upload) // want: channel-backpressure
	for i := 0; i < 120; i++ {
		go (&match{id: int64(i), out: events}).run(ctx)
	}
	<-ctx.Done()
}

type sidecar struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	addr string
}

func startSidecar(mode string) (*sidecar, error) {
	cmd := exec.Command(os.Args[0], mode)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, err
	}
	return &sidecar{cmd: cmd, in: in, addr: strings.TrimSpace(line)}, nil
}

func (s *sidecar) stop() {
	s.in.Close()
	_ = s.cmd.Wait()
}

func runSidecar(h http.Handler) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ln.Addr().String())
	go http.Serve(ln, h)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
