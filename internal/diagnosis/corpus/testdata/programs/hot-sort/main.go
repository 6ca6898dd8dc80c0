// Hot-sort keeps a leaderboard in order.
package main

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type score struct {
	player int
	points int
}

type board struct{ rows []score }

func (b *board) place(s score) []score {
	rows := append([]score(nil), b.rows...)
	rows = append(rows, s)
	for i := range rows {
		for j := i + 1; j < len(rows); j++ { // want: cpu-hot-path
			if rows[j].points > rows[i].points { // want: cpu-hot-path
				rows[i], rows[j] = rows[j], rows[i] // want: cpu-hot-path
			}
		}
	}
	return rows
}

func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rows := b.place(score{1, rand.IntN(10_000)})
	_, _ = w.Write([]byte(strconv.Itoa(rows[0].points)))
}

func main() {
	s := stage.Start()
	b := &board{}
	for i := range 3000 {
		b.rows = append(b.rows, score{i, rand.IntN(10_000)})
	}
	s.Crowd(stage.Traffic{URL: s.Serve(b) + "/", Users: 10, Pause: 2 * time.Millisecond})
	s.Wait()
}
