package main

import (
	"bufio"
	"context"
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type relay struct {
	client *http.Client
	base   string
	frames atomic.Int64
}

func (r *relay) follow(parent context.Context, match int, d time.Duration) error {
	ctx, cancel := context.WithTimeout(parent, d)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/stream?match=%d", r.base, match), nil)
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		r.frames.Add(1)
	}
	return sc.Err()
}

func main() {
	if len(os.Args) > 1 {
		runSidecar(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			t := time.NewTicker(200 * time.Millisecond)
			defer t.Stop()
			rc := http.NewResponseController(w)
			for n := 0; ; n++ {
				fmt.Fprintf(w, "data: %s %d\n", r.URL.Query().Get("match"), n)
				_ = rc.Flush()
				select {
				case <-t.C:
				case <-r.Context().Done():
					return
				}
			}
		}))
		return
	}
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	sc, err := startSidecar("matches")
	if err != nil {
		log.Fatal(err)
	}
	defer sc.stop()
	r := &relay{client: &http.Client{}, base: "http://" + sc.addr}
	for i := 0; i < 80; i++ {
		go func() {
			for ctx.Err() == nil {
				_ = r.follow(ctx, i, time.Duration(8000+rand.Intn(8000))*time.Millisecond)
			}
		}()
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
