package toolui

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

var errNotRunning = ops.Errorf(ops.Unavailable, "the tool UIs are starting or stopping: reload the page")

// profileSessions are the profiles that are open: each has a prepared copy in
// the scratch directory, which the viewer loads when it is looked at.
type profileSessions struct {
	ui        *UI
	preparing chan struct{} // bounds how many are prepared at once

	mu   sync.Mutex // guards open, and used and viewers of each session
	open map[string]*profileSession
}

type profileSession struct {
	key     string
	file    string
	ready   chan struct{} // closed when prepared, or failed
	err     error         // set before ready is closed
	used    time.Time
	viewers int // pages being made of it
	strikes atomic.Int32
}

func newProfileSessions(u *UI) *profileSessions {
	return &profileSessions{ui: u, preparing: make(chan struct{}, 2), open: map[string]*profileSession{}}
}

// source is a profile to read, and its identity: the same identity has the same
// bytes for ever.
type source struct {
	id string
	// open returns the bytes and how many they are.
	open func(context.Context) (io.ReadCloser, int64, error)
}

// serveProfile serves /pprof/…; at is the path after that.
func (u *UI) serveProfile(w http.ResponseWriter, r *http.Request, at []string) {
	main, rest := refOf(at), at[3:]
	var base *ops.ArtifactRef
	if len(rest) >= 4 && rest[0] == "vs" {
		ref := refOf(rest[1:])
		base, rest = &ref, rest[4:]
	}
	last := at[len(at)-len(rest)-1]
	if len(rest) == 0 {
		redirect(w, "./"+withQuery(last+"/", r)) // the slash is missing
		return
	}
	mainSource, err := u.source(r.Context(), main)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	sources := []source{mainSource}
	if base != nil {
		baseSource, err := u.source(r.Context(), *base)
		if err != nil {
			u.fail(w, r, fmt.Errorf("the profile to compare with: %w", err))
			return
		}
		sources = append(sources, baseSource)
	}
	u.servePages(w, r, rest, sources)
}

// servePages serves one of pprof's pages; at is what follows the profile in the
// path.
func (u *UI) servePages(w http.ResponseWriter, r *http.Request, at []string, sources []source) {
	view := at[0]
	switch {
	case len(at) == 1 && view == "":
		redirect(w, "./"+withQuery("flamegraph", r))
		return
	case len(at) == 1 && (view == "source" || view == "disasm"):
		showError(w, r, http.StatusNotFound, "Not in the centre", "Source and disassembly would be read from the centre's disk, not from where the program was built: download the profile and open it with go tool pprof where the source is.")
		return
	case len(at) > 1 || !slices.Contains(views, view):
		showError(w, r, http.StatusNotFound, "No such view", "The views are "+strings.Join(views, ", ")+".")
		return
	}
	s, err := u.profiles.get(r.Context(), sources)
	if err == nil {
		err = u.viewer.page(w, r, s, view)
		u.profiles.seen(s)
	}
	if err != nil && r.Context().Err() == nil {
		u.fail(w, r, err)
	}
}

// source looks an artifact up.
func (u *UI) source(ctx context.Context, ref ops.ArtifactRef) (source, error) {
	blob, a, err := u.open(ctx, ref)
	if err != nil {
		return source{}, err
	}
	size := blob.Size()
	blob.Close()
	return source{
		id: fmt.Sprintf("%s %d %s", ref, size, a.SHA256),
		open: func(ctx context.Context) (io.ReadCloser, int64, error) {
			blob, _, err := u.open(ctx, ref)
			if err != nil {
				return nil, 0, err
			}
			return blob, blob.Size(), nil
		},
	}, nil
}

// get returns the session of the sources, made if there is none. Call seen when
// done with it: until then it is not idle.
func (p *profileSessions) get(ctx context.Context, sources []source) (*profileSession, error) {
	hash := sha256.New()
	for _, s := range sources {
		fmt.Fprintln(hash, s.id)
	}
	key := hex.EncodeToString(hash.Sum(nil)[:16])

	p.mu.Lock()
	s := p.open[key]
	var closed []*profileSession
	if s == nil {
		s = &profileSession{key: key, file: filepath.Join(p.ui.scratchDir(), key+".profile"), used: time.Now(), ready: make(chan struct{})}
		p.open[key] = s
		closed = p.overflow()
		if !p.ui.goRun(func(ctx context.Context) { p.prepare(ctx, s, sources) }) {
			delete(p.open, key)
			p.mu.Unlock()
			return nil, errNotRunning
		}
	}
	s.used = time.Now()
	p.mu.Unlock()
	for _, old := range closed {
		if !p.ui.goRun(func(context.Context) { p.close(old) }) {
			p.close(old)
		}
	}

	select {
	case <-s.ready:
		p.mu.Lock()
		s.used = time.Now()
		if s.err == nil {
			s.viewers++
		}
		p.mu.Unlock()
		return s, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// seen is the end of what get began.
func (p *profileSessions) seen(s *profileSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.viewers--
	s.used = time.Now()
}

// overflow takes the least recently used sessions beyond the limit out of the
// list; the caller holds mu, and closes them without it.
func (p *profileSessions) overflow() (out []*profileSession) {
	for len(p.open) > p.ui.cfg.MaxProfiles {
		var oldest *profileSession
		for _, s := range p.open {
			if oldest == nil || s.used.Before(oldest.used) {
				oldest = s
			}
		}
		delete(p.open, oldest.key)
		out = append(out, oldest)
	}
	return out
}

func (p *profileSessions) closeIdle(before time.Time) {
	p.mu.Lock()
	var out []*profileSession
	for key, s := range p.open {
		select {
		case <-s.ready:
		default:
			continue // somebody waits for it
		}
		if s.viewers == 0 && s.used.Before(before) {
			delete(p.open, key)
			out = append(out, s)
		}
	}
	p.mu.Unlock()
	for _, s := range out {
		p.close(s)
	}
}

// closeAll runs when no session is made any more.
func (p *profileSessions) closeAll() {
	p.mu.Lock()
	var all []*profileSession
	for _, s := range p.open {
		all = append(all, s)
	}
	p.mu.Unlock()
	for _, s := range all {
		<-s.ready
	}
	p.closeIdle(time.Now().Add(time.Hour))
}

// close ends a session that is out of the list. Requests under way may fail.
func (p *profileSessions) close(s *profileSession) {
	<-s.ready
	p.ui.viewer.unload(s.key)
	if err := os.Remove(s.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.ui.log.Warn("the copy of a profile was not deleted", "file", s.file, "err", err)
	}
}

// prepare makes the copy that the viewer loads. A session that failed is open no
// longer: the next request tries again.
func (p *profileSessions) prepare(ctx context.Context, s *profileSession, sources []source) {
	defer close(s.ready)
	select {
	case p.preparing <- struct{}{}:
		defer func() { <-p.preparing }()
		s.err = p.ui.prepare(ctx, s.file, sources)
	case <-ctx.Done():
		s.err = ctx.Err()
	}
	if s.err != nil {
		p.mu.Lock()
		if p.open[s.key] == s {
			delete(p.open, s.key)
		}
		p.mu.Unlock()
	}
}

// maxPrepared is more than a copy ever takes.
const maxPrepared = 128 << 20

// prepare runs a child that reads the sources and writes their copies into file.
func (u *UI) prepare(ctx context.Context, file string, sources []source) error {
	lengths := sizes{Main: noProfile, Base: noProfile}
	var opened []io.Closer
	defer func() {
		for _, c := range opened {
			_ = c.Close()
		}
	}()
	in := []io.Reader{nil}
	for i, s := range sources {
		r, size, err := s.open(ctx)
		if err != nil {
			return err
		}
		opened = append(opened, r)
		in = append(in, io.LimitReader(r, size))
		*[]*uint64{&lengths.Main, &lengths.Base}[i] = uint64(size)
	}
	in[0] = bytes.NewReader(lengths.bytes())
	memory := u.cfg.ProfileMemory
	timeout := ops.Errorf(ops.Exhausted, "reading the profile took longer than %v and was stopped: download it and open it with go tool pprof", u.cfg.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, u.cfg.Timeout, timeout)
	defer cancel()
	out := &limited{max: maxPrepared}
	p, err := u.start(ctx, command{
		name: "the reader of profiles", argv: append(slices.Clone(u.cfg.Child), childPrepare), memory: memory,
		env:   append(commonEnv(), fmt.Sprintf("GOMEMLIMIT=%d", memory*3/4)),
		stdin: io.MultiReader(in...), stdout: out,
	})
	if err != nil {
		return err
	}
	<-p.done
	if p.err != nil {
		u.log.Warn("the reader of profiles ended", "err", p.failure(), "stderr", p.stderr.String())
		return p.failure()
	}
	r := bufio.NewReader(bytes.NewReader(out.b.Bytes()))
	line, err := r.ReadBytes('\n')
	var head prepared
	if err == nil {
		err = json.Unmarshal(line, &head)
	}
	if err != nil {
		return fmt.Errorf("the reader of profiles said nothing that can be understood: %w", err)
	}
	if head.Message != "" {
		return ops.Errorf(ops.ErrorKind(head.Kind), "%s", head.Message)
	}
	body := out.b.Bytes()[len(line):]
	if len(sources) == 1 { // no base, rather than an empty one
		copied, err := readSizes(bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("the reader of profiles: %w", err)
		}
		copy(body, sizes{copied.Main, noProfile}.bytes())
	}
	return os.WriteFile(file, body, 0o600)
}

// limited keeps what is written to it, and refuses what is too much.
type limited struct {
	b   bytes.Buffer
	max int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.b.Len()+len(b) > l.max {
		return 0, errors.New("the answer is too long")
	}
	return l.b.Write(b)
}
