// Guild vault: members open the shared chest with a PIN.
package main

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/subtle"
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

type credential struct {
	salt []byte
	sum  []byte
	cost int
}

func (c *credential) derive(pin string) ([]byte, error) {
	return pbkdf2.Key(sha512.New, pin, c.salt, c.cost, len(c.sum)) // want: cpu-password-hashing
}

func (c *credential) matches(pin string) bool {
	got, err := c.derive(pin)
	return err == nil && subtle.ConstantTimeCompare(got, c.sum) == 1
}

type vault struct {
	mu    sync.Mutex
	gold  map[string]int
	creds map[string]*credential
}

func newVault(guilds int) *vault {
	v := &vault{gold: map[string]int{}, creds: map[string]*credential{}}
	for i := range guilds {
		name := fmt.Sprintf("guild-%d", i)
		c := &credential{salt: []byte("salt/" + name), sum: make([]byte, 32), cost: 60000}
		c.sum, _ = c.derive("4711")
		v.creds[name] = c
	}
	return v
}

func (v *vault) member(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guild, pin, ok := r.BasicAuth()
		c := v.creds[guild]
		if !ok || c == nil || !c.matches(pin) {
			http.Error(w, "wrong PIN", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (v *vault) deposit(w http.ResponseWriter, r *http.Request) {
	guild, _, _ := r.BasicAuth()
	v.mu.Lock()
	v.gold[guild] += 5
	n := v.gold[guild]
	v.mu.Unlock()
	json.NewEncoder(w).Encode(map[string]any{"guild": guild, "gold": n})
}

func players(base string) {
	announce("ready")
	for i := range 10 {
		go func() {
			for {
				req, _ := http.NewRequest("POST", base+"/deposit", nil)
				req.SetBasicAuth(fmt.Sprintf("guild-%d", i%4), "4711")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					time.Sleep(50 * time.Millisecond)
					continue
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	select {}
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "players" {
		players(os.Args[2])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)

	v := newVault(4)
	mux := http.NewServeMux()
	mux.Handle("POST /deposit", v.member(http.HandlerFunc(v.deposit)))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	if _, err := spawn("players", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
}
