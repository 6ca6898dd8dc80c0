package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source says what the test tells it to.
type source struct {
	name  string
	lists chan []ops.Target
	fail  chan error
	runs  atomic.Int32
}

func newSource(name string) *source {
	return &source{name: name, lists: make(chan []ops.Target), fail: make(chan error)}
}

func (s *source) Name() string { return s.name }

func (s *source) Run(ctx context.Context, update func([]ops.Target)) error {
	s.runs.Add(1)
	for {
		select {
		case l := <-s.lists:
			update(l)
		case err := <-s.fail:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// dialer records what is connected.
type dialer struct {
	mu       sync.Mutex
	up       map[string]int
	attempts map[string][]time.Time
	causes   []string
	fail     error
	linger   time.Duration // how long a connection lasts; 0 = until cancelled
}

func (d *dialer) connect(ctx context.Context, t ops.Target) error {
	name := fmt.Sprintf("%s %s", t.Source, t.URL)
	d.mu.Lock()
	d.attempts[name] = append(d.attempts[name], time.Now())
	fail, linger := d.fail, d.linger
	d.mu.Unlock()
	if fail != nil {
		return fail
	}
	if linger > 0 {
		sleep(ctx, linger)
		return nil
	}
	d.mu.Lock()
	d.up[name]++
	d.mu.Unlock()
	<-ctx.Done()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.up[name]--
	d.causes = append(d.causes, context.Cause(ctx).Error())
	return ctx.Err()
}

func (d *dialer) connected() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for n, c := range d.up {
		for range c {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func run(t *testing.T, d *dialer, sources ...*source) (stop func()) {
	t.Helper()
	cfg := Config{Connect: d.connect}
	for _, s := range sources {
		cfg.Sources = append(cfg.Sources, s)
	}
	m := NewManager(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	synctest.Wait()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if up := d.connected(); up != "" {
			t.Errorf("still connected after Run: %s", up)
		}
	}
}

func newDialer() *dialer {
	return &dialer{up: map[string]int{}, attempts: map[string][]time.Time{}}
}

func targets(hosts ...string) (out []ops.Target) {
	for _, h := range hosts {
		out = append(out, ops.Target{Project: "p", Service: "s", URL: "grpc://" + h + ":1"})
	}
	return out
}

func settleDown() {
	time.Sleep(10 * time.Millisecond)
	synctest.Wait()
}

func TestOneConnectionPerTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, a := newDialer(), newSource("static")
		stop := run(t, d, a)
		for _, step := range []struct {
			list []ops.Target
			want string
		}{
			{targets("a"), "static grpc://a:1"},
			{targets("a", "b", "b"), "static grpc://a:1; static grpc://b:1"},
			{targets("b"), "static grpc://b:1"},
			{nil, ""},
			{targets("a"), "static grpc://a:1"},
		} {
			a.lists <- step.list
			settleDown()
			if got := d.connected(); got != step.want {
				t.Errorf("connected: %q, want %q", got, step.want)
			}
		}
		if want := []string{"no longer listed by static", "no longer listed by static"}; !slices.Equal(d.causes, want) {
			t.Errorf("causes %q, want %q", d.causes, want)
		}
		stop()
	})
}

func TestATargetListedDifferentlyIsConnectedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, a := newDialer(), newSource("static")
		stop := run(t, d, a)
		l := targets("a")
		a.lists <- l
		settleDown()
		a.lists <- targets("a") // the same
		settleDown()
		changed := targets("a")
		changed[0].Labels = map[string]string{"zone": "z1"}
		a.lists <- changed
		settleDown()
		if n := len(d.attempts["static grpc://a:1"]); n != 2 || d.connected() != "static grpc://a:1" {
			t.Errorf("%d attempts, connected %q; want 2 and one connection", n, d.connected())
		}
		stop()
	})
}

func TestAURLOfTwoSourcesBelongsToTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, a, b := newDialer(), newSource("static"), newSource("file-sd")
		stop := run(t, d, a, b)
		b.lists <- targets("x", "y")
		settleDown()
		a.lists <- targets("x")
		settleDown()
		if got, want := d.connected(), "file-sd grpc://y:1; static grpc://x:1"; got != want {
			t.Errorf("connected: %q, want %q", got, want)
		}
		a.lists <- nil
		settleDown()
		if got, want := d.connected(), "file-sd grpc://x:1; file-sd grpc://y:1"; got != want {
			t.Errorf("once the first lists it no longer: %q, want %q", got, want)
		}
		stop()
	})
}

func TestANameWhoseURLIsTakenIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		static, file := newSource("static"), newSource("file-sd")
		m := NewManager(Config{Connect: newDialer().connect, Sources: []Source{static, file}, Logger: slog.New(slog.NewTextHandler(&said, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		static.lists <- targets("x")
		file.lists <- append(targets("x"), ops.Target{Project: "p", Service: "legacy", URL: "grpc://x:1"})
		settleDown()
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		const want = `msg="target left out: its URL is listed twice and belongs to the first" source=file-sd service=p/legacy url=grpc://x:1 first=p/s first_source=static`
		if got := strings.Count(said.String(), "left out"); got != 1 || !strings.Contains(said.String(), want) {
			t.Errorf("%d times:\n%s", got, &said)
		}
	})
}

func TestASourceThatFailsKeepsItsList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, a := newDialer(), newSource("static")
		stop := run(t, d, a)
		a.lists <- targets("a")
		settleDown()
		a.fail <- errors.New("backend is away")
		time.Sleep(5 * time.Second)
		if got, want := d.connected(), "static grpc://a:1"; got != want || a.runs.Load() < 2 {
			t.Errorf("connected: %q, want %q; %d runs of the source, want another", got, want, a.runs.Load())
		}
		a.lists <- targets("b")
		settleDown()
		if got, want := d.connected(), "static grpc://b:1"; got != want {
			t.Errorf("connected: %q, want %q", got, want)
		}
		stop()
	})
}

func TestThePauseGrowsWithJitterAndStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, a := newDialer(), newSource("static")
		d.fail = errors.New("connection refused")
		stop := run(t, d, a)
		a.lists <- targets("a", "b")
		time.Sleep(10 * time.Minute)
		d.mu.Lock()
		as, bs := slices.Clone(d.attempts["static grpc://a:1"]), d.attempts["static grpc://b:1"]
		d.fail, d.linger = nil, time.Minute
		d.mu.Unlock()
		pause := firstPause
		for i := 1; i < len(as); i++ {
			if got := as[i].Sub(as[i-1]); got < pause/2 || got > pause {
				t.Errorf("pause %d is %v, want %v to %v", i, got, pause/2, pause)
			}
			pause = min(2*pause, lastPause)
		}
		if len(as) < 20 || len(as) > 50 {
			t.Errorf("%d attempts in 10 minutes, want 20 to 50", len(as))
		}
		if len(bs) > 3 && bs[3].Sub(bs[2]) == as[3].Sub(as[2]) {
			t.Error("two targets paused for exactly as long: no jitter")
		}
		time.Sleep(5 * time.Minute)
		d.mu.Lock()
		as = d.attempts["static grpc://a:1"]
		d.mu.Unlock()
		if got := as[len(as)-1].Sub(as[len(as)-2]); got > time.Minute+firstPause {
			t.Errorf("%v from one steady connection of a minute to the next: the pause did not start over", got)
		}
		stop()
	})
}

func TestTenThousandTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, a := newDialer(), newSource("static")
		stop := run(t, d, a)
		var hosts []string
		for i := range 10_000 {
			hosts = append(hosts, fmt.Sprint("h", i))
		}
		a.lists <- targets(hosts...)
		time.Sleep(spreadMax)
		synctest.Wait()
		if n := len(strings.Split(d.connected(), ";")); n != 10_000 {
			t.Errorf("%d connected, want 10000", n)
		}
		a.lists <- targets(hosts[:10]...)
		settleDown()
		if n := len(strings.Split(d.connected(), ";")); n != 10 {
			t.Errorf("%d connected, want 10", n)
		}
		stop()
	})
}

func TestNormalize(t *testing.T) {
	cases := []struct{ in, want string }{
		{"http://10.0.0.1:6060", "http://10.0.0.1:6060/debug/pprof"},
		{"http://10.0.0.1:6060/", "http://10.0.0.1:6060/debug/pprof"},
		{"https://host/admin/pprof/", "https://host/admin/pprof"},
		{"http://user:secret@host/debug/pprof", "http://user:secret@host/debug/pprof"},
		{"grpc://[::1]:7070", "grpc://[::1]:7070"},
		{"grpcs://host:7070/", "grpcs://host:7070"},
		{"grpc://host", `URL "grpc://host" has no port: write grpc://host:port`},
		{"grpc://host:1/x", `URL "grpc://host:1/x" has a path, which an agent has not: write grpc://host:port`},
		{"host:6060", `URL "host:6060" has no known scheme: write http(s)://host:port/debug/pprof for a pprof endpoint or grpc(s)://host:port for an agent`},
		{"", `URL "" has no known scheme: write http(s)://host:port/debug/pprof for a pprof endpoint or grpc(s)://host:port for an agent`},
		{"http:///debug/pprof", `URL "http:///debug/pprof" has no host: write http://host:port`},
		{"http://u:secret@h/?a=b", `URL "http://u:xxxxx@h/debug/pprof?a=b" has a query or fragment: write only http://host:port and, for pprof, the path`},
		{"http://u:secret@h:x/", `the URL cannot be read: invalid port ":x" after host`},
	}
	for _, c := range cases {
		got, err := Normalize(ops.Target{Service: "s", URL: c.in})
		switch {
		case err != nil && (err.Error() != c.want || ops.KindOf(err) != ops.Invalid):
			t.Errorf("%s: %v (%s)\nwant: %s", c.in, err, ops.KindOf(err), c.want)
		case err == nil && (got.URL != c.want || got.Project != "default"):
			t.Errorf("%s: %s of project %s, want %s", c.in, got.URL, got.Project, c.want)
		}
	}
}

func TestNormalizeRefuses(t *testing.T) {
	many := map[string]string{}
	for i := range MaxLabels + 1 {
		many[fmt.Sprint("l", i)] = "v"
	}
	cases := []struct {
		t    ops.Target
		want string
	}{
		{ops.Target{URL: "http://h"}, "the service is missing: say which service the target belongs to"},
		{ops.Target{URL: "http://h", Service: "a b"}, `service "a b" is not a valid name: use letters, digits, dot, underscore and hyphen`},
		{ops.Target{URL: "http://h", Service: "s", Project: "../x"}, `project "../x" is not a valid name: use letters, digits, dot, underscore and hyphen`},
		{ops.Target{URL: "http://h", Service: "s", Labels: many}, "31 labels are too many: use at most 30"},
		{ops.Target{URL: "http://h", Service: "s", Labels: map[string]string{"k": strings.Repeat("v", 257)}}, `label "k" is too long or has no name: use a name of 1 to 128 bytes and a value of at most 256`},
		{ops.Target{URL: "http://h", Service: "s", Labels: map[string]string{"": "v"}}, `label "" is too long or has no name: use a name of 1 to 128 bytes and a value of at most 256`},
	}
	for _, c := range cases {
		if _, err := Normalize(c.t); err == nil || err.Error() != c.want {
			t.Errorf("%v\nwant: %s", err, c.want)
		}
	}
}
