// Reflect-mapper turns rows into answers.
package main

import (
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type standing struct {
	Player string
	Points int
	Guild  string
	Level  int
	Wins   int
	Losses int
}

func toMap(v any) map[string]any {
	r := reflect.ValueOf(v)
	out := map[string]any{}
	for i := range r.NumField() { // want: cpu-hot-path
		out[r.Type().Field(i).Name] = r.Field(i).Interface() // want: cpu-hot-path
	}
	return out
}

func fromMap[T any](m map[string]any) (v T) {
	r := reflect.ValueOf(&v).Elem()
	for name, x := range m { // want: cpu-hot-path
		r.FieldByName(name).Set(reflect.ValueOf(x)) // want: cpu-hot-path
	}
	return v
}

type mapper[T any] struct{ rows []T }

func (m *mapper[T]) each(f func(T)) {
	for _, r := range m.rows {
		f(fromMap[T](toMap(r))) // want: cpu-hot-path
	}
}

func main() {
	s := stage.Start()
	m := &mapper[standing]{}
	for i := range 800 {
		m.rows = append(m.rows, standing{strconv.Itoa(i), i, "red", i % 9, i % 7, i % 5})
	}
	s.Crowd(stage.Traffic{URL: s.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := 0
		m.each(func(s standing) { n += s.Points })
		_, _ = w.Write([]byte(strconv.Itoa(n)))
	})) + "/", Users: 12, Pause: 2 * time.Millisecond})
	s.Wait()
}
