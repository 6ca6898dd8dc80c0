// Package web holds the built page and serves it: compressed once, cached for
// ever where the name has a hash, under any base path, and with a policy that
// lets nothing run that is not ours. It knows nothing of what the page shows.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed all:dist
var dist embed.FS

// Tokens is the style sheet with the colours and measures of the page, for pages
// that stand before it.
//
//go:embed src/styles/tokens.css
var Tokens string

// Config says how the page is served. Its zero value serves it at the root.
type Config struct {
	// BasePath is where browsers find the centre: "/ops" behind a proxy that
	// hands that path on, "" at the root. It is written into the page, whose
	// every address is relative to it.
	BasePath string
}

// ContentSecurityPolicy goes with every answer. Scripts, styles and connections
// come from the centre alone, no markup is made from strings, and 'self' for
// <base> is what lets one build work under every base path. "vue" is Vue's own
// policy; "ops-worker" lets the page start its one worker.
const ContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types vue ops-worker"

// What the build leaves in index.html for Handler to replace.
const (
	baseMark = `<base href="/">`
	metaMark = `<meta name="ops-base" content="/">`
)

// Handler serves the page and its assets. A request's path may carry the base
// path or have it stripped already. A path that names no file and has no
// extension is a route of the page and gets index.html; one with an extension
// is an asset of another version and is not found, upon which an old tab
// reloads itself.
func Handler(c Config) http.Handler {
	base := "/"
	if p := strings.Trim(c.BasePath, "/"); p != "" {
		base = "/" + p + "/"
	}
	return &handler{base: base, files: sync.OnceValues(func() (map[string]*file, error) { return load(dist, base) })}
}

type handler struct {
	base  string
	files func() (map[string]*file, error)
}

// file is one embedded file, ready to send.
type file struct {
	raw, gz   []byte // gz is nil where it would not be smaller
	typ, etag string
	immutable bool
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed: the page answers GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	files, err := h.files()
	if err != nil {
		http.Error(w, "the page is damaged in this build: "+err.Error(), http.StatusInternalServerError)
		return
	}
	p := r.URL.Path
	if rest, ok := strings.CutPrefix(p, h.base); ok {
		p = rest
	}
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	f, ok := files[p]
	if !ok {
		if path.Ext(p) != "" {
			http.NotFound(w, r)
			return
		}
		f = files["index.html"]
	}
	hd := w.Header()
	hd.Set("Content-Type", f.typ)
	hd.Set("Content-Security-Policy", ContentSecurityPolicy)
	hd.Set("X-Content-Type-Options", "nosniff")
	hd.Set("Referrer-Policy", "same-origin")
	hd.Set("ETag", f.etag)
	hd.Set("Vary", "Accept-Encoding")
	if f.immutable {
		hd.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		hd.Set("Cache-Control", "no-cache")
	}
	if matches(r.Header.Get("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.raw
	if f.gz != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		hd.Set("Content-Encoding", "gzip")
		body = f.gz
	}
	hd.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // the browser left: nobody to tell
}

// load reads every file of the build, writes base into the page, and compresses
// all of it. Names are relative to dist.
func load(fsys fs.FS, base string) (map[string]*file, error) {
	files := map[string]*file{}
	err := fs.WalkDir(fsys, "dist", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		raw, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, "dist/")
		if name == "index.html" {
			if raw, err = rebase(raw, base); err != nil {
				return err
			}
		}
		sum := sha256.Sum256(raw)
		files[name] = &file{
			raw: raw, gz: compress(raw), typ: contentType(name),
			etag:      `"` + hex.EncodeToString(sum[:12]) + `"`,
			immutable: strings.HasPrefix(name, "assets/"),
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if files["index.html"] == nil {
		return nil, fmt.Errorf("index.html is missing; build it with `npm run build` in web/")
	}
	return files, nil
}

// rebase writes base into the page.
func rebase(index []byte, base string) ([]byte, error) {
	e := html.EscapeString(base)
	s := string(index)
	for mark, with := range map[string]string{
		baseMark: `<base href="` + e + `">`,
		metaMark: `<meta name="ops-base" content="` + e + `">`,
	} {
		if strings.Count(s, mark) != 1 {
			return nil, fmt.Errorf("index.html must hold %s once; rebuild it with `npm run build` in web/", mark)
		}
		s = strings.Replace(s, mark, with, 1)
	}
	return []byte(s), nil
}

func compress(raw []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is a constant in range
	_, _ = z.Write(raw)                                   // a bytes.Buffer takes everything
	_ = z.Close()
	if b.Len() >= len(raw) {
		return nil
	}
	return b.Bytes()
}

// contentType is ours and not the system's table, which differs between hosts.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".json":
		return "application/json"
	case ".woff2":
		return "font/woff2"
	default:
		return "application/octet-stream"
	}
}

// matches reports whether an If-None-Match header names the tag. Proxies may
// have made it weak.
func matches(header, etag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		t = strings.TrimPrefix(strings.TrimSpace(t), "W/")
		if t == etag || t == "*" {
			return true
		}
	}
	return false
}

// acceptsGzip reports whether an Accept-Encoding header allows gzip.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		if n := strings.TrimSpace(name); n != "gzip" && n != "*" {
			continue
		}
		q, ok := strings.CutPrefix(strings.TrimSpace(params), "q=")
		if !ok {
			return true
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
		return err == nil && v > 0
	}
	return false
}
