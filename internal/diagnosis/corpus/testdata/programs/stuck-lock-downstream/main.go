// Stuck-lock-downstream seats players.
package main

import (
	"net/http"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/testdata/programs/cache-redis/redis"
)

type tables struct {
	mu    sync.Mutex
	seats map[string]string
	store *redis.Client
}

func (t *tables) sit(player, table string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seats[player] = table
	_, err := t.store.Do("HSET", "seats", player, table) // want: lock-held-across-io
	return err
}

func main() {
	stage.Child("store", standin.Redis(standin.Always(standin.Never)))
	s := stage.Start()
	t := &tables{seats: map[string]string{}, store: redis.New(s.Spawn("store"))}
	mux := http.NewServeMux()
	mux.HandleFunc("/sit", func(w http.ResponseWriter, r *http.Request) {
		if err := t.sit(r.FormValue("player"), "7"); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/sit?player=ada", Users: 60})
	s.Wait()
}
