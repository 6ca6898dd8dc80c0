package toolui

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/pprof/driver"
	pprof "github.com/google/pprof/profile"
)

// views are the pages of pprof that are shown. Not among them are its source and
// disassembly views, which read any file of this host that a profile names; its
// settings, which are one file for all users, written on GET; and its download,
// which would be of the reduced copy.
var views = []string{"flamegraph", "graph", "top", "peek"}

// hidden takes the menu entries of what is not shown out of pprof's pages.
const hidden = `<style>#list,#disasm,#save-config,#save-config+hr,#download,.menu-delete-btn,#action-source,#action-source-tab,#action-list,#action-disasm{display:none!important}</style>`

// opening makes driver.PProf run once at a time: it writes package variables.
var opening sync.Mutex

// pages is pprof's web UI over one profile.
type pages struct{ handlers map[string]http.Handler }

// openPages makes the UI of a profile, and of its difference to base unless that
// is nil. Both are as profile.ForBrowser wrote them.
func openPages(main, base []byte) (p *pages, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("pprof cannot show this profile: %v", r)
		}
	}()
	// pprof itself would parse on a goroutine of its own, where nothing recovers.
	sources := fetcher{}
	if sources["main"], err = pprof.ParseUncompressed(main); err != nil {
		return nil, err
	}
	// Flags of pprof's configuration are process-wide: only the URL sets options.
	fs := flags{values: map[string]any{"http": "127.0.0.1:1", "no_browser": true, "symbolize": "none"}}
	if base != nil {
		if sources["base"], err = pprof.ParseUncompressed(base); err != nil {
			return nil, err
		}
		fs.values["diff_base"] = []string{"base"}
	}
	p = &pages{}
	options := &driver.Options{
		Flagset: fs, Fetch: sources, Obj: noObjects{}, Sym: noSymbols{}, UI: silent{}, Writer: noFiles{}, HTTPTransport: noNetwork{},
		HTTPServer: func(a *driver.HTTPServerArgs) error {
			p.handlers = map[string]http.Handler{}
			for _, v := range views {
				p.handlers[v] = a.Handlers["/"+v]
			}
			return nil
		},
	}
	opening.Lock()
	defer opening.Unlock()
	if err := driver.PProf(options); err != nil {
		return nil, err
	}
	if p.handlers == nil {
		return nil, errors.New("pprof did not start its web UI")
	}
	return p, nil
}

// serve writes one page. pprof panics on some parameters; that is the request's
// fault.
func (p *pages) serve(w http.ResponseWriter, r *http.Request, view string) {
	h := p.handlers[view]
	if h == nil {
		http.Error(w, "no such view", http.StatusNotFound)
		return
	}
	page := recorder{header: http.Header{}, code: http.StatusOK}
	func() {
		defer func() {
			if v := recover(); v != nil {
				page = recorder{header: http.Header{}, code: http.StatusBadRequest}
				fmt.Fprintf(&page.body, "pprof cannot use these parameters (%v)", v)
			}
		}()
		h.ServeHTTP(&page, r)
	}()
	header := w.Header()
	header.Set("Content-Type", page.header.Get("Content-Type"))
	if page.code != http.StatusOK || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
		w.WriteHeader(page.code)
		_, _ = page.body.WriteTo(w)
		return
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	head, rest, found := bytes.Cut(page.body.Bytes(), []byte("</head>"))
	out := io.Writer(w)
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		header.Set("Content-Encoding", "gzip")
		zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		defer zw.Close()
		out = zw
	}
	_, _ = out.Write(head)
	if found {
		_, _ = io.WriteString(out, hidden+"</head>")
		_, _ = out.Write(rest)
	}
}

// recorder keeps a page until it is whole.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// What follows is pprof's view of the world: the profiles it is given, and
// nothing else. No files, no network, no programs but dot.

type fetcher map[string]*pprof.Profile

// Fetch returns no source, so that pprof keeps no copy of the profile, and never
// nil without an error, for which pprof would look in the file system.
func (f fetcher) Fetch(name string, _, _ time.Duration) (*pprof.Profile, string, error) {
	if p := f[name]; p != nil {
		return p, "", nil
	}
	return nil, "", fmt.Errorf("there is no profile %q", name)
}

var errOff = errors.New("this is off in the centre")

type noObjects struct{}

func (noObjects) Open(string, uint64, uint64, uint64, string) (driver.ObjFile, error) {
	return nil, errOff
}
func (noObjects) Disasm(string, uint64, uint64, bool) ([]driver.Inst, error) { return nil, errOff }

type noSymbols struct{}

func (noSymbols) Symbolize(string, driver.MappingSources, *pprof.Profile) error { return nil }

type noFiles struct{}

func (noFiles) Open(string) (io.WriteCloser, error) { return nil, errOff }

type noNetwork struct{}

func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) { return nil, errOff }

type silent struct{}

func (silent) ReadLine(string) (string, error)     { return "", io.EOF }
func (silent) Print(...any)                        {}
func (silent) PrintErr(...any)                     {}
func (silent) IsTerminal() bool                    { return false }
func (silent) WantBrowser() bool                   { return false }
func (silent) SetAutoComplete(func(string) string) {}

// flags answers pprof's flags with what was set, or their defaults.
type flags struct{ values map[string]any }

func value[T any](f flags, name string, def T) *T {
	if v, ok := f.values[name].(T); ok {
		def = v
	}
	return &def
}

func (f flags) Bool(name string, def bool, _ string) *bool          { return value(f, name, def) }
func (f flags) Int(name string, def int, _ string) *int             { return value(f, name, def) }
func (f flags) Float64(name string, def float64, _ string) *float64 { return value(f, name, def) }
func (f flags) String(name, def, _ string) *string                  { return value(f, name, def) }
func (f flags) StringList(name, def, _ string) *[]*string {
	list := []*string{}
	for _, s := range *value(f, name, []string{def}) {
		list = append(list, &s)
	}
	return &list
}
func (f flags) ExtraUsage() string    { return "" }
func (f flags) AddExtraUsage(string)  {}
func (f flags) Parse(func()) []string { return []string{"main"} }
