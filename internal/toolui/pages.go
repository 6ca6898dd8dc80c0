package toolui

import (
	"bytes"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// The policies of what is served. pprof's pages have all they need in them. Both
// tools' pages are made of names that a stranger may have chosen, so that they
// run in an origin of their own and cannot reach the centre's.
const (
	pageCSP  = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	pprofCSP = "sandbox allow-scripts allow-popups allow-modals; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	traceCSP = "sandbox allow-scripts allow-popups allow-forms allow-downloads; default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' data:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src data:; connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)

var pageTemplate = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
{{with .Refresh}}<meta http-equiv="refresh" content="{{.}}">{{end}}
<title>{{.Title}}</title>
<style>
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}
body{max-width:46rem;margin:12vh auto;padding:0 1.5rem}
h1{font-size:1.3rem}
table{border-collapse:collapse;width:100%;margin-top:1.5rem}
th,td{text-align:left;padding:.35rem .75rem .35rem 0;border-bottom:1px solid #8884;font-variant-numeric:tabular-nums}
.loss{border-left:3px solid #c80;padding-left:.75rem}
</style></head><body>
<h1>{{.Title}}</h1>
{{range .Text}}<p>{{.}}</p>{{end}}
{{with .Loss}}<p class="loss">{{.}}</p>{{end}}
{{with .Rows}}<table><tr><th>Window</th><th>Starts at</th><th>Lasts</th><th>Size</th></tr>
{{range .}}<tr><td><a href="{{.Href}}">Generations {{.From}} to {{.To}}</a></td><td>{{.Start}}</td><td>{{.Length}}</td><td>{{.Size}}</td></tr>
{{end}}</table>{{end}}
</body></html>
`))

type page struct {
	Title   string
	Text    []string
	Loss    string
	Refresh string // seconds; empty = never
	Rows    []windowRow
}

type windowRow struct {
	Href, Start, Length, Size string
	From, To                  uint64
}

func show(w http.ResponseWriter, r *http.Request, code int, p page) {
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		http.Error(w, p.Title, code)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pageCSP)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.Bytes())
	}
}

func showError(w http.ResponseWriter, r *http.Request, code int, title string, text ...string) {
	show(w, r, code, page{Title: title, Text: text})
}

// showWaiting is a page that reloads itself.
func showWaiting(w http.ResponseWriter, r *http.Request, title string, text ...string) {
	show(w, r, http.StatusAccepted, page{Title: title, Text: text, Refresh: "1"})
}

// fail shows an error as a page. What users may not read goes to the log.
func (u *UI) fail(w http.ResponseWriter, r *http.Request, err error) {
	type answer struct {
		code  int
		title string
	}
	a, ok := map[ops.ErrorKind]answer{
		ops.NotFound:    {http.StatusNotFound, "No such artifact"},
		ops.Invalid:     {http.StatusBadRequest, "This cannot be shown"},
		ops.Conflict:    {http.StatusConflict, "Not now"},
		ops.Unavailable: {http.StatusServiceUnavailable, "Not at the moment"},
		ops.Exhausted:   {http.StatusUnprocessableEntity, "Too large to show"},
		ops.Denied:      {http.StatusForbidden, "Not allowed"},
		ops.Corrupt:     {http.StatusUnprocessableEntity, "This cannot be read"},
		ops.Cancelled:   {http.StatusServiceUnavailable, "Given up"},
	}[ops.KindOf(err)]
	text := sentence(err.Error())
	if !ok {
		u.log.Error("the tool UI failed", "path", r.URL.Path, "err", err)
		a, text = answer{http.StatusInternalServerError, "The centre failed at this"}, "Its log says why. The capture's page still has the file to download."
	}
	showError(w, r, a.code, a.title, text)
}

// sentence makes an error's message one.
func sentence(s string) string {
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func rounded(d time.Duration) string { return d.Round(time.Millisecond).String() }

func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + " MB" }
