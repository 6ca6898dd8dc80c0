// Ok-allocating answers with documents it makes for each request.
package main

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type line struct {
	Item  string `json:"item"`
	Price int    `json:"price"`
}

func invoice(n int) []line {
	lines := make([]line, 0, n)
	for i := range n {
		lines = append(lines, line{"item " + strconv.Itoa(i), i * 3})
	}
	return lines
}

func main() {
	s := stage.Start()
	keep := make([][]line, 0, 400)
	for range 400 {
		keep = append(keep, invoice(500))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/invoice", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(invoice(200 + len(keep)%7))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/invoice", PerSecond: 400})
	s.Wait()
}
