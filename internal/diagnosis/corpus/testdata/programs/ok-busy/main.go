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
	"net/http"
	"slices"
	"strconv"
	"strings"
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
}

func (s *shop) checksum(w http.ResponseWriter, _ *http.Request) {
	sum := [32]byte{}
	for range 40 {
		sum = sha256.Sum256(append(sum[:], make([]byte, 2048)...))
	}
	_, _ = w.Write(sum[:])
}

func (s *shop) list(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(s.players)
}

func (s *shop) top(w http.ResponseWriter, _ *http.Request) {
	rows := slices.Clone(s.players)
	for range 4 {
		slices.SortFunc(rows, func(a, b player) int { return b.Chips%97 - a.Chips%89 })
	}
	_, _ = w.Write([]byte(rows[0].Name))
}

func (s *shop) show(w http.ResponseWriter, _ *http.Request) {
	_ = s.page.Execute(w, s.players[:12])
}

func (s *shop) search(w http.ResponseWriter, _ *http.Request) {
	n := 0
	for i := range 60 {
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
	for i := range 9000 {
		total += math.Sin(float64(i)) * math.Log(float64(i+1))
	}
	_, _ = w.Write([]byte(strconv.FormatFloat(total, 'f', 3, 64)))
}

func (s *shop) draw(w http.ResponseWriter, _ *http.Request) {
	a := big.NewInt(1)
	for i := range int64(220) {
		a.Mul(a, big.NewInt(i+1))
	}
	_, _ = w.Write(a.Bytes()[:8])
}

func (s *shop) export(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	z, _ := flate.NewWriter(&b, flate.BestSpeed)
	_ = json.NewEncoder(z).Encode(s.players[:40])
	_ = z.Close()
	crc := crc32.ChecksumIEEE(b.Bytes())
	_, _ = w.Write([]byte(strconv.Itoa(int(crc))))
}

func main() {
	st := stage.Start()
	s := &shop{page: template.Must(template.New("").Parse(`<ul>{{range .}}<li>{{.Name}}: {{.Chips}}</li>{{end}}</ul>`))}
	for i := range 250 {
		s.players = append(s.players, player{"player " + strconv.Itoa(i*7919), i * 31 % 1009})
	}
	mux := http.NewServeMux()
	for path, h := range map[string]http.HandlerFunc{
		"/checksum": s.checksum, "/list": s.list, "/top": s.top, "/show": s.show,
		"/search": s.search, "/odds": s.odds, "/draw": s.draw, "/export": s.export,
	} {
		mux.HandleFunc(path, h)
	}
	url := st.Serve(mux)
	for _, t := range []struct {
		path string
		rate float64
	}{{"/checksum", 620}, {"/list", 620}, {"/top", 620}, {"/show", 620}, {"/search", 620}, {"/odds", 620}, {"/draw", 620}, {"/export", 620}} {
		st.Crowd(stage.Traffic{URL: url + t.path, Users: 2, Pause: time.Duration(float64(2*time.Second) / t.rate)})
	}
	st.Wait()
}
