// Group-producers-left reads pages of standings.
package main

import (
	"context"
	"errors"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type row struct {
	player int
	err    error
}

var errGone = errors.New("the player is gone")

func load(ctx context.Context, players []int, fetch func(int) row) <-chan row {
	out := make(chan row)
	var g errgroup.Group
	for _, p := range players {
		g.Go(func() error {
			out <- fetch(p) // want: goroutine-leak
			return nil
		})
	}
	go func() {
		_ = g.Wait() // want: goroutine-leak
		close(out)
	}()
	return out
}

func page(ctx context.Context, players []int) (sum int, err error) {
	for r := range load(ctx, players, func(p int) row {
		if p%4 == 3 {
			return row{err: errGone}
		}
		return row{player: p}
	}) {
		if r.err != nil {
			return 0, r.err
		}
		sum += r.player
	}
	return sum, nil
}

func main() {
	s := stage.Start()
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		if _, err := page(r.Context(), []int{1, 2, 3, 4, 5, 6}); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/page", PerSecond: 30})
	s.Wait()
}
