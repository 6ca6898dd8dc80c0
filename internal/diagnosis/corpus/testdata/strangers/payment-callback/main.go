package main

import (
	"bufio"
	"encoding/json"
	"errors"
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
	"sync/atomic"
	"syscall"
	"time"
)

type Callback struct {
	OrderID  string
	Provider string
	Cents    int64
}

type Receipt struct {
	OrderID string `json:"order_id"`
	Status  string `json:"status"`
	Detail  string `json:"detail"`
}

var errNotSettled = errors.New("provider has not settled the order")

type ProviderClient struct {
	base string
	http *http.Client
}

func newProviderClient(base string) *ProviderClient {
	return &ProviderClient{base: base, http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: 5 * time.Second,
	}}}
}

func (c *ProviderClient) Confirm(cb Callback) (*Receipt, error) {
	req, err := http.NewRequest(http.MethodPost, c.base+"/orders/"+cb.OrderID+"/confirm", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Provider", cb.Provider)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("order %s: %w (%s)", cb.OrderID, errNotSettled, resp.Status)
	}
	defer resp.Body.Close()
	var rec Receipt
	if err := json.NewDecoder(resp.Body).Decode(&rec); err != nil {
		return nil, err
	}
	return &rec, nil
}

type TopUpService struct {
	provider *ProviderClient
	mu       sync.Mutex
	credited map[string]int64
	pending  atomic.Int64
}

func (t *TopUpService) Handle(cb Callback) error {
	rec, err := t.provider.Confirm(cb)
	if errors.Is(err, errNotSettled) {
		t.pending.Add(1)
		return nil
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.credited[cb.Provider] += cb.Cents
	t.mu.Unlock()
	_ = rec
	return nil
}

type callbackRunner struct {
	svc *TopUpService
	seq *atomic.Int64
}

func (r callbackRunner) run() {
	for {
		cb := Callback{OrderID: fmt.Sprintf("o-%08d", r.seq.Add(1)), Provider: "linepay", Cents: 300}
		if err := r.svc.Handle(cb); err != nil {
			log.Printf("callback %s: %v", cb.OrderID, err)
		}
		time.Sleep(time.Duration(120+rand.IntN(160)) * time.Millisecond)
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "downstream" {
		runProvider()
		return
	}
	startDiagnostics()
	addr, err := launch("downstream")
	if err != nil {
		log.Fatal(err)
	}
	svc := &TopUpService{provider: newProviderClient("http://" + addr), credited: map[string]int64{}}
	seq := new(atomic.Int64)
	for range 10 {
		go callbackRunner{svc: svc, seq: seq}.run()
	}
	awaitShutdown()
}

func runProvider() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce(ln.Addr().String())
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders/{id}/confirm", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(15 * time.Millisecond)
		rec := Receipt{OrderID: r.PathValue("id"), Status: "settled", Detail: strings.Repeat("-", 256)}
		w.Header().Set("Content-Type", "application/json")
		if rand.IntN(100) < 35 {
			rec.Status = "processing"
			w.WriteHeader(http.StatusConflict)
		}
		json.NewEncoder(w).Encode(rec)
	})
	log.Fatal(http.Serve(ln, mux))
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
