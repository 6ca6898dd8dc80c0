package toolui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// viewer is the one child that serves pprof's pages of all open profiles. One,
// because a process of Go costs more than what a prepared profile needs; only
// prepared copies reach it. When it ends, for whatever reason, the next request
// starts another, which loads what it is asked for.
type viewer struct {
	ui    *UI
	token chan struct{} // holds one token; taken to start, load and stop
	// current is the running child, or nil; guarded by token.
	current *viewing
	starts  atomic.Int64 // how many were started, for tests
}

// viewing is one run of the viewing child.
type viewing struct {
	process *process
	client  *http.Client
	remove  func() // of its private directory
	loaded  map[string]bool
}

func newViewer(u *UI) *viewer {
	v := &viewer{ui: u, token: make(chan struct{}, 1)}
	v.token <- struct{}{}
	return v
}

func (v *viewer) take(ctx context.Context) error {
	select {
	case <-v.token:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *viewer) release() { v.token <- struct{}{} }

// page copies a page of a session from the child to w. The error is for the
// user, and nothing was written then.
func (v *viewer) page(w http.ResponseWriter, r *http.Request, s *profileSession, view string) error {
	ctx, cancel := context.WithTimeout(r.Context(), v.ui.cfg.Timeout)
	defer cancel()
	run, err := v.load(ctx, s)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://viewer/"+s.key+"/"+view+"?"+r.URL.RawQuery, nil)
	if err != nil {
		return ops.Errorf(ops.Invalid, "this address cannot be understood: open the profile from its capture's page")
	}
	req.Header.Set("Accept-Encoding", "identity")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := run.client.Do(req)
	if err != nil {
		return v.ended(r.Context(), run, s, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotImplemented && view == "graph":
		showError(w, r, http.StatusNotImplemented, "The graph needs Graphviz", graphProblemOr("Graphviz failed to draw this graph: narrow it down with the Refine menu, or use the flame graph."))
		return nil
	case resp.StatusCode == http.StatusGone:
		return ops.Errorf(ops.Unavailable, "the profile was closed meanwhile: reload the page")
	case resp.StatusCode != http.StatusOK:
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return ops.Errorf(ops.Invalid, "pprof cannot show this: %s. Go back, or open the view without parameters", strings.TrimRight(strings.TrimSpace(string(b)), "."))
	}
	h := w.Header()
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Length"} {
		if value := resp.Header.Get(name); value != "" {
			h.Set(name, value)
		}
	}
	h.Add("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", pprofCSP)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		// The page is cut off; the browser must not take it for whole.
		v.ui.log.Debug("a page of pprof was cut off", "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

func graphProblemOr(text string) string {
	if p := graphProblem(); p != "" {
		return p
	}
	return text
}

// ended judges why a request to the child failed.
func (v *viewer) ended(ctx context.Context, run *viewing, s *profileSession, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // the browser went away
	}
	if errors.Is(err, context.DeadlineExceeded) {
		run.process.kill(ops.Errorf(ops.Exhausted, "pprof took longer than %v over this page and was stopped: narrow it down with the Refine menu, or download the file and open it with go tool pprof", v.ui.cfg.Timeout))
	}
	select {
	case <-run.process.done:
	case <-time.After(2 * time.Second):
		return fmt.Errorf("ask the viewing child: %w", err)
	}
	failure := run.process.failure()
	s.strikes.Add(1)
	v.ui.log.Warn("the viewing child ended", "err", failure, "stderr", run.process.stderr.String())
	return failure
}

// maxStrikes is how many viewers a profile may take with it.
const maxStrikes = 2

// load makes sure that a child runs and holds the session.
func (v *viewer) load(ctx context.Context, s *profileSession) (*viewing, error) {
	if s.strikes.Load() >= maxStrikes {
		return nil, ops.Errorf(ops.Corrupt, "pprof's web UI ended %d times over this profile, which is not opened again for now: download the file and open it with go tool pprof", maxStrikes)
	}
	if err := v.take(ctx); err != nil {
		return nil, err
	}
	defer v.release()
	if v.current != nil {
		select {
		case <-v.current.process.done:
			v.current.remove()
			v.current = nil
		default:
		}
	}
	if v.current == nil {
		run, err := v.start(ctx)
		if err != nil {
			return nil, err
		}
		v.current = run
	}
	run := v.current
	if run.loaded[s.key] {
		return run, nil
	}
	body, err := os.Open(s.file)
	if err != nil {
		return nil, ops.Errorf(ops.Unavailable, "the profile was closed meanwhile: reload the page")
	}
	defer body.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://viewer/"+s.key, body)
	if err != nil {
		return nil, err
	}
	resp, err := run.client.Do(req)
	if err != nil {
		return nil, v.ended(ctx, run, s, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return nil, ops.Errorf(ops.Corrupt, "pprof cannot open this profile (%s): capture it again", bytes.TrimSpace(b))
	}
	run.loaded[s.key] = true
	return run, nil
}

// start starts a child; the caller holds the token.
func (v *viewer) start(ctx context.Context) (*viewing, error) {
	v.ui.mu.Lock()
	running := v.ui.running
	v.ui.mu.Unlock()
	if running == nil {
		return nil, errNotRunning
	}
	// Socket addresses are short; the data directory's path may not be.
	dir, err := os.MkdirTemp("", "ops-view-")
	if err != nil {
		return nil, err
	}
	remove := func() { _ = os.RemoveAll(dir) }
	config := filepath.Join(dir, "config")
	if err := os.Mkdir(config, 0o500); err != nil {
		remove()
		return nil, err
	}
	socket := filepath.Join(dir, "s")
	stdin, hold, err := os.Pipe()
	if err != nil {
		remove()
		return nil, err
	}
	ready := newWatched("ready")
	memory := v.ui.cfg.ProfileMemory
	p, err := v.ui.start(running, command{
		name: "pprof's web UI", argv: append(slices.Clone(v.ui.cfg.Child), childView, socket), memory: memory,
		env:   append(commonEnv(), "XDG_CONFIG_HOME="+config, fmt.Sprintf("GOMEMLIMIT=%d", memory*3/4)),
		stdin: stdin, stdout: ready,
	})
	stdin.Close()
	if err != nil {
		hold.Close()
		remove()
		return nil, err
	}
	v.starts.Add(1)
	v.ui.goRun(func(context.Context) {
		<-p.done
		hold.Close()
	})
	select {
	case <-ready.seen:
	case <-p.done:
		remove()
		v.ui.log.Error("the viewing child did not start", "stderr", p.stderr.String())
		return nil, p.failure()
	case <-ctx.Done():
		p.kill(errClosed)
		<-p.done
		remove()
		return nil, ctx.Err()
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 4, DisableCompression: true, IdleConnTimeout: time.Minute,
	}
	return &viewing{process: p, client: &http.Client{Transport: transport}, loaded: map[string]bool{}, remove: func() {
		transport.CloseIdleConnections()
		remove()
	}}, nil
}

// unload takes a session out of the child, and ends the child with the last.
func (v *viewer) unload(key string) {
	<-v.token
	defer v.release()
	run := v.current
	if run == nil || !run.loaded[key] {
		return
	}
	delete(run.loaded, key)
	if len(run.loaded) == 0 {
		v.end()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://viewer/"+key, nil)
	if err != nil {
		return
	}
	if resp, err := run.client.Do(req); err == nil {
		resp.Body.Close()
	}
}

func (v *viewer) stop() {
	<-v.token
	defer v.release()
	v.end()
}

// end ends the child; the caller holds the token.
func (v *viewer) end() {
	if v.current == nil {
		return
	}
	v.current.process.kill(errClosed)
	<-v.current.process.done
	v.current.remove()
	v.current = nil
}

// commonEnv is what every child may know.
func commonEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "LC_ALL=C.UTF-8"}
}

// watched is a writer that tells when a text was written to it.
type watched struct {
	text string
	got  []byte
	seen chan struct{}
}

func newWatched(text string) *watched { return &watched{text: text, seen: make(chan struct{})} }

func (s *watched) Write(b []byte) (int, error) {
	if s.text != "" && len(s.got) < 64<<10 {
		s.got = append(s.got, b...)
		if bytes.Contains(s.got, []byte(s.text)) {
			s.text = ""
			close(s.seen)
		}
	}
	return len(b), nil
}
