package toolui

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// The stock viewer thinks that it is at the root of its server. All its pages are
// at one depth, so that "./" in front makes its links work anywhere. What the
// timeline loads from its sandbox goes by the session's secret address.
var (
	sandboxed  = regexp.MustCompile(`((?:href|src)\s*=\s*["']|url = ['"])/(static/|jsontrace\?)`)
	attributes = regexp.MustCompile(`((?:href|src|action)\s*=\s*["']?)/([^/"'\s>])`)
	mmuItem    = regexp.MustCompile(`(?s)<li><a href="/mmu">.*?</li>`)
)

// storageShim gives the timeline the storage that a sandbox denies it, for as long
// as the page lives.
const storageShim = `<script>for(const name of ['localStorage','sessionStorage']){try{window[name]}catch(e){const m=new Map();Object.defineProperty(window,name,{value:{getItem:k=>m.has(k)?m.get(k):null,setItem:(k,v)=>{m.set(k,String(v))},removeItem:k=>{m.delete(k)},clear:()=>m.clear(),key:i=>[...m.keys()][i]??null,get length(){return m.size}}})}}</script>`

// rewriteTracePage makes a page of the stock viewer work below any path.
func rewriteTracePage(b []byte, token string) []byte {
	b = mmuItem.ReplaceAll(b, nil)
	b = sandboxed.ReplaceAll(b, []byte("${1}./_"+token+"/${2}"))
	return attributes.ReplaceAll(b, []byte("${1}./${2}"))
}

// maxTracePage bounds the pages that are rewritten; a goroutine table of a
// hundred thousand rows is twenty megabytes.
const maxTracePage = 128 << 20

// ask sends a request to the viewer.
func (t *traceSessions) ask(ctx context.Context, s *traceSession, path, query string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.target+"/"+path+"?"+query, nil)
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "this address cannot be understood: go back to the viewer's first page")
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, t.ended(ctx, s, err)
	}
	return resp, nil
}

// ended judges why a request to the viewer failed.
func (t *traceSessions) ended(ctx context.Context, s *traceSession, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err() // the browser went away
	}
	if errors.Is(err, context.DeadlineExceeded) {
		s.process.kill(ops.Errorf(ops.Exhausted, "the trace viewer took longer than %v over this page and was stopped: choose a smaller window, or download the trace and run go tool trace", t.ui.cfg.Timeout))
	}
	select {
	case <-s.process.done:
		return s.process.failure()
	case <-time.After(2 * time.Second):
		return fmt.Errorf("ask the trace viewer: %w", err)
	}
}

// page serves an HTML page of the viewer.
func (t *traceSessions) page(w http.ResponseWriter, r *http.Request, s *traceSession, name string) error {
	ctx, cancel := context.WithTimeout(r.Context(), t.ui.cfg.Timeout)
	defer cancel()
	resp, err := t.ask(ctx, s, name, r.URL.RawQuery)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", traceCSP)
	if r.FormValue("raw") != "" {
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", `attachment; filename="`+name+`.pprof"`)
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxTracePage+1))
	switch {
	case err != nil:
		return t.ended(ctx, s, err)
	case len(b) > maxTracePage:
		return ops.Errorf(ops.Exhausted, "this page is larger than %d MiB: choose a smaller window", maxTracePage>>20)
	case resp.StatusCode != http.StatusOK:
		return ops.Errorf(ops.Invalid, "the trace viewer cannot show this: %s. Go back to its first page", strings.TrimRight(strings.TrimSpace(string(b[:min(len(b), 500)])), "."))
	}
	b = rewriteTracePage(b, s.token)
	if name == "trace" {
		b = []byte(strings.Replace(string(b), "<head>", "<head>"+storageShim, 1))
	}
	// Every page of the stock viewer is HTML, whether or not it says so.
	h.Set("Content-Type", "text/html; charset=utf-8")
	return compressed(w, r, http.StatusOK, strings.NewReader(string(b)))
}

// data serves what the timeline loads: its program, and the events as JSON.
func (t *traceSessions) data(w http.ResponseWriter, r *http.Request, s *traceSession, path string) error {
	static := path == "static/webcomponents.min.js" || path == "static/trace_viewer_full.html"
	if !static && path != "jsontrace" {
		return ops.Errorf(ops.NotFound, "the trace viewer has no such data: go back to its first page")
	}
	select {
	case <-s.ready:
	case <-r.Context().Done():
		return r.Context().Err()
	}
	if s.err != nil {
		return s.err
	}
	ctx, cancel := context.WithTimeout(r.Context(), t.ui.cfg.Timeout)
	defer cancel()
	resp, err := t.ask(ctx, s, path, r.URL.RawQuery)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	switch path {
	case "jsontrace":
		h.Set("Content-Type", "application/json")
	case "static/webcomponents.min.js":
		h.Set("Content-Type", "text/javascript; charset=utf-8")
	default:
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", traceCSP)
	}
	if static {
		h.Set("Cache-Control", "private, max-age=3600")
	}
	return compressed(w, r, resp.StatusCode, resp.Body)
}

// compressed sends a body, gzipped if the browser takes that: the events of a
// trace become a fifteenth.
func compressed(w http.ResponseWriter, r *http.Request, code int, body io.Reader) error {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.WriteHeader(code)
		if _, err := io.Copy(w, body); err != nil {
			panic(http.ErrAbortHandler) // a part must not pass for the whole
		}
		return nil
	}
	h.Set("Content-Encoding", "gzip")
	w.WriteHeader(code)
	zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := io.Copy(zw, body); err != nil {
		panic(http.ErrAbortHandler)
	}
	return zw.Close()
}
