// Command mail-render renders in-game mail for the notification service.
package main

import (
	"context"
	"html/template"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

const layout = `{{define "mail"}}<html><head><title>{{.Title}}</title></head><body>
<h1>{{.Title}}</h1><p>Hello {{.Nick}},</p>
{{if .Items}}<table>{{range $i, $it := .Items}}<tr class="{{if eq $i 0}}first{{else}}more{{end}}"><td>{{$it.Name}}</td><td>{{$it.Count}}</td><td><a href="/item/{{$it.ID}}?n={{$.Nick}}">open</a></td></tr>{{end}}</table>{{else}}<p>{{.Text}}</p>{{end}}
<script>var nick = {{.Nick}};</script></body></html>{{end}}`

type Item struct {
	ID, Count int
	Name      string
}

type Mail struct {
	Title, Nick, Text string
	Items             []Item
}

// View turns a model into a page.
type View interface {
	Render(w io.Writer, model any) error
}

type page struct {
	name, text string
	funcs      template.FuncMap
}

func (p page) load() (*template.Template, error) {
	return template.New(p.name).Funcs(p.funcs).Parse(p.text) // want: cpu-hot-path
}

func (p page) Render(w io.Writer, model any) error {
	t, err := p.load() // want: cpu-hot-path
	if err != nil {
		return err
	}
	return t.ExecuteTemplate(w, p.name, model) // want: cpu-hot-path
}

type Handler[T any] struct {
	view  View
	model func(*http.Request) (T, error)
}

func (h Handler[T]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m, err := h.model(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := h.view.Render(w, m); err != nil {
		log.Printf("mail: %v", err)
	}
}

func mailOf(r *http.Request) (Mail, error) {
	id, err := strconv.Atoi(r.URL.Query().Get("id"))
	if err != nil {
		return Mail{}, err
	}
	m := Mail{Title: "Season reward", Nick: "player-" + strconv.Itoa(id)}
	for i := range 1 + id%3 {
		m.Items = append(m.Items, Item{ID: i, Count: id % 7, Name: "chest"})
	}
	return m, nil
}

func main() {
	ctx, _, done := boot()
	defer done()
	v := page{name: "mail", text: layout, funcs: template.FuncMap{"upper": strings.ToUpper}}
	url := serve(Handler[Mail]{view: v, model: mailOf})
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 24, 2*time.Millisecond, func(i int) error { return call(c, url+"/?id="+strconv.Itoa(i)) })
	<-ctx.Done()
}

func boot() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
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
	return ctx, a, func() { a.Close(); stop() }
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// players runs n players that each call f and then wait.
func players(ctx context.Context, n int, pause time.Duration, f func(i int) error) {
	for i := range n {
		go func() {
			time.Sleep(time.Duration(rand.Int64N(int64(pause) + 1)))
			for ctx.Err() == nil {
				_ = f(i)
				time.Sleep(pause)
			}
		}()
	}
}

func call(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
