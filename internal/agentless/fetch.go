package agentless

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opscenter/opscenter/internal/ops"
)

// want is one artifact to fetch.
type want struct {
	path, query string
	name        string
	kind        ops.Kind
	phase       ops.Phase
	lasts       time.Duration // how long the endpoint records
	most        int64         // bytes
	// looks reports whether the first bytes are what was asked for: a foreign
	// endpoint answers 200 with anything.
	looks func(head []byte) bool
}

// problem is why an artifact is missing or incomplete.
type problem struct {
	loss ops.Loss
	// began is set when an artifact was begun and cut off.
	began bool
	// tooLong is set when a shorter recording may work.
	tooLong bool
	// hopeless is set when asking the same again cannot work.
	hopeless bool
	// silent problems are stated by whoever ended the window.
	silent bool
}

// fetch takes one artifact from its endpoint to the sink; nil = all of it.
func (w *window) fetch(ctx context.Context, f want) *problem {
	began := time.Now()
	a, err := w.link.host.get(ctx, f.path, f.query, f.lasts)
	if err != nil {
		return w.failed(ctx, f, err, time.Since(began))
	}
	defer a.close()
	if _, err := a.Peek(16); err != nil && a.Buffered() == 0 {
		if errors.Is(err, io.EOF) && a.cause() == nil {
			return f.lost(ops.LossFailed, "%s answered with nothing", f.path)
		}
		return w.failed(ctx, f, a.why(err), time.Since(began))
	}
	head, _ := a.Peek(min(a.Buffered(), 512))
	if !f.looks(head) {
		return f.unlike(wordsOf(head))
	}
	return w.receive(ctx, f, a, began)
}

// receive hands a body over to the sink as it arrives.
func (w *window) receive(ctx context.Context, f want, a *answer, began time.Time) *problem {
	art := ops.Artifact{Name: f.name, Kind: f.kind, Phase: f.phase, TakenAt: began, WindowStart: began, WindowEnd: began.Add(f.lasts)}
	var to ops.ArtifactWriter
	if w.do(func() (err error) { to, err = w.sink.Begin(art); return err }) != nil {
		return &problem{silent: true}
	}
	abort := func(p *problem) *problem {
		p.began, p.tooLong = true, false
		loss := p.loss
		if p.silent {
			loss = ops.Loss{Kind: f.kind, Reason: ops.LossDisconnected, Message: f.name + " was cut off: the window was given up"}
		}
		_ = w.do(func() error { return to.Abort(loss) })
		return p
	}
	sum, size := sha256.New(), int64(0)
	buf := make([]byte, 32<<10)
	for {
		n, err := a.Read(buf)
		if over := size + int64(n) - f.most; over > 0 {
			n -= int(over)
			err = errFull
		}
		if n > 0 {
			sum.Write(buf[:n])
			size += int64(n)
			if w.do(func() error { _, err := to.Write(buf[:n]); return err }) != nil {
				return abort(&problem{silent: true})
			}
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			if f.lasts > 0 {
				// It may have been ended early: by the clock, not by what was asked.
				art.WindowEnd = minTime(art.WindowEnd, time.Now())
			}
			if w.do(func() error { return to.Commit(size, sum.Sum(nil), art) }) != nil {
				return &problem{silent: true}
			}
			return nil
		case errors.Is(err, errFull):
			return abort(f.lost(ops.LossTruncated, "%s was cut at %d MiB, the most for it", f.name, f.most>>20))
		}
		p := w.failed(ctx, f, a.why(err), time.Since(began))
		if p.loss.Reason == ops.LossFailed {
			p.loss.Reason, p.loss.Message = ops.LossTruncated, fmt.Sprintf("%s was cut off after %d bytes: %s", f.name, size, p.loss.Message)
		}
		return abort(p)
	}
}

var errFull = errors.New("full")

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (f want) lost(r ops.LossReason, format string, args ...any) *problem {
	return &problem{loss: ops.Loss{Kind: f.kind, Reason: r, Message: fmt.Sprintf(format, args...)}}
}

// failed says what an error of the request or of its body means.
func (w *window) failed(ctx context.Context, f want, err error, took time.Duration) *problem {
	var status *statusError
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errCut):
		return f.lost(ops.LossTruncated, "%s was cut when the window was stopped", f.name)
	case errors.Is(cause, errLost):
		return f.gone(w)
	case cause != nil:
		return &problem{silent: true}
	case errors.As(err, &status):
		return f.refused(status)
	case errors.Is(err, errSilent):
		p := f.lost(ops.LossTimedOut, "%s sent nothing for %v", f.path, w.link.host.patience)
		if f.lasts > 0 {
			p.loss.Message += fmt.Sprintf(" beyond the %v it was to record", f.lasts)
		}
		p.hopeless = true
		return p
	case errors.Is(err, errSlow):
		p := f.lost(ops.LossTimedOut, "%s was still sending after %v", f.path, f.lasts+total)
		p.hopeless = true
		return p
	case !w.alive(ctx):
		if errors.Is(context.Cause(ctx), errLost) {
			return f.gone(w)
		}
		return &problem{silent: true}
	}
	took = took.Round(100 * time.Millisecond)
	if f.lasts > 0 {
		p := f.lost(ops.LossFailed, "the server closed the connection after %v, of a request that records for %v: its WriteTimeout, or a proxy's timeout, is probably shorter than that", took, f.lasts)
		p.tooLong = true
		return p
	}
	return f.lost(ops.LossFailed, "the server closed the connection after %v (%s)", took, clean(err.Error()))
}

// gone is the problem of a target that died: the error of Collect says the rest.
func (f want) gone(w *window) *problem {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := f.lost(ops.LossDisconnected, "%s was cut off: %v", f.name, w.lost)
	return p
}

// refused says what an answer means that is not 200.
func (f want) refused(s *statusError) *problem {
	text := strings.ToLower(s.text)
	switch {
	case inUse(text):
		return f.inUse(s.text)
	case s.to != "" || s.code/100 == 3:
		p := f.lost(ops.LossFailed, "%s answers with a redirect (%s), which is not followed: use the final address in the target's URL", f.path, s)
		p.hopeless = true
		return p
	case s.code == http.StatusNotFound || s.code == http.StatusMethodNotAllowed || s.code == http.StatusNotImplemented:
		p := f.lost(ops.LossUnsupported, "%s is not there (%s): the process's Go version has no such profile, or does not serve it", f.path, s)
		p.hopeless = true
		return p
	case s.code == http.StatusUnauthorized || s.code == http.StatusForbidden:
		p := f.lost(ops.LossFailed, "%s is refused (%s): put credentials that may read it into the target's URL", f.path, s)
		p.hopeless = true
		return p
	case f.lasts > 0 && (strings.Contains(text, "writetimeout") || s.code == http.StatusServiceUnavailable || s.code == http.StatusGatewayTimeout || s.code == http.StatusRequestTimeout):
		p := f.lost(ops.LossFailed, "the server does not let a request last %v (%s): serve net/http/pprof without a WriteTimeout, or raise it", f.lasts, s)
		p.tooLong = true
		return p
	}
	return f.lost(ops.LossFailed, "%s answers %s", f.path, s)
}

// inUse recognises what the runtime says when something else holds the profiler
// or the tracer: "cpu profiling already in use", "tracing is already enabled",
// "execution tracer already enabled".
func inUse(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "already in use") || strings.Contains(text, "already enabled")
}

func (f want) inUse(text string) *problem {
	return f.lost(ops.LossInUse, "something else in the process is recording (%s): the others are not affected", text)
}

// unlike says what an answer means that is 200, but not what was asked for.
func (f want) unlike(words string) *problem {
	switch {
	case inUse(words):
		return f.inUse(words)
	case strings.HasPrefix(words, "heap profile:"), strings.HasPrefix(words, "goroutine profile:"), strings.HasPrefix(words, "--- "):
		p := f.lost(ops.LossUnsupported, "%s answers in the text format of Go before 1.9, which holds no symbols", f.path)
		p.hopeless = true
		return p
	case words == "":
		words = "binary data"
	}
	p := f.lost(ops.LossFailed, "%s answers with something else (%s): check the path of the target's URL", f.path, words)
	p.hopeless = true
	return p
}

// isProfile recognises a pprof profile, gzipped or not.
func isProfile(head []byte) bool {
	if len(head) == 0 {
		return false
	}
	if bytes.HasPrefix(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(head))
		if err != nil {
			return false
		}
		plain := make([]byte, 64)
		n, _ := io.ReadFull(z, plain)
		if n == 0 {
			// Deflate gives nothing before it has a block's tables, which may be
			// more than what is here: let it pass.
			return len(head) >= 16
		}
		head = plain[:n]
	}
	// The tag of a field of the Profile message, and not just text, in which the
	// same bytes are letters.
	field, wire := head[0]>>3, head[0]&7
	return field >= 1 && field <= 15 && (wire == 0 || wire == 2) && bytes.ContainsFunc(head, func(r rune) bool { return r < '\t' || r == utf8.RuneError })
}

// isDump recognises the text of all stacks.
func isDump(head []byte) bool { return bytes.HasPrefix(head, []byte("goroutine ")) }

var traceHeader = regexp.MustCompile(`^go 1\.(\d{1,4}) trace\x00`)

// isTrace recognises an execution trace and keeps the version of its format. That
// is not the process's: Go 1.16 writes go 1.11, for nothing changed in between.
func (w *window) isTrace(head []byte) bool {
	m := traceHeader.FindSubmatch(head)
	if m == nil {
		return false
	}
	minor, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.traceMinor = minor
	return true
}
