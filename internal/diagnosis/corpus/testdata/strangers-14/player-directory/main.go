package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

// Profile is what rooms, chats and the friends list show of a player.
type Profile struct {
	ID      int    `json:"id"`
	Nick    string `json:"nick"`
	Avatar  string `json:"avatar"`
	VIP     int    `json:"vip"`
	Country string `json:"country"`
}

type entry[V any] struct {
	value V
	until time.Time
}

// Directory keeps the values of a remote source for a short time.
type Directory[K comparable, V any] struct {
	ttl  time.Duration
	load func(context.Context, K) (V, error)

	mu      sync.Mutex
	entries map[K]entry[V]
}

func NewDirectory[K comparable, V any](ttl time.Duration, load func(context.Context, K) (V, error)) *Directory[K, V] {
	return &Directory[K, V]{ttl: ttl, load: load, entries: make(map[K]entry[V])}
}

func (d *Directory[K, V]) Get(ctx context.Context, key K) (V, error) {
	d.mu.Lock() // want: lock-held-across-io
	defer d.mu.Unlock()

	if e, ok := d.entries[key]; ok && time.Now().Before(e.until) {
		return e.value, nil
	}
	v, err := d.load(ctx, key) // want: lock-held-across-io
	if err != nil {
		var zero V
		return zero, err
	}
	d.entries[key] = entry[V]{value: v, until: time.Now().Add(d.ttl)}
	return v, nil
}

type profileClient struct {
	base string
	http *http.Client
}

func (c *profileClient) Fetch(ctx context.Context, id int) (Profile, error) {
	var p Profile
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/profiles?id=%d", c.base, id), nil)
	if err != nil {
		return p, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return p, fmt.Errorf("profiles: %s", resp.Status)
	}
	return p, json.NewDecoder(resp.Body).Decode(&p)
}

type lobbyAPI struct {
	players *Directory[int, Profile]
}

func (a *lobbyAPI) card(w http.ResponseWriter, r *http.Request) {
	var id int
	if _, err := fmt.Sscan(r.URL.Query().Get("id"), &id); err != nil {
		http.Error(w, "bad id", http.StatusBadRequest)
		return
	}
	p, err := a.players.Get(r.Context(), id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p)
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

// userService stands for the user service of the next data centre.
func userService() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/profiles", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(25 * time.Millisecond)
		var id int
		_, _ = fmt.Sscan(r.URL.Query().Get("id"), &id)
		_ = json.NewEncoder(w).Encode(Profile{ID: id, Nick: fmt.Sprintf("player-%d", id), Avatar: "a.png", VIP: id % 7, Country: "TW"})
	})
	return mux
}

func visitors(base string, n int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}, Timeout: 30 * time.Second}
	for range n {
		go func() {
			for {
				resp, err := client.Get(fmt.Sprintf("%s/card?id=%d", base, rand.IntN(600)))
				if err == nil {
					var p Profile
					_ = json.NewDecoder(resp.Body).Decode(&p)
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(5+rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
}

func main() {
	pc := &profileClient{
		base: serve(userService()),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 5 * time.Second},
	}
	api := &lobbyAPI{players: NewDirectory(3*time.Second, pc.Fetch)}
	mux := http.NewServeMux()
	mux.HandleFunc("/card", api.card)
	visitors(serve(mux), 60)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
