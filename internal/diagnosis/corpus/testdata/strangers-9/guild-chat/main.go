// Command guild-chat passes guild messages to connected players.
package main

import (
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Line struct {
	Guild int
	Text  string
}

type Sink interface {
	Deliver(Line)
}

// Member is a connected player with its outbound queue.
type Member struct {
	out  chan Line
	pace time.Duration
	read atomic.Int64
}

func (m *Member) Deliver(l Line) {
	m.out <- l // want: channel-backpressure
}

func (m *Member) writeLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.out:
			time.Sleep(m.pace)
			m.read.Add(1)
		}
	}
}

type Guild struct{ members []Sink }

// every calls f for all members of the guild.
func (g *Guild) every(f func(Sink)) {
	for _, m := range g.members {
		f(m)
	}
}

type Chat struct {
	guilds []*Guild
	posted atomic.Int64
}

func (c *Chat) Post(l Line) {
	c.guilds[l.Guild%len(c.guilds)].every(func(s Sink) {
		s.Deliver(l)
	})
	c.posted.Add(1)
}

func (c *Chat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("guild"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.Post(Line{Guild: n, Text: "hello"})
	w.WriteHeader(http.StatusAccepted)
}

func main() {
	ctx, _, done := boot()
	defer done()
	chat := &Chat{}
	for range 4 {
		g := &Guild{}
		for i := range 50 {
			m := &Member{out: make(chan Line, 16), pace: 100 * time.Microsecond}
			if i == 17 {
				m.pace = 120 * time.Millisecond
			}
			go m.writeLoop(ctx)
			g.members = append(g.members, m)
		}
		chat.guilds = append(chat.guilds, g)
	}
	url := serve(chat)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	players(ctx, 40, 20*time.Millisecond, func(i int) error { return call(c, url+"/?guild="+strconv.Itoa(i)) })
	<-ctx.Done()
}

func boot() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return ctx, a, func() { a.Close(); stop() }
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// players runs n players that each call f and then wait.
func players(ctx context.Context, n int, pause time.Duration, f func(i int) error) {
	for i := range n {
		go func() {
			time.Sleep(time.Duration(rand.Int64N(int64(pause) + 1)))
			for ctx.Err() == nil {
				_ = f(i)
				time.Sleep(pause)
			}
		}()
	}
}

func call(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
