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
	"sync"
	"syscall"
	"time"
)

type Notice struct {
	Seq  int64  `json:"seq"`
	Text string `json:"text"`
}

// Board lets readers wait for the next notice.
type Board struct {
	mu      sync.Mutex
	last    Notice
	changed chan struct{}
}

func NewBoard() *Board { return &Board{changed: make(chan struct{})} }

func (b *Board) Post(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = Notice{Seq: b.last.Seq + 1, Text: text}
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *Board) state() (Notice, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last, b.changed
}

func (b *Board) Next(ctx context.Context, after int64) (Notice, bool) {
	for {
		n, changed := b.state()
		if n.Seq > after {
			return n, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Notice{}, false
		}
	}
}

type boardAPI struct{ board *Board }

func (a *boardAPI) poll(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	ctx, cancel := context.WithTimeout(r.Context(), 25*time.Second)
	defer cancel()
	n, ok := a.board.Next(ctx, after)
	if !ok {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	json.NewEncoder(w).Encode(n)
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "players" {
		runPlayers(os.Args[2])
		return
	}
	startDiagnostics()
	board := NewBoard()
	api := &boardAPI{board: board}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /notices", api.poll)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	if _, err := launch("players", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	go func() {
		for n := 0; ; n++ {
			board.Post(fmt.Sprintf("table %d opened", n))
			time.Sleep(time.Duration(3+rand.IntN(5)) * time.Second)
		}
	}()
	awaitShutdown()
}

func runPlayers(base string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}
	for range 800 {
		go func() {
			after := int64(0)
			for {
				resp, err := client.Get(fmt.Sprintf("%s/notices?after=%d", base, after))
				if err != nil {
					time.Sleep(time.Second)
					continue
				}
				var n Notice
				if json.NewDecoder(resp.Body).Decode(&n) == nil {
					after = n.Seq
				}
				resp.Body.Close()
			}
		}()
	}
	announce("ready")
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
