// Leaderboard-lock-cpu ranks players.
package main

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type row struct{ player, points int }

type leaderboard struct {
	mu   sync.Mutex
	rows []row
}

func (l *leaderboard) score(player, points int) []row {
	l.mu.Lock() // want: lock-contention
	defer l.mu.Unlock()
	l.rows[player%len(l.rows)].points += points
	top := slices.Clone(l.rows)                                             // want: lock-contention
	slices.SortFunc(top, func(a, b row) int { return b.points - a.points }) // want: lock-contention
	return slices.Clone(top[:10])
} // want: lock-contention

func main() {
	s := stage.Start()
	l := &leaderboard{rows: make([]row, 20_000)}
	for i := range l.rows {
		l.rows[i] = row{i, i * 7919 % 10_007}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/score", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("player"))
		top := l.score(n, n*31%97)
		_, _ = w.Write([]byte(strconv.Itoa(top[0].player)))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/score?player=77", Users: 40, Pause: 5 * time.Millisecond})
	s.Wait()
}
