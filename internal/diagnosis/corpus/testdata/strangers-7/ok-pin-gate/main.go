// Command ok-pin-gate checks passwords at the login door, two at a time.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
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
	"golang.org/x/crypto/bcrypt"
)

type Account struct {
	Name string
	Hash []byte
}

type Gate struct {
	slots    chan struct{}
	accounts sync.Map // name to *Account
	sessions *sessionTable
}

type sessionTable struct {
	mu   sync.Mutex
	byID map[string]time.Time
	keep int
	fifo []string
}

func (t *sessionTable) open(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.fifo) == t.keep {
		delete(t.byID, t.fifo[0])
		t.fifo = append(t.fifo[:0], t.fifo[1:]...)
	}
	t.fifo = append(t.fifo, id)
	t.byID[id] = time.Now()
}

func (g *Gate) Login(ctx context.Context, name, password string) (string, error) {
	v, ok := g.accounts.Load(name)
	if !ok {
		return "", errors.New("no such account")
	}
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	err := bcrypt.CompareHashAndPassword(v.(*Account).Hash, []byte(password))
	<-g.slots
	if err != nil {
		return "", err
	}
	id := fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64())
	g.sessions.open(id)
	return id, nil
}

func main() {
	ctx, _, done := start()
	defer done()
	g := &Gate{slots: make(chan struct{}, 2), sessions: &sessionTable{byID: map[string]time.Time{}, keep: 200}}
	hash, err := bcrypt.GenerateFromPassword([]byte("hunter2"), bcrypt.DefaultCost)
	if err != nil {
		log.Fatal(err)
	}
	for i := range 100 {
		name := "acc" + strconv.Itoa(i)
		g.accounts.Store(name, &Account{Name: name, Hash: hash})
	}
	url := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := g.Login(r.Context(), r.FormValue("name"), r.FormValue("password"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, id)
	}))
	tick := time.NewTicker(400 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			go func() {
				resp, err := http.Get(url + "?password=hunter2&name=acc" + strconv.Itoa(rand.IntN(100)))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
		}
	}
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
