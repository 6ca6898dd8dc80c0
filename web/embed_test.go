package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// The stamp is over every input but the tests; vite.config.ts writes it.
func TestDistFresh(t *testing.T) {
	files := []string{"index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"}
	for _, root := range []string{"src", "public"} {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.HasSuffix(p, ".test.ts") {
				files = append(files, filepath.ToSlash(p))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(files)
	h := sha256.New()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		h.Write([]byte(f + "\x00"))
		h.Write(b)
		h.Write([]byte{0})
	}
	want, err := os.ReadFile("dist/.src.sha256")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != strings.TrimSpace(string(want)) {
		t.Fatal("web/dist was built from other sources: run `npm ci && npm run build` in web/ and commit dist")
	}
}

// The first page must not grow by accident. The shell and the fleet are what
// index.html names, and the worker.
func TestFirstLoadIsSmall(t *testing.T) {
	const limit = 130_000
	index, err := os.ReadFile("dist/index.html")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`assets/[\w.-]+`).FindAllString(string(index), -1)
	// Other workers come with the pages that need them.
	workers, err := filepath.Glob("dist/assets/watch-worker-*.js")
	if err != nil || len(workers) != 1 {
		t.Fatalf("workers = %v, %v; want one", workers, err)
	}
	names = append(names, strings.TrimPrefix(filepath.ToSlash(workers[0]), "dist/"))
	total := 0
	for _, n := range names {
		raw, err := os.ReadFile("dist/" + n)
		if err != nil {
			t.Fatal(err)
		}
		z := len(compress(raw))
		if z == 0 {
			z = len(raw)
		}
		t.Logf("%7d  %s", z, n)
		total += z
	}
	t.Logf("%7d  compressed bytes until the fleet is shown", total)
	if total > limit {
		t.Errorf("the first load is %d bytes compressed, more than %d: move what the fleet does not need into a chunk", total, limit)
	}
}

func get(t *testing.T, h http.Handler, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func anAsset(t *testing.T) string {
	t.Helper()
	found, err := fs.Glob(dist, "dist/assets/index-*.js")
	if err != nil || len(found) == 0 {
		t.Fatalf("no asset: %v", err)
	}
	return strings.TrimPrefix(found[0], "dist/")
}

func TestPathsAnswer(t *testing.T) {
	asset := anAsset(t)
	handlers := map[string]http.Handler{} // compressing everything takes a while
	for _, c := range []struct {
		base, path string
		status     int
		index      bool
	}{
		{"", "/", 200, true},
		{"", "/captures/01abc", 200, true},
		{"", "/index.html", 200, true},
		{"", "/" + asset, 200, false},
		{"", "/assets/index-gone.js", 404, false},
		{"", "/favicon.svg", 200, false},
		{"", "/.src.sha256", 404, false},
		{"", "/../embed.go", 404, false},
		{"/ops", "/ops/", 200, true},
		{"/ops", "/ops", 200, true},
		{"/ops", "/ops/captures/01abc", 200, true},
		{"/ops", "/captures/01abc", 200, true}, // stripped on the way
		{"/ops/", "/ops/" + asset, 200, false},
		{"ops", "/" + asset, 200, false},
		{"/ops", "/ops/assets/index-gone.js", 404, false},
	} {
		if handlers[c.base] == nil {
			handlers[c.base] = Handler(Config{BasePath: c.base})
		}
		r := get(t, handlers[c.base], "GET", c.path)
		if r.StatusCode != c.status {
			t.Errorf("base %q: GET %s = %d, want %d", c.base, c.path, r.StatusCode, c.status)
			continue
		}
		if is := strings.Contains(body(t, r), `<div id="app">`); is != c.index {
			t.Errorf("base %q: GET %s is the page: %v, want %v", c.base, c.path, is, c.index)
		}
	}
}

func TestPageCarriesItsBase(t *testing.T) {
	for base, want := range map[string]string{"": "/", "/": "/", "/ops": "/ops/", "ops/": "/ops/", "/a/b": "/a/b/", `/"><script>`: `/&#34;&gt;&lt;script&gt;/`} {
		page := body(t, get(t, Handler(Config{BasePath: base}), "GET", "/"))
		for _, w := range []string{`<base href="` + want + `">`, `<meta name="ops-base" content="` + want + `">`} {
			if !strings.Contains(page, w) {
				t.Errorf("base %q: the page lacks %s", base, w)
			}
		}
	}
}

func TestEveryAddressInThePageIsRelative(t *testing.T) {
	page := body(t, get(t, Handler(Config{BasePath: "/ops"}), "GET", "/"))
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if m[1] != "/ops/" && !strings.HasPrefix(m[1], "./") {
			t.Errorf("the page names %s, which breaks under a base path", m[1])
		}
	}
}

func TestCaching(t *testing.T) {
	h := Handler(Config{})
	asset := "/" + anAsset(t)
	r := get(t, h, "GET", asset)
	if got := r.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
		t.Errorf("asset: Cache-Control = %q", got)
	}
	tag := r.Header.Get("ETag")
	if tag == "" {
		t.Fatal("no ETag")
	}
	for _, offer := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		if r := get(t, h, "GET", asset, "If-None-Match", offer); r.StatusCode != 304 || len(body(t, r)) != 0 {
			t.Errorf("If-None-Match %s = %d, want 304 without a body", offer, r.StatusCode)
		}
	}
	if r := get(t, h, "GET", asset, "If-None-Match", `"other"`); r.StatusCode != 200 {
		t.Errorf("another tag = %d, want 200", r.StatusCode)
	}
	page := get(t, h, "GET", "/")
	if got := page.Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("page: Cache-Control = %q, want no-cache", got)
	}
	if other := get(t, Handler(Config{BasePath: "/ops"}), "GET", "/").Header.Get("ETag"); other == page.Header.Get("ETag") {
		t.Error("the page under another base has the same ETag")
	}
}

func TestCompression(t *testing.T) {
	h := Handler(Config{})
	asset := "/" + anAsset(t)
	plain := body(t, get(t, h, "GET", asset))
	for accept, want := range map[string]bool{"gzip": true, "br, gzip;q=0.8": true, "*": true, "": false, "br": false, "gzip;q=0": false, "gzip; q=0.0": false, "gzip;q=x": false} {
		r := get(t, h, "GET", asset, "Accept-Encoding", accept)
		if got := r.Header.Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("Accept-Encoding %q: compressed %v, want %v", accept, got, want)
		}
		if r.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: no Vary", accept)
		}
		if !want {
			continue
		}
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(z); err != nil || string(b) != plain {
			t.Errorf("Accept-Encoding %q: unpacks to something else (%v)", accept, err)
		}
	}
}

func TestHeadersAndMethods(t *testing.T) {
	h := Handler(Config{})
	for _, p := range []string{"/", "/captures", "/" + anAsset(t)} {
		r := get(t, h, "GET", p)
		if r.Header.Get("Content-Security-Policy") != ContentSecurityPolicy {
			t.Errorf("%s: no policy", p)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: may be sniffed", p)
		}
	}
	head := get(t, h, "HEAD", "/")
	if head.StatusCode != 200 || len(body(t, head)) != 0 || head.Header.Get("Content-Length") == "0" {
		t.Errorf("HEAD / = %d with length %s", head.StatusCode, head.Header.Get("Content-Length"))
	}
	post := get(t, h, "POST", "/captures")
	if post.StatusCode != 405 || post.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST = %d, Allow %q", post.StatusCode, post.Header.Get("Allow"))
	}
	if got := body(t, post); got != "method not allowed: the page answers GET and HEAD\n" {
		t.Errorf("POST says %q", got)
	}
}

func TestDamagedBuildsAreTold(t *testing.T) {
	page := func(s string) fstest.MapFS { return fstest.MapFS{"dist/index.html": {Data: []byte(s)}} }
	for want, fsys := range map[string]fs.FS{
		"index.html is missing; build it with `npm run build` in web/":                                               fstest.MapFS{"dist/x.js": {Data: []byte("1")}},
		`index.html must hold <base href="/"> once; rebuild it with ` + "`npm run build` in web/":                    page(metaMark),
		`index.html must hold <meta name="ops-base" content="/"> once; rebuild it with ` + "`npm run build` in web/": page(baseMark + metaMark + metaMark),
	} {
		if _, err := load(fsys, "/"); err == nil || err.Error() != want {
			t.Errorf("load says %v, want %s", err, want)
		}
	}
}

// No script, style or handler stands in the page itself: the policy forbids it.
func TestPageHasNothingInline(t *testing.T) {
	page, err := dist.ReadFile("dist/index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<style", " style=", " onload=", "<script>"} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("index.html holds %q", bad)
		}
	}
}
