// friendcards puts a player's friend list together from many small look-ups.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

type Card struct {
	ID     int    `json:"id"`
	Nick   string `json:"nick"`
	Online bool   `json:"online"`
}

// gather calls fn for every item, a few at a time, and keeps their order.
func gather[T, R any](ctx context.Context, limit int, items []T, fn func(context.Context, T) (R, error)) ([]R, error) {
	out := make([]R, len(items))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for i, it := range items {
		g.Go(func() error {
			r, err := fn(ctx, it)
			out[i] = r
			return err
		})
	}
	return out, g.Wait()
}

type Directory struct {
	base string
	hc   *http.Client
}

func (d *Directory) Lookup(ctx context.Context, id int) (Card, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	var c Card
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+"/"+strconv.Itoa(id), nil)
	if err != nil {
		return c, err
	}
	resp, err := d.hc.Do(req)
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	return c, json.NewDecoder(resp.Body).Decode(&c)
}

type API struct{ dir *Directory }

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	me, _ := strconv.Atoi(r.FormValue("player"))
	friends := make([]int, 16)
	for i := range friends {
		friends[i] = (me*31 + i*17) % 10_000
	}
	cards, err := gather(r.Context(), 8, friends, a.dir.Lookup)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(cards)
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	directory := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.URL.Path[1:])
		time.Sleep(time.Millisecond)
		_ = json.NewEncoder(w).Encode(Card{ID: id, Nick: fmt.Sprintf("n%d", id), Online: id%3 == 0})
	}))
	api := &API{dir: &Directory{base: directory.URL, hc: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxIdleConns: 64},
	}}}

	for range 6 {
		go func() {
			for {
				rec := httptest.NewRecorder()
				api.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, fmt.Sprintf("/?player=%d", rand.IntN(10_000)), nil))
				if rec.Code != http.StatusOK {
					log.Print(rec.Code, rec.Body.String())
				}
				time.Sleep(time.Duration(150+rand.IntN(150)) * time.Millisecond)
			}
		}()
	}
	select {}
}
