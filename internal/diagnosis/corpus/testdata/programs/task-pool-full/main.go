// Task-pool-full sends mails beside requests.
package main

import (
	"net/http"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type pool struct{ tasks chan func() }

func newPool(n int) *pool {
	p := &pool{make(chan func())}
	for range n {
		go func() {
			for t := range p.tasks {
				t()
			}
		}()
	}
	return p
}

func (p *pool) submit(t func()) { p.tasks <- t } // want: channel-backpressure

type mailer struct {
	pool *pool
	base string
}

func (m *mailer) send(to string) {
	resp, err := http.Post(m.base+"/mail", "text/plain", strings.NewReader(to)) // want: channel-backpressure
	if err == nil {
		resp.Body.Close()
	}
}

func (m *mailer) later(to string) { m.pool.submit(func() { m.send(to) }) } // want: channel-backpressure

func main() {
	stage.Child("mail", standin.Web(standin.Always(250*time.Millisecond)))
	s := stage.Start()
	m := &mailer{newPool(4), "http://" + s.Spawn("mail")}
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(http.ResponseWriter, *http.Request) { m.later("ada") }) // want: channel-backpressure
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet", Users: 30, Pause: 20 * time.Millisecond})
	s.Wait()
}
