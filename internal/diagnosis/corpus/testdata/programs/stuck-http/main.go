// Stuck-http asks a partner for odds.
package main

import (
	"io"
	"net/http"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

func odds(partner string) ([]byte, error) {
	resp, err := http.Get(partner + "/odds") // want: downstream-wait
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func main() {
	stage.Child("partner", standin.Web(standin.Always(standin.Never)))
	s := stage.Start()
	partner := "http://" + s.Spawn("partner")
	go func() {
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() { _, _ = odds(partner) })
		}
		all.Wait()
	}()
	s.Wait()
}
