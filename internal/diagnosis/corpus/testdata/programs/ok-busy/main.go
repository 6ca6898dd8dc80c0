// Ok-busy is a service that earns its CPU: many things, none of which stands out.
package main

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/json"
	"hash/crc32"
	"html/template"
	"math"
	"math/big"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type player struct {
	Name  string `json:"name"`
	Chips int    `json:"chips"`
}

type shop struct {
	page    *template.Template
	players []player
	writers sync.Pool // of *flate.Writer
}

func (s *shop) checksum(w http.ResponseWriter, _ *http.Request) {
	sum := [32]byte{}
	for range 190 {
		block := [2048]byte{}
		copy(block[:], sum[:])
		sum = sha256.Sum256(block[:])
	}
	_, _ = w.Write(sum[:])
}

func (s *shop) list(w http.ResponseWriter, _ *http.Request) {
	for range 4 {
		_ = json.NewEncoder(w).Encode(s.players)
	}
}

func (s *shop) top(w http.ResponseWriter, _ *http.Request) {
	rows := slices.Clone(s.players)
	for range 20 {
		slices.SortFunc(rows, func(a, b player) int { return b.Chips%97 - a.Chips%89 })
	}
	_, _ = w.Write([]byte(rows[0].Name))
}

func (s *shop) show(w http.ResponseWriter, _ *http.Request) {
	_ = s.page.Execute(w, s.players[:90])
}

func (s *shop) search(w http.ResponseWriter, _ *http.Request) {
	n := 0
	for i := range 40 {
		for _, p := range s.players {
			if strings.Contains(p.Name, strconv.Itoa(i)) {
				n++
			}
		}
	}
	_, _ = w.Write([]byte(strconv.Itoa(n)))
}

func (s *shop) odds(w http.ResponseWriter, _ *http.Request) {
	total := 0.0
	for i := range 14_000 {
		total += math.Sin(float64(i)) * math.Log(float64(i+1))
	}
	_, _ = w.Write([]byte(strconv.FormatFloat(total, 'f', 3, 64)))
}

func (s *shop) draw(w http.ResponseWriter, _ *http.Request) {
	a := big.NewInt(1)
	for i := range int64(2200) {
		a.Mul(a, big.NewInt(i+1))
	}
	_, _ = w.Write(a.Bytes()[:8])
}

func (s *shop) export(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	z := s.writers.Get().(*flate.Writer)
	defer s.writers.Put(z)
	z.Reset(&b)
	_ = json.NewEncoder(z).Encode(s.players)
	_ = z.Close()
	crc := crc32.ChecksumIEEE(b.Bytes())
	_, _ = w.Write([]byte(strconv.Itoa(int(crc))))
}

func main() {
	st := stage.Start()
	s := &shop{page: template.Must(template.New("").Parse(`<ul>{{range .}}<li>{{.Name}}: {{.Chips}}</li>{{end}}</ul>`))}
	s.writers.New = func() any {
		z, _ := flate.NewWriter(nil, flate.BestSpeed)
		return z
	}
	for i := range 250 {
		s.players = append(s.players, player{"player " + strconv.Itoa(i*7919), i * 31 % 1009})
	}
	ops := []http.HandlerFunc{s.checksum, s.list, s.top, s.show, s.search, s.odds, s.draw, s.export}
	batch := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for began := time.Now(); time.Since(began) < 8*time.Millisecond; { // a client's share of a turn
			ops[rand.IntN(len(ops))](w, r)
		}
	})
	st.Crowd(stage.Traffic{URL: st.Serve(batch) + "/batch", Users: 2, Pause: 1500 * time.Microsecond})
	st.Wait()
}
