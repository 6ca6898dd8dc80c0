package agentless

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opscenter/opscenter/internal/ops"
)

// answers is a target that says the same to everything.
type answers []byte

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Request: r, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a))}, nil
}

// FuzzAnswers reads whatever a foreign endpoint may say with every reader there
// is: none may panic, and what could be shown to people must be fit to show.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		"", "\x1f\x8b", "\x0a\x04\x08\x01\x10\x02", "goroutine 1 [running]:\n", "go 1.26 trace\x00\x00\x00",
		"<tr><td>5</td><td><a href='goroutine?debug=1'>goroutine</a></td></tr>",
		"<tr><td align=right>99999999999999999999<td><a href=\"/debug/pprof/heap?debug=1\">heap</a>",
		"--- mutex:\ncycles/second=1\nsampling period=-5\n", "# runtime.MemStats\n# TotalAlloc = 18446744073709551616\n# Stack = 1 / 2\n",
		`{"memstats":{"Sys":1,"TotalAlloc":-1}}`, `{"memstats":null}`, "/bin/x\x00-secret", "<title>\x1b[31m</title>",
		"go1.26.8.linux-amd64/src/runtime/proc.go",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := newHost("http://target:6060", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		h.client = &http.Client{Transport: answers(body)}
		ctx := t.Context()
		counts, err := h.index(ctx)
		for name, n := range counts {
			if n < 0 || name == "" || err != nil {
				t.Errorf("index counts %d of %q, error %v", n, name, err)
			}
		}
		if m, err := h.memstats(ctx); err == nil && m.Sys == 0 {
			t.Error("memstats of nothing")
		}
		if m, err := h.heapText(ctx); (m == nil) == (err == nil) {
			t.Errorf("heap text: %v, %v", m, err)
		}
		if name, err := h.executable(ctx); err == nil {
			fitToShow(t, name)
		}
		b := h.build(ctx)
		fitToShow(t, b.GoVersion+b.GOOS+b.GOARCH)
		_, _ = h.mutexPeriod(ctx)
		head := body[:min(len(body), 512)]
		fitToShow(t, wordsOf(head))
		_, _ = isProfile(head), isDump(head)
		w := newWindow(&Link{host: h}, "c-fuzz", ops.Spec{}, nil)
		if w.isTrace(head) && (w.traceMinor < 0 || w.traceMinor > 9999) {
			t.Errorf("trace of version 1.%d", w.traceMinor)
		}
		if f := (want{path: "heap", looks: isProfile}); len(head) > 0 && !isProfile(head) {
			fitToShow(t, f.unlike(wordsOf(head)).loss.Message)
		}
	})
}

func fitToShow(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) || len(s) > 400 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("not fit to show: %q", s)
	}
}
