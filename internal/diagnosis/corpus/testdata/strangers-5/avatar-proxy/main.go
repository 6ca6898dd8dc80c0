package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

var errMissing = errors.New("avatar not found")

type fetcher interface {
	fetch(ctx context.Context, id int) ([]byte, error)
}

type origin struct {
	client *http.Client
	base   string
}

func (o *origin) fetch(ctx context.Context, id int) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/avatars/%d.png", o.base, id), nil)
	if err != nil {
		return nil, err
	}
	resp, err := o.client.Do(req) // want: response-body-leak
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusNotFound {
		return nil, errMissing // want: response-body-leak
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}

type withDefault struct {
	fetcher
	image  []byte
	misses atomic.Int64
}

func (d *withDefault) fetch(ctx context.Context, id int) ([]byte, error) {
	b, err := d.fetcher.fetch(ctx, id)
	if errors.Is(err, errMissing) {
		d.misses.Add(1)
		return d.image, nil
	}
	return b, err
}

func main() {
	if len(os.Args) > 1 {
		img := bytes.Repeat([]byte{0x89, 'P', 'N', 'G'}, 1024)
		runSidecar(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := strings.TrimSuffix(r.URL.Path[len("/avatars/"):], ".png")
			if n, _ := strconv.Atoi(name); n%4 == 0 {
				http.Error(w, "no such avatar "+name, http.StatusNotFound)
				return
			}
			_, _ = w.Write(img)
		}))
		return
	}
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	sc, err := startSidecar("origin")
	if err != nil {
		log.Fatal(err)
	}
	defer sc.stop()
	tr := &http.Transport{MaxIdleConnsPerHost: 16, ResponseHeaderTimeout: 2 * time.Second}
	var f fetcher = &withDefault{fetcher: &origin{client: &http.Client{Transport: tr}, base: "http://" + sc.addr}, image: []byte("default")}
	for n := 0; ctx.Err() == nil; n++ {
		if _, err := f.fetch(ctx, n); err != nil {
			log.Println(err)
		}
		time.Sleep(10 * time.Millisecond)
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
