// Friends API: asks the profile service for each friend shown.
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type profile struct {
	Name  string `json:"name"`
	Level int    `json:"level"`
}

func profiles() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce("http://" + ln.Addr().String())
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(profile{r.URL.Path, 7})
	}))
}

type friends struct {
	base   string
	client *http.Client
	shown  atomic.Int64
}

func (f *friends) lookup(ctx context.Context, name string) (p profile, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", f.base+"/"+name, nil)
	if err != nil {
		return p, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return p, err
	}
	defer func() {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}()
	return p, json.NewDecoder(resp.Body).Decode(&p)
}

func (f *friends) list(w http.ResponseWriter, r *http.Request) {
	var out []profile
	for i := range 4 {
		p, err := f.lookup(r.Context(), fmt.Sprintf("friend-%d", i))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		out = append(out, p)
	}
	f.shown.Add(1)
	json.NewEncoder(w).Encode(out)
}

func players(base string) {
	announce("ready")
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for range 8 {
		go func() {
			for {
				resp, err := c.Get(base)
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(25 * time.Millisecond)
			}
		}()
	}
	select {}
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "profiles":
			profiles()
		case "players":
			players(os.Args[2])
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	base, err := spawn("profiles")
	if err != nil {
		log.Fatal(err)
	}
	f := &friends{base: base, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, http.HandlerFunc(f.list))
	if _, err := spawn("players", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
}
