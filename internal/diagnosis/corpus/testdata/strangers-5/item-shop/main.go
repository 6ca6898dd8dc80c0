package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type quote struct {
	Item  string `json:"item"`
	Price int64  `json:"price"`
}

type pricing struct {
	client *http.Client
	base   string
}

func (p *pricing) quote(ctx context.Context, item string) (quote, error) {
	var q quote
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/quote?item="+item, nil)
	if err != nil {
		return q, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return q, err
	}
	defer resp.Body.Close()
	return q, json.NewDecoder(resp.Body).Decode(&q)
}

type wallets struct {
	sync.Mutex
	balance map[int]int64
}

type shop struct {
	wallets
	prices *pricing
	owned  map[int]int
}

var errFunds = errors.New("insufficient funds")

func (s *shop) purchase(ctx context.Context, player int, item string) error {
	s.Lock() // want: lock-held-across-io
	defer s.Unlock()
	if err := s.charge(ctx, player, item); err != nil { // want: lock-held-across-io
		return err
	}
	s.owned[player]++
	return nil
}

func (s *shop) charge(ctx context.Context, player int, item string) error {
	cost, err := s.total(ctx, item)
	if err != nil {
		return err
	}
	if s.balance[player] < cost {
		return errFunds
	}
	s.balance[player] -= cost
	return nil
}

func (s *shop) total(ctx context.Context, item string) (int64, error) {
	q, err := s.prices.quote(ctx, item) // want: lock-held-across-io
	if err != nil {
		return 0, err
	}
	return q.Price + q.Price/10, nil
}

func (s *shop) grant(player int, amount int64) {
	s.Lock()
	s.balance[player] += amount
	s.Unlock()
}

func main() {
	if len(os.Args) > 1 {
		runSidecar(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(20 * time.Millisecond)
			_ = json.NewEncoder(w).Encode(quote{Item: r.URL.Query().Get("item"), Price: 90})
		}))
		return
	}
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	sc, err := startSidecar("pricing")
	if err != nil {
		log.Fatal(err)
	}
	defer sc.stop()
	s := &shop{wallets: wallets{balance: map[int]int64{}}, owned: map[int]int{}, prices: &pricing{client: &http.Client{Timeout: time.Second}, base: "http://" + sc.addr}}
	for i := 0; i < 40; i++ {
		go func() {
			for ctx.Err() == nil {
				_ = s.purchase(ctx, i, fmt.Sprintf("skin-%d", rand.Intn(200)))
				time.Sleep(time.Duration(20+rand.Intn(30)) * time.Millisecond)
			}
		}()
	}
	go func() {
		for ctx.Err() == nil {
			s.grant(rand.Intn(40), 500)
			time.Sleep(10 * time.Millisecond)
		}
	}()
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
