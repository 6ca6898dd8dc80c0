// Boxed-events applies game events to players.
package main

import (
	"strconv"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type player struct {
	name *string
	next *player
}

type event struct {
	kind string
	args []any
	tags map[string]*string
}

func decode(n int) *event {
	who := "player" + strconv.Itoa(n%1000)                                                              // want: cpu-gc-pressure
	return &event{"move", []any{n, who, float64(n) / 3}, map[string]*string{"who": &who, "kind": &who}} // want: cpu-gc-pressure
}

type world struct {
	head *player
	sum  int
}

func (w *world) apply(e *event) {
	w.sum += len(e.args) + len(e.tags) + len(e.kind)
}

func main() {
	s := stage.Start()
	w := &world{}
	for i := range 800_000 {
		name := strconv.Itoa(i)
		w.head = &player{&name, w.head}
	}
	go func() {
		for n := 0; ; n++ {
			w.apply(decode(n)) // want: cpu-gc-pressure
		}
	}()
	s.Wait()
}
