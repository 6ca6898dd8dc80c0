package agentless

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// host is the HTTP end of one target.
type host struct {
	base     *url.URL // of the index page, with a slash at its end
	vars     *url.URL // of expvar, where it is by convention
	user     *url.Userinfo
	address  string // the base as people see it: without credentials
	client   *http.Client
	patience time.Duration
	// sign is when the target last sent a byte, in Unix nanoseconds.
	sign atomic.Int64
}

func newHost(raw string, patience time.Duration) (*host, error) {
	base, user, err := parseBase(raw)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: min(patience, 5*time.Second), Control: discovery.GuardDial}
	h := &host{
		base: base, user: user, patience: patience,
		address: strings.TrimSuffix(base.String(), "/"),
		vars:    &url.URL{Scheme: base.Scheme, Host: base.Host, Path: strings.TrimSuffix(base.Path, "pprof/") + "vars"},
		client: &http.Client{
			Transport: &http.Transport{
				// No proxy: targets are dialled, so that the guard sees where they are.
				DialContext:         dialer.DialContext,
				TLSHandshakeTimeout: min(patience, 5*time.Second),
				// A gzip bomb would be inflated behind our back.
				DisableCompression:     true,
				MaxIdleConnsPerHost:    2,
				IdleConnTimeout:        30 * time.Second,
				MaxResponseHeaderBytes: 64 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	h.sign.Store(time.Now().UnixNano())
	return h, nil
}

// Why a request was given up, as causes of its context.
var (
	errSilent = errors.New("silent")
	errSlow   = errors.New("slow")
)

// statusError is an answer that is not what was asked for.
type statusError struct {
	code int
	text string // the first words of the body, cleaned
	to   string // of a redirect
}

func (e *statusError) Error() string {
	s := strconv.Itoa(e.code)
	if t := http.StatusText(e.code); t != "" {
		s += " " + t
	}
	if e.to != "" {
		return s + " to " + e.to
	}
	if e.text != "" && !strings.EqualFold(e.text, http.StatusText(e.code)) {
		s += ": " + e.text
	}
	return s
}

// answer is the body of a good response. Reading it is bounded in time: errSilent
// is the cause when the target sent nothing for the host's patience, errSlow when
// it is not done within the request's total.
type answer struct {
	*bufio.Reader
	close func()
	cause func() error
}

// get asks for a path below the base. The header is due after wait and patience,
// the end of the body a minute after that.
func (h *host) get(ctx context.Context, path, query string, wait time.Duration) (*answer, error) {
	u := *h.base
	u.Path += path
	u.RawQuery = query
	return h.fetch(ctx, &u, wait)
}

const total = time.Minute

func (h *host) fetch(ctx context.Context, u *url.URL, wait time.Duration) (*answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	silent := time.AfterFunc(wait+h.patience, func() { cancel(errSilent) })
	slow := time.AfterFunc(wait+h.patience+total, func() { cancel(errSlow) })
	closed := func() {
		silent.Stop()
		slow.Stop()
		cancel(nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		closed()
		return nil, err
	}
	if h.user != nil {
		pw, _ := h.user.Password()
		req.SetBasicAuth(h.user.Username(), pw)
	}
	req.Header.Set("User-Agent", "opscenter")
	resp, err := h.client.Do(req)
	if err != nil {
		defer closed()
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL
		}
		return nil, err
	}
	h.sign.Store(time.Now().UnixNano())
	a := &answer{cause: func() error { return context.Cause(ctx) }}
	a.close = func() {
		closed()
		_ = resp.Body.Close() // nothing was written
	}
	var body io.Reader = &timed{h: h, r: resp.Body, silent: silent}
	if resp.Header.Get("Content-Encoding") == "gzip" { // a proxy's own idea
		body = &lazyGzip{r: body}
	}
	a.Reader = bufio.NewReaderSize(body, 32<<10)
	if resp.StatusCode != http.StatusOK {
		defer a.close()
		e := &statusError{code: resp.StatusCode, text: h.discreet(firstWords(a.Reader))}
		if to, err := resp.Location(); err == nil && resp.StatusCode/100 == 3 {
			e.to = clean((&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String())
		}
		return nil, e
	}
	return a, nil
}

// timed notes every sign of life.
type timed struct {
	h      *host
	r      io.Reader
	silent *time.Timer
}

func (t *timed) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n > 0 {
		t.h.sign.Store(time.Now().UnixNano())
		t.silent.Reset(t.h.patience)
	}
	return n, err
}

// lazyGzip inflates; its header is read with the first byte, not before.
type lazyGzip struct {
	r io.Reader
	z *gzip.Reader
}

func (g *lazyGzip) Read(p []byte) (int, error) {
	if g.z == nil {
		z, err := gzip.NewReader(g.r)
		if err != nil {
			return 0, err
		}
		g.z = z
	}
	return g.z.Read(p)
}

var (
	title    = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)
	htmlPage = regexp.MustCompile(`(?i)^\s*<(!doctype|html|head|body)`)
)

// discreet takes our password out of what a target says: some repeat whatever
// they were sent.
func (h *host) discreet(text string) string {
	if password, ok := h.user.Password(); ok && password != "" {
		text = strings.ReplaceAll(text, password, "***")
	}
	return text
}

// firstWords reads the beginning of a text for people: the title of a page, else
// the first line.
func firstWords(r *bufio.Reader) string {
	head, _ := io.ReadAll(io.LimitReader(r, 2<<10))
	return wordsOf(head)
}

func wordsOf(head []byte) string {
	text := string(head)
	if m := title.FindStringSubmatch(text); m != nil {
		return clean(m[1])
	}
	if htmlPage.MatchString(text) {
		return "an HTML page"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return clean(line)
}

// clean makes foreign text fit to show.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 160 {
		s = strings.ToValidUTF8(s[:160], "") + "…"
	}
	return s
}

// cell is a row of the index page, of any Go version.
var cell = regexp.MustCompile(`<td[^>]*>\s*(\d+)\s*(?:</td>)?\s*<td[^>]*>\s*<a href=[^>]*>\s*([A-Za-z0-9._-]+)\s*</a>`)

// index returns the profiles that the index page lists with their counts; none
// if it is not the page that Go makes.
func (h *host) index(ctx context.Context) (map[string]int64, error) {
	a, err := h.get(ctx, "", "", 0)
	if err != nil {
		return nil, err
	}
	defer a.close()
	page, err := io.ReadAll(io.LimitReader(a, 1<<20))
	if err != nil {
		return nil, a.why(err)
	}
	out := map[string]int64{}
	for _, m := range cell.FindAllSubmatch(page, -1) {
		if n, err := strconv.ParseInt(string(m[1]), 10, 64); err == nil {
			out[string(m[2])] = n
		}
	}
	return out, nil
}

// why is the error of reading the answer, or what gave it up.
func (a *answer) why(err error) error {
	if cause := a.cause(); cause != nil {
		return cause
	}
	return err
}

// executable is argv[0]. The rest of the command line may hold secrets.
func (h *host) executable(ctx context.Context) (string, error) {
	a, err := h.get(ctx, "cmdline", "", 0)
	if err != nil {
		return "", err
	}
	defer a.close()
	line, err := io.ReadAll(io.LimitReader(a, 4<<10))
	if err != nil {
		return "", a.why(err)
	}
	name, _, _ := strings.Cut(string(line), "\x00")
	if name == "" || strings.ContainsAny(name, "<>\n") {
		return "", ops.Errorf(ops.Corrupt, "cmdline is no command line")
	}
	return clean(name), nil
}

// goRoot finds the toolchain's version in the path of its sources.
var goRoot = regexp.MustCompile(`go(1\.\d{1,4}(?:\.\d{1,4}|rc\d{1,4}|beta\d{1,4})?)(?:\.([a-z0-9]{1,16})-([a-z0-9]{1,16}))?/src/(?:runtime|net)/`)

// build is what the text of the stacks gives away. Nothing if nothing.
func (h *host) build(ctx context.Context) (b ops.Build) {
	a, err := h.get(ctx, "goroutine", "debug=1", 0)
	if err != nil {
		return b
	}
	defer a.close()
	text, _ := io.ReadAll(io.LimitReader(a, 256<<10)) // what there is will do
	if m := goRoot.FindSubmatch(text); m != nil {
		b.GoVersion, b.GOOS, b.GOARCH = "go"+string(m[1]), string(m[2]), string(m[3])
	}
	return b
}

// memstats are the fields of runtime.MemStats that both expvar and the text of a
// heap profile have.
type memstats struct {
	TotalAlloc, Sys, Mallocs, Frees                              uint64
	HeapAlloc, HeapIdle, HeapInuse, HeapReleased, HeapObjects    uint64
	StackInuse, NextGC, LastGC, PauseTotalNs, NumGC, NumForcedGC uint64
	MaxRSS                                                       uint64 // of the text only
	GCCPUFraction                                                float64
}

// memstats asks expvar, where it is served.
func (h *host) memstats(ctx context.Context) (*memstats, error) {
	a, err := h.fetch(ctx, h.vars, 0)
	if err != nil {
		return nil, err
	}
	defer a.close()
	var vars struct{ Memstats *memstats }
	if err := json.NewDecoder(io.LimitReader(a, 4<<20)).Decode(&vars); err != nil {
		return nil, a.why(err)
	}
	if vars.Memstats == nil || vars.Memstats.Sys == 0 {
		return nil, ops.Errorf(ops.Corrupt, "expvar has no memstats")
	}
	return vars.Memstats, nil
}

// heapText reads the memstats at the end of a heap profile's text.
func (h *host) heapText(ctx context.Context) (*memstats, error) {
	a, err := h.get(ctx, "heap", "debug=1", 0)
	if err != nil {
		return nil, err
	}
	defer a.close()
	m, found := &memstats{}, false
	lines := bufio.NewScanner(io.LimitReader(a, maxProfile))
	lines.Buffer(make([]byte, 0, 4<<10), 64<<10)
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "# "), " = ")
		if !ok {
			continue
		}
		n, _ := strconv.ParseUint(value, 10, 64)
		switch name {
		case "TotalAlloc":
			m.TotalAlloc, found = n, true
		case "Sys":
			m.Sys = n
		case "Mallocs":
			m.Mallocs = n
		case "Frees":
			m.Frees = n
		case "HeapAlloc":
			m.HeapAlloc = n
		case "HeapIdle":
			m.HeapIdle = n
		case "HeapInuse":
			m.HeapInuse = n
		case "HeapReleased":
			m.HeapReleased = n
		case "HeapObjects":
			m.HeapObjects = n
		case "Stack":
			if inuse, _, ok := strings.Cut(value, " / "); ok {
				m.StackInuse, _ = strconv.ParseUint(inuse, 10, 64)
			}
		case "NextGC":
			m.NextGC = n
		case "LastGC":
			m.LastGC = n
		case "NumGC":
			m.NumGC = n
		case "NumForcedGC":
			m.NumForcedGC = n
		case "GCCPUFraction":
			m.GCCPUFraction, _ = strconv.ParseFloat(value, 64)
		case "MaxRSS":
			m.MaxRSS = n
		}
	}
	if err := lines.Err(); err != nil {
		return nil, a.why(err)
	}
	if !found {
		return nil, ops.Errorf(ops.Corrupt, "the heap profile's text has no memstats")
	}
	return m, nil
}
