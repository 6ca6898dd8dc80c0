package trace_test

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"os"
	"path/filepath"
	"sync"
)

var update = flag.Bool("update", false, "record the traces in testdata/recorded anew: on a quiet machine with four processors")

// recordedOnce is a trace that record made when the tests last ran with -update.
// How long its goroutines waited for each other and how often is the same on every
// machine, however busy that is with other tests.
func recordedOnce(name string, record func() []byte) func() []byte {
	return sync.OnceValue(func() []byte {
		must := func(err error) {
			if err != nil {
				panic(err)
			}
		}
		file := filepath.Join("testdata", "recorded", name+".trace.gz")
		if *update {
			var b bytes.Buffer
			w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
			must(err)
			_, err = w.Write(record())
			must(err)
			must(w.Close())
			must(os.MkdirAll(filepath.Dir(file), 0o750))
			must(os.WriteFile(file, b.Bytes(), 0o600))
		}
		b, err := os.ReadFile(file)
		must(err)
		r, err := gzip.NewReader(bytes.NewReader(b))
		must(err)
		out, err := io.ReadAll(r)
		must(err)
		return out
	})
}
