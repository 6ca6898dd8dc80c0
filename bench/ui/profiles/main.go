// Command profiles writes a synthetic CPU profile for the browser benchmarks:
// profiles of that size do not lie about.
//
//	go run ./bench/ui/profiles -samples 1760000 cpu.pprof   # about 50 MB gzipped
package main

import (
	"flag"
	"log"
	"os"

	"github.com/opscenter/opscenter/internal/profile/profiletest"
)

func main() {
	log.SetFlags(0)
	samples := flag.Int("samples", profiletest.Large.Samples, "different stacks")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("name the file to write")
	}
	shape := profiletest.Large
	shape.Samples = *samples
	f, err := os.Create(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	if err := profiletest.Synthetic(shape).Write(f); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
}
