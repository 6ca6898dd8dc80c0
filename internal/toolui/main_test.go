package toolui

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildVerb {
		os.Exit(ChildMain(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// shelf is an archive of artifacts in memory.
type shelf struct {
	mu    sync.Mutex
	files map[ops.ArtifactRef][]byte
}

func (s *shelf) put(ref ops.ArtifactRef, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[ref] = b
}

func (s *shelf) remove(ref ops.ArtifactRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, ref)
}

func (s *shelf) open(_ context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.files[ref]
	if !ok {
		return nil, ops.Artifact{}, ops.Errorf(ops.NotFound, "there is no artifact %s: it may have been deleted", ref)
	}
	return blob{bytes.NewReader(b)}, ops.Artifact{Name: ref.Name}, nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

// ref names an artifact of one capture.
func ref(name string) ops.ArtifactRef {
	return ops.ArtifactRef{Capture: "01cap", Instance: "boot-1", Name: name}
}

// bench is a running UI behind a server.
type bench struct {
	*UI
	t     testing.TB
	shelf *shelf
	url   string
	log   *syncBuffer
}

// syncBuffer is a log that children write to at any time.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs a UI until the test ends.
func start(t testing.TB, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, shelf: &shelf{files: map[ops.ArtifactRef][]byte{}}, log: &syncBuffer{}}
	cfg.Open = b.shelf.open
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(b.log, nil))
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if len(cfg.Child) == 0 {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		// The race detector keeps a process for a second after its end.
		cfg.Child = []string{"/usr/bin/env", "GORACE=atexit_sleep_ms=0", self, ChildVerb}
	}
	ui, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.UI = ui
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ui.Run(ctx) }()
	for ui.scratchDir() == "" {
		time.Sleep(time.Millisecond)
	}
	srv := httptest.NewServer(ui)
	b.url = srv.URL
	t.Cleanup(func() {
		srv.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the UI:\n%s", b.log)
		}
	})
	return b
}

// answer is a response with its body read.
type answer struct {
	code   int
	header http.Header
	body   string
}

var browser = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// get fetches a path, without following where it leads.
func (b *bench) get(path string) answer {
	b.t.Helper()
	resp, err := browser.Get(b.url + path)
	if err != nil {
		b.t.Error(err)
		return answer{header: http.Header{}}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Error(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func newServer(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}
