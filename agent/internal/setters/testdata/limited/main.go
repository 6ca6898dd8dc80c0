// Limited sets the collector's limits from several places.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/opscenter/opscenter/agent/internal/setters"
)

type world struct{ mib, percent int }

//go:noinline
func (w *world) budget() {
	debug.SetGCPercent(w.percent)
	debug.SetMemoryLimit(int64(w.mib) << 20)
}

//go:noinline
func tune[T ~int](percent T) {
	debug.SetGCPercent(int(percent))
}

func main() {
	w := &world{mib: 64 + len(os.Args), percent: 100 * len(os.Args)}
	w.budget()
	later := func() {
		debug.SetGCPercent(50)
	}
	if len(os.Args) > 5 {
		later()
		tune(30)
	}
	f, err := setters.Find()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
