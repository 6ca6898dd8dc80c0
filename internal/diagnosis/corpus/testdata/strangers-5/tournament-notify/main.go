package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type push struct {
	client *http.Client
	url    string
	sent   atomic.Int64
}

func (p *push) send(ctx context.Context, player int, round int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s?player=%d&round=%d", p.url, player, round), nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	p.sent.Add(1)
	return err
}

type bracket struct {
	players []int
	round   int
}

type organiser struct {
	notify func(ctx context.Context, player, round int) error
}

func each[T any](items []T, fn func(T)) {
	var wg sync.WaitGroup
	for _, it := range items {
		wg.Add(1)
		go func() { // want: unbounded-concurrency
			defer wg.Done()
			fn(it)
		}()
	}
	wg.Wait()
}

func (o *organiser) advance(ctx context.Context, b *bracket) {
	b.round++
	each(b.players, func(p int) { // want: unbounded-concurrency
		if err := o.notify(ctx, p, b.round); err != nil && ctx.Err() == nil {
			log.Println(err)
		}
	})
}

func main() {
	if len(os.Args) > 1 {
		slots := make(chan struct{}, 64)
		runSidecar(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			slots <- struct{}{}
			time.Sleep(50 * time.Millisecond)
			<-slots
			w.WriteHeader(http.StatusAccepted)
		}))
		return
	}
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	sc, err := startSidecar("push")
	if err != nil {
		log.Fatal(err)
	}
	defer sc.stop()
	tr := &http.Transport{MaxIdleConnsPerHost: 2500, MaxIdleConns: 2500}
	p := &push{client: &http.Client{Transport: tr, Timeout: 10 * time.Second}, url: "http://" + sc.addr + "/push"}
	o := &organiser{notify: p.send}
	b := &bracket{}
	for i := 0; i < 2000; i++ {
		b.players = append(b.players, i)
	}
	for ctx.Err() == nil {
		o.advance(ctx, b)
		time.Sleep(300 * time.Millisecond)
	}
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
