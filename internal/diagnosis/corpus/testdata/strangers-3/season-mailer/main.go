// Command season-mailer renders the season's letters and answers heartbeats besides.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"text/template"
	"time"
)

type player struct {
	Name  string
	Rank  int
	Items []string
}

type mailer struct {
	tmpl    *template.Template
	key     []byte
	players []player
	sent    atomic.Int64
	bytes   atomic.Int64
}

func (m *mailer) letter(p *player) error {
	var body bytes.Buffer
	if err := m.tmpl.Execute(&body, p); err != nil {
		return err
	}
	mac := hmac.New(sha256.New, m.key)
	mac.Write(body.Bytes())
	out, err := json.Marshal(map[string]string{"to": p.Name, "body": body.String(), "sum": hex.EncodeToString(mac.Sum(nil))})
	if err != nil {
		return err
	}
	m.sent.Add(1)
	m.bytes.Add(int64(len(out)))
	return nil
}

// round sends everybody a letter.
func (m *mailer) round() {
	var wg sync.WaitGroup
	for i := range m.players {
		wg.Add(1)
		go func() { // want: unbounded-concurrency
			defer wg.Done()
			if err := m.letter(&m.players[i]); err != nil {
				log.Print(err)
			}
		}()
	}
	wg.Wait()
}

const text = `Dear {{.Name}},
your rank this season is {{.Rank}}. You have won:
{{range $i, $it := .Items}}{{if $i}}, {{end}}{{printf "%-12s" $it}}{{end}}
`

func main() {
	runtime.SetBlockProfileRate(100_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	m := &mailer{tmpl: template.Must(template.New("").Parse(text)), key: []byte("season-9")}
	for i := range 14_000 {
		p := player{Name: fmt.Sprintf("player-%05d", i), Rank: i}
		for j := range 50 {
			p.Items = append(p.Items, fmt.Sprintf("item-%d", j*i%977))
		}
		m.players = append(m.players, p)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /heartbeat", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, m.sent.Load()) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for range 20 {
		go func() {
			for {
				res, err := hc.Get("http://" + l.Addr().String() + "/heartbeat")
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(25 * time.Millisecond)
			}
		}()
	}
	for {
		began := time.Now()
		m.round()
		time.Sleep(time.Since(began) / 2)
	}
}
