// Notify-unbounded tells a push service about every bet.
package main

import (
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type notifier struct {
	push   string
	client *http.Client
}

func (n *notifier) notify(player string) {
	resp, err := n.client.Get(n.push + "/push/" + player) // want: unbounded-concurrency
	if err != nil {
		return
	}
	_ = resp.Body.Close()
}

func (n *notifier) bet(w http.ResponseWriter, r *http.Request) {
	go n.notify(r.FormValue("player")) // want: unbounded-concurrency
	w.WriteHeader(http.StatusAccepted)
}

func main() {
	stage.Child("push", standin.Web(standin.Always(8*time.Second)))
	s := stage.Start()
	n := &notifier{"http://" + s.Spawn("push"), &http.Client{Timeout: time.Minute}}
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", n.bet)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet?player=ada", PerSecond: 150})
	s.Wait()
}
