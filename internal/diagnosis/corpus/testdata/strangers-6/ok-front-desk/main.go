// Command ok-front-desk serves the web lobby: the page, the profile, the daily
// export and the coupon check.
package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Game struct {
	XMLName xml.Name `xml:"game" json:"-"`
	ID      int      `xml:"id,attr" json:"id"`
	Name    string   `xml:"name" json:"name"`
	Players int      `xml:"players" json:"players"`
	Tags    []string `xml:"tag" json:"tags"`
}

type Catalog struct{ games []Game }

func newCatalog(n int) *Catalog {
	c := &Catalog{}
	for i := range n {
		c.games = append(c.games, Game{ID: i, Name: fmt.Sprintf("Color %03d", i*37%n), Players: i * 13 % 900, Tags: []string{"color", "t" + strconv.Itoa(i%7)}})
	}
	return c
}

func (c *Catalog) Top(n int) []Game {
	g := slices.Clone(c.games)
	slices.SortFunc(g, func(a, b Game) int { return cmp.Or(cmp.Compare(b.Players, a.Players), cmp.Compare(a.Name, b.Name)) })
	return g[:min(n, len(g))]
}

var page = template.Must(template.New("lobby").Parse(`<h1>{{.Title}}</h1><ul>{{range .Games}}<li id="g{{.ID}}">{{.Name}}: {{.Players}}{{range .Tags}} <i>{{.}}</i>{{end}}</li>{{end}}</ul>`))

var coupon = regexp.MustCompile(`^([A-Z]{2,4})-(\d{4})-([a-z0-9]+)$`)

var zips = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

var bufs = sync.Pool{New: func() any { return new(bytes.Buffer) }}

type Desk struct {
	catalog *Catalog
	key     []byte
	prime   *big.Int
}

func (d *Desk) lobby(w http.ResponseWriter, r *http.Request) error {
	return page.Execute(w, map[string]any{"Title": "Lobby", "Games": d.catalog.Top(50)})
}

func (d *Desk) top(w http.ResponseWriter, r *http.Request) error {
	return json.NewEncoder(w).Encode(d.catalog.Top(120))
}

func (d *Desk) export(w http.ResponseWriter, r *http.Request) error {
	b := bufs.Get().(*bytes.Buffer)
	defer bufs.Put(b)
	b.Reset()
	if err := xml.NewEncoder(b).Encode(d.catalog.games[:90]); err != nil {
		return err
	}
	z := zips.Get().(*gzip.Writer)
	defer zips.Put(z)
	z.Reset(w)
	if _, err := b.WriteTo(z); err != nil {
		return err
	}
	return z.Close()
}

func (d *Desk) check(w http.ResponseWriter, r *http.Request) error {
	m := coupon.FindStringSubmatch(r.URL.Query().Get("code"))
	if m == nil {
		return fmt.Errorf("no coupon")
	}
	mac := hmac.New(sha256.New, d.key)
	for range 250 {
		_, _ = io.WriteString(mac, strings.Repeat(m[3], 20))
	}
	_, err := fmt.Fprintf(w, "%s %08x", hex.EncodeToString(mac.Sum(nil)), crc32.ChecksumIEEE([]byte(m[0])))
	return err
}

func (d *Desk) fair(w http.ResponseWriter, r *http.Request) error {
	n := new(big.Int).Exp(big.NewInt(rand.Int64N(1<<40)+3), big.NewInt(65537), d.prime)
	_, err := io.WriteString(w, n.Text(36))
	return err
}

func handle(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := f(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	d := &Desk{catalog: newCatalog(150), key: []byte("coupon-key")}
	d.prime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2203), big.NewInt(1))
	mux := http.NewServeMux()
	mux.HandleFunc("/lobby", handle(d.lobby))
	mux.HandleFunc("/top", handle(d.top))
	mux.HandleFunc("/export", handle(d.export))
	mux.HandleFunc("/coupon", handle(d.check))
	mux.HandleFunc("/fair", handle(d.fair))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(ln) }()

	paths := []string{"/lobby", "/top", "/export", "/coupon?code=TW-2026-abc" + strconv.Itoa(7), "/fair", "/fair", "/coupon?code=JP-1234-zz9"}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 5 * time.Second}
	for i := range 12 {
		go func() {
			t := time.NewTicker(1700 * time.Microsecond)
			defer t.Stop()
			for n := i; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
				if resp, err := client.Get("http://" + ln.Addr().String() + paths[n%len(paths)]); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}
