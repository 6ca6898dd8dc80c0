// Fetch-body-leak checks that avatars exist.
package main

import (
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

var errMissing = errors.New("no such avatar")

type avatars struct {
	base   string
	client *http.Client
}

func (a *avatars) exists(id int64) error {
	resp, err := a.client.Get(a.base + "/" + strconv.FormatInt(id, 10)) // want: response-body-leak
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errMissing
	}
	return nil
}

func main() {
	stage.Child("files", standin.Web(standin.Always(0)))
	s := stage.Start()
	a := &avatars{"http://" + s.Spawn("files"), &http.Client{Timeout: time.Hour}}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/check", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.exists(n.Add(1)); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/check", PerSecond: 60})
	s.Wait()
}
