// Stuck-forgotten-unlock changes nicknames.
package main

import (
	"errors"
	"net/http"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

var errTaken = errors.New("the name is taken")

type names struct {
	mu    sync.Mutex
	taken map[string]string
}

func (n *names) rename(player, name string) error {
	n.mu.Lock() // want: deadlock
	if owner, ok := n.taken[name]; ok && owner != player {
		return errTaken
	}
	n.taken[name] = player
	n.mu.Unlock()
	return nil
}

func main() {
	s := stage.Start()
	n := &names{taken: map[string]string{"ada": "1"}}
	mux := http.NewServeMux()
	mux.HandleFunc("/rename", func(w http.ResponseWriter, r *http.Request) {
		if err := n.rename("2", r.FormValue("name")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/rename?name=ada", Users: 40})
	s.Wait()
}
