// Ok-log-bursts logs what a round brought.
package main

import (
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func main() {
	s := stage.Start()
	f, err := os.CreateTemp("", "rounds-")
	if err != nil {
		panic(err)
	}
	defer os.Remove(f.Name())
	log := slog.New(slog.NewJSONHandler(f, nil))
	go func() {
		for range time.Tick(500 * time.Millisecond) {
			var all sync.WaitGroup
			for seat := range 20 {
				all.Go(func() {
					for n := range 10 {
						log.Info("hand", "seat", seat, "card", n, "chips", n*seat)
					}
				})
			}
			all.Wait()
		}
	}()
	s.Wait()
}
