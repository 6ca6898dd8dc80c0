package main

import (
	"bytes"
	"errors"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type seatID [2]byte

type seat struct {
	id    seatID
	timer *time.Timer
	since time.Time
	beats int
}

const stripes = 16

type stripe struct {
	sync.Mutex
	seats map[seatID]*seat
}

type Watch struct {
	idle    time.Duration
	stripes [stripes]stripe
	live    prometheus.Gauge
	beats   prometheus.Counter
	ends    *prometheus.CounterVec
}

func NewWatch(reg prometheus.Registerer, idle time.Duration) *Watch {
	w := &Watch{
		idle:  idle,
		live:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "seats_live"}),
		beats: prometheus.NewCounter(prometheus.CounterOpts{Name: "seat_beats_total"}),
		ends:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "seat_ends_total"}, []string{"why"}),
	}
	reg.MustRegister(w.live, w.beats, w.ends)
	for i := range w.stripes {
		w.stripes[i].seats = map[seatID]*seat{}
	}
	return w
}

func (w *Watch) of(id seatID) *stripe { return &w.stripes[id[1]%stripes] }

func (w *Watch) Beat(id seatID) {
	s := w.of(id)
	s.Lock()
	defer s.Unlock()
	w.beats.Inc()
	if st, ok := s.seats[id]; ok {
		st.beats++
		st.timer.Reset(w.idle)
		return
	}
	st := &seat{id: id, since: time.Now()}
	st.timer = time.AfterFunc(w.idle, func() { w.remove(st, "idle") })
	s.seats[id] = st
	w.live.Inc()
}

func (w *Watch) Leave(id seatID) {
	s := w.of(id)
	s.Lock()
	st := s.seats[id]
	s.Unlock()
	if st != nil {
		w.remove(st, "left")
	}
}

func (w *Watch) remove(st *seat, why string) {
	s := w.of(st.id)
	s.Lock()
	defer s.Unlock()
	if s.seats[st.id] != st {
		return
	}
	st.timer.Stop()
	delete(s.seats, st.id)
	w.live.Dec()
	w.ends.WithLabelValues(why).Inc()
}

func (w *Watch) Serve(pc net.PacketConn) error {
	buf := make([]byte, 64)
	for {
		n, _, err := pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		verb, rest, ok := bytes.Cut(buf[:n], []byte{' '})
		if !ok || len(rest) < 2 {
			continue
		}
		switch id := seatID(rest[:2]); string(verb) {
		case "BEAT":
			w.Beat(id)
		case "LEAVE":
			w.Leave(id)
		}
	}
}

func crowd(addr string, part int) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		log.Fatal(err)
	}
	msg := make([]byte, 0, 16)
	for range time.Tick(10 * time.Millisecond) {
		for range 8 {
			n := rand.IntN(5000)
			msg = append(msg[:0], "BEAT "...)
			if rand.IntN(60) == 0 {
				msg = append(msg[:0], "LEAVE "...)
			}
			msg = append(msg, byte(n>>8), byte(n))
			if _, err := c.Write(msg); err != nil {
				log.Printf("part %d: %v", part, err)
			}
		}
	}
}

func main() {
	reg := prometheus.NewRegistry()
	w := NewWatch(reg, 2*time.Second)
	http.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		go func() { log.Print(w.Serve(pc)) }()
	}
	for part := range 5 {
		go crowd(pc.LocalAddr().String(), part)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
