package toolui

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// traceSessions are the trace windows that are open: each is a run of the stock
// viewer over a file that holds the window alone.
type traceSessions struct {
	ui     *UI
	client *http.Client

	mu   sync.Mutex // guards open, and used of each session
	open map[string]*traceSession
}

type traceSession struct {
	key   string
	token string // lets the timeline's data be read from the page's sandbox
	ready chan struct{}
	// What follows is set before ready is closed.
	err     error
	process *process
	target  string // "http://127.0.0.1:4711"
	file    string

	cancel context.CancelCauseFunc
	used   time.Time
}

func newTraceSessions(u *UI) *traceSessions {
	return &traceSessions{ui: u, open: map[string]*traceSession{}, client: &http.Client{
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

var windowPattern = regexp.MustCompile(`^([0-9]{1,19})-([0-9]{1,19})$`)

// waitBeforePage is how long an opening page keeps its browser waiting before it
// shows a page that says so: short windows open without one.
const waitBeforePage = 1500 * time.Millisecond

// serveTrace serves /trace/…; at is the path after that.
func (u *UI) serveTrace(w http.ResponseWriter, r *http.Request, at []string) {
	ref, rest := refOf(at), at[3:]
	if len(rest) == 0 {
		redirect(w, "./"+withQuery(ref.Name+"/", r))
		return
	}
	if len(rest) == 1 && rest[0] == "" {
		u.serveWindows(w, r, ref)
		return
	}
	m := windowPattern.FindStringSubmatch(rest[0])
	if m == nil {
		showError(w, r, http.StatusNotFound, "No such window", "A window of a trace is named by its generations, as in 3-5: go to the list of windows.")
		return
	}
	if len(rest) == 1 {
		redirect(w, "./"+withQuery(rest[0]+"/", r))
		return
	}
	from, err1 := strconv.ParseUint(m[1], 10, 64)
	to, err2 := strconv.ParseUint(m[2], 10, 64)
	if err1 != nil || err2 != nil {
		from, to = 1, 0 // no trace has it
	}
	if err := u.serveWindow(w, r, ref, from, to, rest[1:]); err != nil && r.Context().Err() == nil {
		u.fail(w, r, err)
	}
}

// serveWindows lists the windows of a trace.
func (u *UI) serveWindows(w http.ResponseWriter, r *http.Request, ref ops.ArtifactRef) {
	windows, loss, err := u.TraceWindows(r.Context(), ref)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	if len(windows) == 1 && loss == "" {
		redirect(w, fmt.Sprintf("./%d-%d/", windows[0].FromGeneration, windows[0].ToGeneration))
		return
	}
	p := page{Title: ref.Name, Text: []string{"The trace is opened a part at a time, because its viewer needs about a hundred times a part's size in memory. A generation is about a second, and cannot be divided."}}
	if loss != "" {
		p.Loss = sentence(loss)
	}
	if problem := u.tool.problem(); problem != "" {
		p.Text = append(p.Text, problem)
	}
	for _, win := range windows {
		p.Rows = append(p.Rows, windowRow{
			Href: fmt.Sprintf("./%d-%d/", win.FromGeneration, win.ToGeneration), From: win.FromGeneration, To: win.ToGeneration,
			Start: rounded(win.Start), Length: rounded(win.Length), Size: megabytes(win.SizeBytes),
		})
	}
	show(w, r, http.StatusOK, p)
}

// profilePages are the viewer's pages that need the go command and Graphviz. They
// are opened in pprof's web UI instead.
var profilePages = map[string]bool{
	"io": true, "block": true, "syscall": true, "sched": true,
	"regionio": true, "regionblock": true, "regionsyscall": true, "regionsched": true,
}

// serveWindow serves a page of a window's viewer; at is what follows the window
// in the path.
func (u *UI) serveWindow(w http.ResponseWriter, r *http.Request, ref ops.ArtifactRef, from, to uint64, at []string) error {
	key := fmt.Sprintf("%s %d-%d", ref, from, to)
	if len(at) > 1 && strings.HasPrefix(at[0], "_") {
		s := u.traces.lookup(key)
		if s == nil || "_"+s.token != at[0] {
			return ops.Errorf(ops.NotFound, "the window was closed meanwhile: go back and reload the page")
		}
		w.Header().Set("Access-Control-Allow-Origin", "*")
		return u.traces.data(w, r, s, strings.Join(at[1:], "/"))
	}
	s, err := u.traces.get(r.Context(), ref, from, to, key)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(r.Context(), waitBeforePage)
	defer cancel()
	select {
	case <-s.ready:
	case <-wait.Done():
		text := "The viewer is reading it."
		if p := u.tool.progress(); p != "" {
			text = p
		}
		showWaiting(w, r, fmt.Sprintf("Opening generations %d to %d", from, to), text)
		return nil
	}
	if s.err != nil {
		u.traces.forget(s)
		return s.err
	}

	name := at[0]
	switch {
	case name == "pprof" && len(at) > 1:
		return u.serveTraceProfile(w, r, s, at[1:])
	case len(at) > 1:
		return ops.Errorf(ops.NotFound, "the trace viewer has no such page: go back to its first page")
	case name == "mmu":
		showError(w, r, http.StatusNotFound, "Not in the centre", "The plot of minimum mutator utilization loads scripts from elsewhere, which these pages may not: download the trace and run go tool trace.")
		return nil
	case profilePages[name] && r.FormValue("raw") == "":
		id := base64.RawURLEncoding.EncodeToString([]byte(withQuery(name, r)))
		redirect(w, "./pprof/"+id+"/flamegraph")
		return nil
	}
	return u.traces.page(w, r, s, name)
}

// serveTraceProfile shows a profile that the trace viewer computes. The path
// carries its page and parameters, so that it opens again after it was closed.
func (u *UI) serveTraceProfile(w http.ResponseWriter, r *http.Request, s *traceSession, at []string) error {
	id, err := base64.RawURLEncoding.DecodeString(at[0])
	name, query, _ := strings.Cut(string(id), "?")
	values, qerr := url.ParseQuery(query)
	if err != nil || qerr != nil || !profilePages[name] || len(id) > 4<<10 {
		return ops.Errorf(ops.NotFound, "there is no such profile of this trace: go back to the viewer's first page")
	}
	if len(at) == 1 {
		redirect(w, "./"+at[0]+"/")
		return nil
	}
	values.Set("raw", "1")
	open := func(ctx context.Context) (io.ReadCloser, int64, error) {
		ctx, cancel := context.WithTimeout(ctx, u.cfg.Timeout)
		defer cancel()
		resp, err := u.traces.ask(ctx, s, name, values.Encode())
		if err != nil {
			return nil, 0, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
		if err != nil {
			return nil, 0, u.traces.ended(ctx, s, err)
		}
		if resp.StatusCode != http.StatusOK {
			return nil, 0, ops.Errorf(ops.NotFound, "the trace has no such profile (%s): choose another window", strings.TrimSpace(string(b[:min(len(b), 200)])))
		}
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
	}
	u.servePages(w, r, at[1:], []source{{id: s.token + " " + string(id), open: open}})
	return nil
}

// Holds reports whether the address of a request itself carries the right to be
// answered: the timeline's data, which a trace page fetches from its sandbox,
// where the browser sends no credentials along. The address holds a secret that
// only the page knows.
func (u *UI) Holds(r *http.Request) bool {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, u.cfg.BasePath+"/"); ok && u.cfg.BasePath != "" {
		path = "/" + rest
	}
	at := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(at) < 7 || at[0] != "trace" || !strings.HasPrefix(at[5], "_") || r.Method != http.MethodGet {
		return false
	}
	s := u.traces.lookup(refOf(at[1:]).String() + " " + at[4])
	return s != nil && "_"+s.token == at[5]
}

func (t *traceSessions) lookup(key string) *traceSession {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.open[key]
	if s != nil {
		s.used = time.Now()
	}
	return s
}

// get returns the session of a window, which may still be opening.
func (t *traceSessions) get(ctx context.Context, ref ops.ArtifactRef, from, to uint64, key string) (*traceSession, error) {
	// Whether there is such an artifact is asked every time: it may be deleted.
	blob, _, err := t.ui.open(ctx, ref)
	if err != nil {
		return nil, err
	}
	blob.Close()

	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.open[key]; s != nil && !s.over() {
		s.used = time.Now()
		return s, nil
	}
	s := &traceSession{key: key, token: rand.Text(), ready: make(chan struct{}), used: time.Now()}
	s.file = filepath.Join(t.ui.scratchDir(), s.token+".trace")
	opening := make(chan struct{})
	if !t.ui.goRun(func(running context.Context) {
		ctx, cancel := context.WithCancelCause(running)
		defer cancel(errClosed)
		s.cancel = cancel
		close(opening)
		t.run(ctx, s, ref, from, to)
	}) {
		return nil, errNotRunning
	}
	<-opening // s.cancel is set
	t.open[key] = s
	for len(t.open) > t.ui.cfg.MaxTraces {
		var oldest *traceSession
		for _, s := range t.open {
			if oldest == nil || s.used.Before(oldest.used) {
				oldest = s
			}
		}
		t.closeLocked(oldest)
	}
	return s, nil
}

// over reports whether the session's viewer ended after it was open. A session
// that failed to open stays until somebody has seen why.
func (s *traceSession) over() bool {
	select {
	case <-s.ready:
	default:
		return false
	}
	if s.err != nil {
		return false
	}
	select {
	case <-s.process.done:
		return true
	default:
		return false
	}
}

// forget lets the next request open the window anew.
func (t *traceSessions) forget(s *traceSession) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[s.key] == s {
		delete(t.open, s.key)
	}
}

func (t *traceSessions) closeLocked(s *traceSession) {
	delete(t.open, s.key)
	s.cancel(errClosed)
}

func (t *traceSessions) closeIdle(before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.open {
		select {
		case <-s.ready:
			if s.used.Before(before) {
				t.closeLocked(s)
			}
		default: // it is opening, which has an end
		}
	}
}

func (t *traceSessions) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.open {
		t.closeLocked(s)
	}
}

// run cuts the window, starts the viewer, and stays until it ends.
func (t *traceSessions) run(ctx context.Context, s *traceSession, ref ops.ArtifactRef, from, to uint64) {
	defer func() { _ = os.Remove(s.file) }()
	s.err = t.start(ctx, s, ref, from, to)
	if s.err != nil && errors.Is(context.Cause(ctx), errClosed) {
		s.err = ops.Errorf(ops.Unavailable, "the window was closed before it was open: reload the page")
	}
	close(s.ready)
	if s.err == nil {
		<-s.process.done
		if err := s.process.failure(); !errors.Is(context.Cause(ctx), errClosed) && ctx.Err() == nil {
			t.ui.log.Warn("a trace viewer ended", "err", err, "stderr", s.process.stderr.String())
		}
	}
}

var listening = regexp.MustCompile(`listening on (http://127\.0\.0\.1:[0-9]+)`)

func (t *traceSessions) start(ctx context.Context, s *traceSession, ref ops.ArtifactRef, from, to uint64) error {
	viewer, err := t.ui.tool.get(ctx)
	if err != nil {
		return err
	}
	if err := t.cut(ctx, s.file, ref, from, to); err != nil {
		return err
	}
	timeout := ops.Errorf(ops.Exhausted, "the trace viewer took longer than %v to read this window and was stopped: choose a smaller one, or download the trace and run go tool trace", t.ui.cfg.Timeout)
	opening := time.NewTimer(t.ui.cfg.Timeout)
	defer opening.Stop()
	memory := t.ui.cfg.TraceMemory
	ready := newWatched("listening on ")
	p, err := t.ui.start(ctx, command{
		name: "the trace viewer", argv: []string{viewer, "-http=127.0.0.1:0", s.file}, memory: memory,
		// It would start a browser, here, and wait for it.
		env:    []string{"BROWSER=/bin/true", "PATH=/nonexistent", "TMPDIR=" + os.TempDir(), "GOGC=50", fmt.Sprintf("GOMEMLIMIT=%d", memory*9/10)},
		stderr: ready,
	})
	if err != nil {
		return err
	}
	s.process = p
	// The address may arrive in pieces.
	for {
		select {
		case <-ready.seen:
			if m := listening.FindStringSubmatch(p.stderr.String()); m != nil {
				s.target = m[1]
				return nil
			}
			ready.seen = nil
		case <-time.After(20 * time.Millisecond):
			if m := listening.FindStringSubmatch(p.stderr.String()); m != nil {
				s.target = m[1]
				return nil
			}
		case <-p.done:
			if said := strings.TrimSpace(p.stderr.String()); said != "" {
				t.ui.log.Warn("the trace viewer ended", "stderr", said)
			}
			return p.failure()
		case <-opening.C:
			p.kill(timeout)
			<-p.done
			return p.failure()
		}
	}
}

// cut writes the window into a file.
func (t *traceSessions) cut(ctx context.Context, file string, ref ops.ArtifactRef, from, to uint64) error {
	blob, _, err := t.ui.open(ctx, ref)
	if err != nil {
		return err
	}
	defer blob.Close()
	ix, err := trace.ReadIndex(blob, blob.Size())
	if err != nil {
		return err
	}
	var size int64
	count := 0
	for _, g := range ix.Generations {
		if g.Number >= from && g.Number <= to {
			size += g.SizeBytes
			count++
		}
	}
	if count > 1 && size > maxWindowBytes {
		return ops.Errorf(ops.Exhausted, "generations %d to %d are %s and at most %s are opened together: choose a window from the list", from, to, megabytes(size), megabytes(maxWindowBytes))
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := ix.Cut(out, blob, from, to); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
