// Peer merges profiles with Pyroscope's merge code. It is built within a checkout
// of Pyroscope, whose dependencies stay out of this module: see -pyroscope of
// bench/profile.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	profilev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/grafana/pyroscope/v2/pkg/pprof"
	"github.com/klauspost/compress/gzip"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run merges the files of a directory once and prints what it took.
func run(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	var files [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files = append(files, b)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used, began := cpu(), time.Now()
	total, err := merge(files)
	if err != nil {
		return err
	}
	seconds, spent := time.Since(began).Seconds(), cpu()-used
	runtime.ReadMemStats(&after)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"Seconds": seconds, "CPU": spent.Seconds(), "Allocated": after.TotalAlloc - before.TotalAlloc, "Total": total,
	})
}

func merge(files [][]byte) (total int64, err error) {
	var all pprof.ProfileMerge
	var zr gzip.Reader
	var raw bytes.Buffer
	for _, f := range files {
		if err := zr.Reset(bytes.NewReader(f)); err != nil {
			return 0, err
		}
		raw.Reset()
		if _, err := io.Copy(&raw, &zr); err != nil {
			return 0, err
		}
		var p profilev1.Profile
		if err := p.UnmarshalVT(raw.Bytes()); err != nil {
			return 0, err
		}
		if err := all.Merge(&p, false); err != nil {
			return 0, err
		}
	}
	for _, s := range all.Profile().Sample {
		total += s.Value[len(s.Value)-1]
	}
	return total, nil
}

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
