// Hot-json sends the whole table's state to whoever asks.
package main

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type seat struct {
	Player  string            `json:"player"`
	Chips   int               `json:"chips"`
	Bets    []int             `json:"bets"`
	History []move            `json:"history"`
	Tags    map[string]string `json:"tags"`
}

type move struct {
	Round  int       `json:"round"`
	Action string    `json:"action"`
	Amount float64   `json:"amount"`
	At     time.Time `json:"at"`
}

type table struct{ Seats []seat }

func (t *table) snapshot() ([]byte, error) {
	return json.Marshal(t) // want: cpu-hot-path
}

func (t *table) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	b, err := t.snapshot()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

func main() {
	s := stage.Start()
	t := &table{}
	for i := range 60 {
		st := seat{Player: "player", Chips: i * 100, Bets: []int{1, 2, 3, 5, 8}, Tags: map[string]string{"zone": "a", "level": "7", "team": "red"}}
		for n := range 40 {
			st.History = append(st.History, move{n, "raise", float64(n) * 1.5, time.Unix(int64(n), 0)})
		}
		t.Seats = append(t.Seats, st)
	}
	s.Crowd(stage.Traffic{URL: s.Serve(t) + "/table", Users: 16, Pause: time.Millisecond})
	s.Wait()
}
