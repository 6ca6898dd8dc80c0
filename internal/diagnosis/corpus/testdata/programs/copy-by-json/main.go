// Copy-by-json gives every observer a copy of the table.
package main

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func clone[T any](v T) (out T) {
	b, err := json.Marshal(v) // want: cpu-hot-path
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(b, &out); err != nil { // want: cpu-hot-path
		panic(err)
	}
	return out
}

type table struct{ state map[string]any }

func (t *table) tick() int {
	n := 0
	for range 10 {
		n += len(clone(t.state)) // want: cpu-hot-path
	}
	return n
}

func main() {
	s := stage.Start()
	for range 6 {
		t := &table{map[string]any{}}
		for i := range 200 {
			t.state["seat "+strconv.Itoa(i)] = map[string]any{"chips": i, "name": "ada", "cards": []any{1, 2, 3}}
		}
		go func() {
			for range time.Tick(33 * time.Millisecond) {
				t.tick()
			}
		}()
	}
	s.Wait()
}
