// Hash-bodies serves assets.
package main

import (
	"crypto/sha512"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type asset struct{ data []byte }

func tagged(a asset, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha512.Sum512(a.data) // want: cpu-hot-path
		w.Header().Set("ETag", hex.EncodeToString(sum[:8]))
		next.ServeHTTP(w, r)
	})
}

func main() {
	s := stage.Start()
	a := asset{make([]byte, 2<<20)}
	h := tagged(a, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(a.data[:100]) }))
	s.Crowd(stage.Traffic{URL: s.Serve(h) + "/", Users: 10, Pause: 2 * time.Millisecond})
	s.Wait()
}
