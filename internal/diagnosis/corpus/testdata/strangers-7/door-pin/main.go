// Command door-pin answers the API door: every call carries a device id and its pin.
package main

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Device struct {
	Salt   []byte
	Digest []byte
	Rounds int
}

// Scheme checks a secret against what is stored of it.
type Scheme interface {
	Seal(secret string, salt []byte, rounds int) ([]byte, error)
}

type schemeV2 struct{ size int }

func (s schemeV2) Seal(secret string, salt []byte, rounds int) ([]byte, error) {
	return pbkdf2.Key(sha256.New, secret, salt, rounds, s.size) // want: cpu-password-hashing
}

type Registry struct {
	mu      sync.RWMutex
	devices map[string]Device
	schemes map[byte]Scheme
}

func (g *Registry) find(id string) (Device, Scheme, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	d, ok := g.devices[id]
	return d, g.schemes[2], ok
}

func (g *Registry) Enrol(id, pin string) error {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	d := Device{Salt: salt, Rounds: 60_000}
	var err error
	if d.Digest, err = g.schemes[2].Seal(pin, salt, d.Rounds); err != nil {
		return err
	}
	g.mu.Lock()
	g.devices[id] = d
	g.mu.Unlock()
	return nil
}

func (g *Registry) Admit(id, pin string) bool {
	d, s, ok := g.find(id)
	if !ok {
		return false
	}
	sum, err := s.Seal(pin, d.Salt, d.Rounds)
	return err == nil && subtle.ConstantTimeCompare(sum, d.Digest) == 1
}

func (g *Registry) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, pin, ok := r.BasicAuth()
		if !ok || !g.Admit(id, pin) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

type balance struct {
	Coins int64     `json:"coins"`
	At    time.Time `json:"at"`
}

func main() {
	ctx, _, done := start()
	defer done()
	reg := &Registry{devices: map[string]Device{}, schemes: map[byte]Scheme{2: schemeV2{size: 32}}}
	for i := range 20 {
		if err := reg.Enrol("dev-"+strconv.Itoa(i), "4711"); err != nil {
			log.Fatal(err)
		}
	}
	api := http.NewServeMux()
	api.HandleFunc("GET /balance", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(balance{Coins: 1200, At: time.Now()})
	})
	url := serve(reg.Guard(api)) + "balance"
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 40}}
	for i := range 16 {
		go func() {
			for ctx.Err() == nil {
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				req.SetBasicAuth("dev-"+strconv.Itoa(i), "4711")
				if resp, err := client.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String() + "/"
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
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
