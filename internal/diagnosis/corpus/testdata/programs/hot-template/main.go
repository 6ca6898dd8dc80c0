// Hot-template renders profiles.
package main

import (
	"html/template"
	"io"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

const layout = `{{define "row"}}<tr><td>{{.Name}}</td><td>{{.Score}}</td></tr>{{end}}
<html><head><title>{{.Title}}</title></head><body>{{if .Rows}}<table>{{range .Rows}}{{template "row" .}}{{end}}</table>{{else}}<p>none</p>{{end}}
<a href="/player?name={{.Title}}">{{.Title}}</a><script>var title = {{.Title}};</script></body></html>`

type row struct {
	Name  string
	Score int
}

type view struct {
	Title string
	Rows  []row
}

func (v view) render(w io.Writer) error {
	t, err := template.New("page").Parse(layout) // want: cpu-hot-path
	if err != nil {
		return err
	}
	return t.Execute(w, v) // want: cpu-hot-path
}

func main() {
	s := stage.Start()
	v := view{"ada", []row{{"poker", 3}, {"whist", 5}}}
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 4 {
			if err := v.render(w); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(h) + "/", Users: 16, Pause: time.Millisecond})
	s.Wait()
}
