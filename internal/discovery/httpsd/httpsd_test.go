package httpsd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registry answers with what it was told.
type registry struct {
	*discoverytest.Server

	mu       sync.Mutex
	status   int
	body     string
	etag     string
	requests int
	header   http.Header
}

func newRegistry(t *testing.T) *registry {
	r := &registry{status: http.StatusOK, body: "[]"}
	r.Server = discoverytest.StartServer(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.requests++
		r.header = q.Header
		if r.etag != "" {
			w.Header().Set("Etag", r.etag)
			if q.Header.Get("If-None-Match") == r.etag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		w.WriteHeader(r.status)
		fmt.Fprint(w, r.body)
	}))
	return r
}

func (r *registry) say(status int, body, etag string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.body, r.etag = status, body, etag
}

func asJSON(t *testing.T, targets []ops.Target) string {
	t.Helper()
	groups := []any{}
	for _, tg := range targets {
		labels := map[string]string{"project": string(tg.Project), "service": string(tg.Service)}
		for k, v := range tg.Labels {
			labels[k] = v
		}
		groups = append(groups, map[string]any{"targets": []string{strings.TrimSuffix(strings.TrimPrefix(tg.URL, "http://"), "/debug/pprof")}, "labels": labels})
	}
	b, err := json.Marshal(groups)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func source(t *testing.T, url string) *Source {
	t.Helper()
	s, err := New(Config{URL: url, Refresh: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSource(t *testing.T) {
	opstest.TestSource(t, func(t *testing.T, initial []ops.Target) opstest.SourceBackend {
		r := newRegistry(t)
		set := func(t *testing.T, targets []ops.Target) { r.say(http.StatusOK, asJSON(t, targets), "") }
		set(t, initial)
		return opstest.SourceBackend{
			Source: source(t, r.URL), Set: set,
			Break: func(*testing.T) { r.say(http.StatusOK, `[{"targets": [`, "") },
			Stop:  func(t *testing.T) { r.Kill(t) }, Start: func(t *testing.T) { r.Start(t) },
			Refuse: func(*testing.T) string {
				r.say(http.StatusForbidden, "", "")
				return "refuses to answer (403 Forbidden)"
			},
		}
	})
}

const one = `[{"targets": ["10.0.0.7:6060"], "labels": {"service": "user-service"}}]`

// run runs a source until the test ends and hands over its lists.
func run(t *testing.T, s *Source) <-chan []ops.Target {
	t.Helper()
	lists := make(chan []ops.Target, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, func(l []ops.Target) { lists <- l }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return lists
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func TestTroublesKeepTheLastList(t *testing.T) {
	r := newRegistry(t)
	r.say(http.StatusOK, one, "")
	s := source(t, r.URL+"/targets?game=color")
	lists := run(t, s)
	if l := <-lists; len(l) != 1 || l[0].Service != "user-service" || l[0].Source != s.Name() {
		t.Fatalf("%+v", l)
	}
	for _, c := range []struct {
		status int
		body   string
		want   string
	}{
		{http.StatusServiceUnavailable, "", "it answered 503 Service Unavailable"},
		{http.StatusUnauthorized, "", "it refuses to answer (401 Unauthorized): let the centre's address in at the registry"},
		{http.StatusOK, "<html>", "answer.json:1: "},
		{http.StatusOK, `[{"targets": ["http://169"]}]`, "answer.json:1: target"},
	} {
		r.say(c.status, c.body, "")
		eventually(t, fmt.Sprintf("%d %s: problem %q", c.status, c.body, s.Problem()), func() bool { return strings.HasPrefix(s.Problem(), c.want) })
	}
	r.say(http.StatusOK, one, "")
	eventually(t, "the problem stays", func() bool { return s.Problem() == "" })
	for { // the same list, as often as it was asked; never an empty one
		select {
		case l := <-lists:
			if len(l) != 1 {
				t.Fatalf("%+v", l)
			}
			continue
		default:
		}
		break
	}
}

func TestAnUnchangedAnswerIsNotSentAgain(t *testing.T) {
	r := newRegistry(t)
	r.say(http.StatusOK, one, `"v1"`)
	lists := run(t, source(t, r.URL))
	<-lists
	eventually(t, "it is not asked again", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.requests > 3 })
	select {
	case l := <-lists:
		t.Errorf("told again: %+v", l)
	default:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.header.Get("X-Prometheus-Refresh-Interval-Seconds") != "0.02" {
		t.Errorf("%v", r.header)
	}
}

func TestARegistryThatIsAway(t *testing.T) {
	r := newRegistry(t)
	url := r.URL
	r.Kill(t)
	s := source(t, url)
	run(t, s)
	eventually(t, "no problem is told", func() bool { return strings.HasPrefix(s.Problem(), "no answer: dial tcp 127.0.0.1:") })
}

func TestURLsThatCannotBe(t *testing.T) {
	for in, want := range map[string]string{
		"registry/targets":           `HTTP-SD URL "registry/targets": use one such as https://registry.example.com/targets`,
		"ftp://registry/targets":     `HTTP-SD URL "ftp://registry/targets": use one such as https://registry.example.com/targets`,
		"https://u:p@registry/x":     `HTTP-SD URL "https://u:xxxxx@registry/x" carries a password: addresses are logged, so put who may ask into the registry's network rules`,
		"http://169.254.169.254/sd?": "",
	} {
		s, err := New(Config{URL: in, Refresh: time.Hour})
		if want != "" {
			if err == nil || err.Error() != want {
				t.Errorf("%s: %v", in, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		run(t, s)
		eventually(t, "a cloud's metadata service was dialled", func() bool { return strings.Contains(s.Problem(), "targets there are refused") })
	}
}
