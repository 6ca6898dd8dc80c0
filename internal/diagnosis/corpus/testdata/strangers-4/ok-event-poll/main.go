// Event poll: clients hold a request open until something happens.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type feed struct {
	mu   sync.Mutex
	seq  int
	wake chan struct{}
}

func (f *feed) state() (int, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seq, f.wake
}

func (f *feed) bump() {
	f.mu.Lock()
	f.seq++
	close(f.wake)
	f.wake = make(chan struct{})
	f.mu.Unlock()
}

type poller struct{ feeds [40]*feed }

func (p *poller) poll(w http.ResponseWriter, r *http.Request) {
	var n int
	fmt.Sscan(r.FormValue("feed"), &n)
	f := p.feeds[n%len(p.feeds)]
	_, wake := f.state()
	t := time.NewTimer(20 * time.Second)
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	case <-r.Context().Done():
		return
	}
	seq, _ := f.state()
	json.NewEncoder(w).Encode(map[string]int{"feed": n, "seq": seq})
}

func clients(base string) {
	announce("ready")
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}
	for i := range 600 {
		go func() {
			for {
				resp, err := c.Get(fmt.Sprintf("%s/poll?feed=%d", base, i))
				if err != nil {
					time.Sleep(time.Second)
					continue
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}()
	}
	select {}
}

// lobby answers when a match has been found, half a minute at most.
func lobby() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce("http://" + ln.Addr().String())
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(3 * time.Second):
			io.WriteString(w, "match")
		case <-r.Context().Done():
		}
	}))
}

func (p *poller) watchLobby(ctx context.Context, url string) {
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, "GET", url+"/events?wait=30s", nil)
		if err != nil {
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		p.feeds[0].bump()
	}
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "clients":
			clients(os.Args[2])
		case "lobby":
			lobby()
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	p := &poller{}
	for i := range p.feeds {
		p.feeds[i] = &feed{wake: make(chan struct{})}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, http.HandlerFunc(p.poll))
	if _, err := spawn("clients", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	url, err := spawn("lobby")
	if err != nil {
		log.Fatal(err)
	}
	go p.watchLobby(ctx, url)
	go func() {
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
				p.feeds[n%len(p.feeds)].bump()
			case <-ctx.Done():
				return
			}
		}
	}()
	<-ctx.Done()
}
