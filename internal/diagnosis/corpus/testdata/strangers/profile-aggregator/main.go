package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

type Card struct {
	Player int64  `json:"player"`
	Nick   string `json:"nick"`
	Level  int    `json:"level"`
}

type CardClient struct {
	base string
	http *http.Client
}

func (c *CardClient) Card(ctx context.Context, id int64) (Card, error) {
	var out Card
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/cards/%d", c.base, id), nil)
	if err != nil {
		return out, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, json.NewDecoder(resp.Body).Decode(&out)
}

// Aggregator assembles the friends page.
type Aggregator struct {
	cards *CardClient
	width int
}

func (a *Aggregator) Friends(ctx context.Context, ids []int64) ([]Card, error) {
	out := make([]Card, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(a.width)
	for i, id := range ids {
		g.Go(func() error {
			c, err := a.cards.Card(ctx, id)
			out[i] = c
			return err
		})
	}
	return out, g.Wait()
}

type friendsAPI struct{ agg *Aggregator }

func (f *friendsAPI) get(w http.ResponseWriter, r *http.Request) {
	ids := make([]int64, 24)
	for i := range ids {
		ids[i] = rand.Int64N(1e6)
	}
	cards, err := f.agg.Friends(r.Context(), ids)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	json.NewEncoder(w).Encode(cards)
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "downstream":
			runCards()
		case "traffic":
			runTraffic(os.Args[2])
		}
		return
	}
	startDiagnostics()
	addr, err := launch("downstream")
	if err != nil {
		log.Fatal(err)
	}
	api := &friendsAPI{agg: &Aggregator{width: 8, cards: &CardClient{base: "http://" + addr, http: &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /friends", api.get)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	if _, err := launch("traffic", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	awaitShutdown()
}

func runCards() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce(ln.Addr().String())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cards/{id}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(1+rand.IntN(3)) * time.Millisecond)
		id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
		json.NewEncoder(w).Encode(Card{Player: id, Nick: fmt.Sprintf("p%d", id), Level: int(id % 90)})
	})
	log.Fatal(http.Serve(ln, mux))
}

func runTraffic(base string) {
	announce("ready")
	for range 4 {
		go func() {
			for {
				resp, err := http.Get(base + "/friends")
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(60+rand.IntN(80)) * time.Millisecond)
			}
		}()
	}
	select {}
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}

var children []*exec.Cmd

// launch starts this binary in another role and returns the first line the
// child prints, normally the address it listens on.
func launch(args ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(exe, args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OPS_CENTER") && !strings.HasPrefix(kv, "PPROF_ADDR=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Stderr = os.Stderr
	if _, err = cmd.StdinPipe(); err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	children = append(children, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

// announce tells the parent where we are and ties our lifetime to it.
func announce(line string) {
	fmt.Println(line)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}
