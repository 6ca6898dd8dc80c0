// loginhub checks passwords and keeps the presence of the players' devices.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	mrand "math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

type Account struct {
	Name string
	Hash []byte
}

type Accounts struct{ byName map[string]Account }

var errDenied = errors.New("denied")

func (a *Accounts) Login(_ context.Context, name, password string) (string, error) {
	acc, ok := a.byName[name]
	if !ok {
		return "", errDenied
	}
	if err := bcrypt.CompareHashAndPassword(acc.Hash, []byte(password)); err != nil { // want: cpu-password-hashing
		return "", errDenied
	}
	token := make([]byte, 16)
	_, _ = rand.Read(token)
	return hex.EncodeToString(token), nil
}

// Beat is one sign of life of a device.
type Beat struct {
	Device string
	At     time.Time
	Probe  []byte
}

type Presence struct {
	mu    sync.Mutex
	beats map[string][]*Beat
}

func (p *Presence) Touch(device string, probe []byte) {
	b := &Beat{Device: device, At: time.Now(), Probe: append([]byte(nil), probe...)} // want: heap-growth
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beats[device] = append(p.beats[device], b) // want: heap-growth
}

func (p *Presence) Online(device string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.beats[device]
	return len(b) > 0 && time.Since(b[len(b)-1].At) < 30*time.Second
}

type Hub struct {
	accounts *Accounts
	presence *Presence
}

func (h *Hub) devices(ctx context.Context, n int) {
	probe := make([]byte, 6<<10)
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for i := 0; ; i++ {
		select {
		case <-t.C:
			for k := range 10 {
				dev := fmt.Sprintf("dev-%d", (i*10+k)%n)
				h.presence.Touch(dev, probe)
			}
		case <-ctx.Done():
			return
		}
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	accounts := &Accounts{byName: map[string]Account{}}
	for i := range 4 {
		hash, err := bcrypt.GenerateFromPassword([]byte("secret"), 11)
		if err != nil {
			log.Fatal(err)
		}
		name := fmt.Sprintf("player-%d", i)
		accounts.byName[name] = Account{Name: name, Hash: hash}
	}
	hub := &Hub{accounts: accounts, presence: &Presence{beats: map[string][]*Beat{}}}
	ctx := context.Background()
	go hub.devices(ctx, 2000)
	go func() {
		for range time.Tick(200 * time.Millisecond) {
			hub.presence.Online(fmt.Sprintf("dev-%d", mrand.IntN(2000)))
		}
	}()

	for range 32 {
		go func() {
			for {
				_, err := hub.accounts.Login(ctx, fmt.Sprintf("player-%d", mrand.IntN(4)), "secret")
				if err != nil {
					log.Print(err)
				}
				time.Sleep(150 * time.Millisecond)
			}
		}()
	}
	select {}
}
