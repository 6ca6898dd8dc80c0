// Command bet-metrics receives settled bets from the tables and records how
// long each one took, per operator and game.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type SettledBet struct {
	Operator string        `json:"operator"`
	Game     string        `json:"game"`
	Round    ulid.ULID     `json:"round"`
	Stake    int64         `json:"stake"`
	Payout   int64         `json:"payout"`
	Took     time.Duration `json:"took"`
}

type recorder struct {
	settle *prometheus.HistogramVec
	payout *prometheus.CounterVec
}

func newRecorder(reg prometheus.Registerer) *recorder {
	r := &recorder{
		settle: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "bets", Name: "settle_seconds", Help: "Time from round end to settlement.",
			Buckets: prometheus.ExponentialBuckets(0.001, 1.6, 24),
		}, []string{"operator", "game", "round"}),
		payout: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "bets", Name: "payout_total", Help: "Paid out, minor units.",
		}, []string{"operator", "game"}),
	}
	reg.MustRegister(r.settle, r.payout)
	return r
}

func (r *recorder) observe(b *SettledBet) {
	r.settle.With(prometheus.Labels{ // want: heap-growth
		"operator": b.Operator,
		"game":     b.Game,
		"round":    b.Round.String(),
	}).Observe(b.Took.Seconds())
	r.payout.WithLabelValues(b.Operator, b.Game).Add(float64(b.Payout))
}

type ingest struct {
	rec  *recorder
	sink func(*SettledBet)
}

func (in *ingest) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var batch []SettledBet
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 1<<20)).Decode(&batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for i := range batch {
		in.rec.observe(&batch[i])
		in.sink(&batch[i])
	}
	w.WriteHeader(http.StatusAccepted)
}

// totals keeps the running result of each operator.
type totals struct {
	in  chan SettledBet
	sum map[string]int64
}

func (t *totals) run() {
	for b := range t.in {
		t.sum[b.Operator] += b.Stake - b.Payout
	}
}

func tableServer(url string, operator string) {
	games := []string{"baccarat", "color", "dice", "roulette"}
	for range time.Tick(40 * time.Millisecond) {
		batch := make([]SettledBet, 0, 16)
		for range cap(batch) {
			batch = append(batch, SettledBet{
				Operator: operator, Game: games[rand.IntN(len(games))], Round: ulid.Make(),
				Stake: 100, Payout: rand.Int64N(190), Took: time.Duration(rand.IntN(400)) * time.Millisecond,
			})
		}
		body, _ := json.Marshal(batch)
		resp, err := http.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

func main() {
	reg := prometheus.NewRegistry()
	http.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	t := &totals{in: make(chan SettledBet, 1024), sum: map[string]int64{}}
	go t.run()

	in := &ingest{rec: newRecorder(reg), sink: func(b *SettledBet) { t.in <- *b }}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, in)) }()
	for _, op := range []string{"acme", "lotus", "nine", "orchid", "pearl"} {
		go tableServer("http://"+ln.Addr().String()+"/settled", op)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
