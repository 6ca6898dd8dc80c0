package main

import (
	"bufio"
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
	"strings"
	"sync"
	"syscall"
	"time"
)

type Registration struct {
	Device string `json:"device"`
	Topic  string `json:"topic"`
}

type TopicStore struct {
	mu     sync.RWMutex
	topics map[string]int
}

func (t *TopicStore) Register(r Registration) {
	t.mu.Lock()
	t.topics[r.Topic]++
	t.mu.Unlock()
}

func (t *TopicStore) Count(topic string) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.topics[topic]
}

type pushAPI struct{ store *TopicStore }

func (a *pushAPI) register(w http.ResponseWriter, r *http.Request) {
	var reg Registration
	if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&reg); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	a.store.Register(reg)
	w.WriteHeader(http.StatusNoContent)
}

func (a *pushAPI) count(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, a.store.Count(r.URL.Query().Get("topic")))
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "devices" {
		runDevices(os.Args[2])
		return
	}
	startDiagnostics()
	api := &pushAPI{store: &TopicStore{topics: map[string]int{}}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /register", api.register)
	mux.HandleFunc("GET /count", api.count)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 10 * time.Minute}
	go srv.Serve(ln)
	if _, err := launch("devices", ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	awaitShutdown()
}

// runDevices keeps one connection per device open and talks on a few of them.
func runDevices(addr string) {
	conns := make([]net.Conn, 0, 5000)
	talk := func(c net.Conn, i int) {
		body := fmt.Sprintf(`{"device":"d%d","topic":"t%d"}`, i, i%20)
		fmt.Fprintf(c, "POST /register HTTP/1.1\r\nHost: push\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			resp.Body.Close()
		}
	}
	for i := range 5000 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			log.Fatal(err)
		}
		talk(c, i)
		conns = append(conns, c)
	}
	announce("ready")
	for {
		i := rand.IntN(len(conns))
		talk(conns[i], i)
		time.Sleep(20 * time.Millisecond)
	}
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
