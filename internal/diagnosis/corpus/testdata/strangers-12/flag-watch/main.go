// Command flag-watch answers feature flags from memory and follows the config
// service with one long poll per namespace.
package main

import (
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
	"strconv"
	"sync/atomic"
	"time"
)

type Flags struct {
	Version int             `json:"version"`
	On      map[string]bool `json:"on"`
}

type Watcher struct {
	namespace string
	base      string
	cl        *http.Client
	current   atomic.Pointer[Flags]
}

func NewWatcher(base, ns string) *Watcher {
	w := &Watcher{namespace: ns, base: base, cl: &http.Client{Timeout: time.Minute}}
	w.current.Store(&Flags{On: map[string]bool{}})
	return w
}

func (w *Watcher) Enabled(flag string) bool { return w.current.Load().On[flag] }

// poll returns when the namespace has a newer version than ours.
func (w *Watcher) poll(ctx context.Context) error {
	url := fmt.Sprintf("%s/watch/%s?after=%d", w.base, w.namespace, w.current.Load().Version)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := w.cl.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		return nil
	}
	var f Flags
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil {
		return err
	}
	w.current.Store(&f)
	return nil
}

func (w *Watcher) Follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.poll(ctx); err != nil {
			log.Printf("watch %s: %v", w.namespace, err)
			time.Sleep(time.Second)
		}
	}
}

// configService holds a poll for 25 s or until the version moves on.
func configService(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.Atoi(r.URL.Query().Get("after"))
	if after > 0 {
		select {
		case <-time.After(25 * time.Second):
			w.WriteHeader(http.StatusNotModified)
			return
		case <-time.After(time.Duration(12+rand.IntN(20)) * time.Second):
		case <-r.Context().Done():
			return
		}
	}
	_ = json.NewEncoder(w).Encode(Flags{Version: after + 1, On: map[string]bool{"jackpot": true, "new-lobby": after%2 == 0}})
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

type api map[string]*Watcher

func (a api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ns, ok := a[r.PathValue("ns")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, ns.Enabled(r.PathValue("flag")))
}

func ask(url string) {
	resp, err := http.Get(url)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}

func main() {
	cfgMux := http.NewServeMux()
	cfgMux.HandleFunc("GET /watch/{ns}", configService)
	cfg := serve(cfgMux)

	a := api{}
	for _, ns := range []string{"lobby", "wallet", "slots", "chat", "promo", "vip"} {
		a[ns] = NewWatcher(cfg, ns)
		go a[ns].Follow(context.Background())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /flags/{ns}/{flag}", a)
	base := serve(mux)
	for ns := range a {
		go func() {
			for range time.Tick(30 * time.Millisecond) {
				ask(base + "/flags/" + ns + "/jackpot")
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
