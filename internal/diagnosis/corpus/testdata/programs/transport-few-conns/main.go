// Transport-few-conns shows the shop.
package main

import (
	"io"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type shop struct {
	http *http.Client
	base string
}

func (s *shop) items() ([]byte, error) {
	resp, err := s.http.Get(s.base + "/items") // want: pool-exhausted
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func main() {
	stage.Child("store", standin.Web(standin.Always(60*time.Millisecond)))
	st := stage.Start()
	s := &shop{&http.Client{Transport: &http.Transport{MaxConnsPerHost: 3, MaxIdleConnsPerHost: 3}}, "http://" + st.Spawn("store")}
	mux := http.NewServeMux()
	mux.HandleFunc("/shop", func(w http.ResponseWriter, _ *http.Request) {
		b, err := s.items()
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(b)
	})
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/shop", Users: 50, Pause: 5 * time.Millisecond})
	st.Wait()
}
