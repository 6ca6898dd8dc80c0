// Match report: rates finished matches and keeps their replays.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"net/rpc"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type RateArgs struct {
	Match   string
	Winners []int
	Losers  []int
}

type RateReply struct{ Delta int }

type Rating struct{}

func (Rating) Rate(args *RateArgs, reply *RateReply) error {
	time.Sleep(600*time.Millisecond + rand.N(200*time.Millisecond))
	reply.Delta = 12 + len(args.Match)%7
	return nil
}

func ratings() {
	srv := rpc.NewServer()
	srv.Register(Rating{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce(ln.Addr().String())
	srv.Accept(ln)
}

type rater interface {
	rate(match string, won, lost []int) (int, error)
}

type remoteRater struct{ *rpc.Client }

func (r remoteRater) rate(match string, won, lost []int) (int, error) {
	var reply RateReply
	err := r.Call("Rating.Rate", &RateArgs{match, won, lost}, &reply) // want: downstream-wait
	return reply.Delta, err
}

type reports struct {
	rater
	mu      sync.Mutex
	replays map[string][]byte
	ladder  map[int]int
}

func (s *reports) finish(match string, raw []byte) error {
	won, lost := []int{rand.IntN(500), rand.IntN(500)}, []int{rand.IntN(500), rand.IntN(500)}
	delta, err := s.rate(match, won, lost)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range won {
		s.ladder[won[i]] += delta
		s.ladder[lost[i]] -= delta
	}
	s.replays[match] = append([]byte(nil), raw...) // want: heap-growth
	return nil
}

func (s *reports) server(ctx context.Context, id int) {
	raw := make([]byte, 24<<10)
	for n := 0; ctx.Err() == nil; n++ {
		raw[0], raw[1] = byte(n), byte(id)
		if err := s.finish(fmt.Sprintf("m-%d-%d", id, n), raw); err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "ratings" {
		ratings()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	addr, err := spawn("ratings")
	if err != nil {
		log.Fatal(err)
	}
	c, err := rpc.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	s := &reports{rater: remoteRater{c}, replays: map[string][]byte{}, ladder: map[int]int{}}
	for i := range 48 {
		go s.server(ctx, i)
	}
	<-ctx.Done()
}
