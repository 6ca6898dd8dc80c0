package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wait waits for a condition that has no figure.
func wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	waitUpTo(t, time.Minute, what, is)
}

func waitUpTo(t *testing.T, patience time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// begin starts a capture and does not wait for it.
func begin(t *testing.T, server, service string, args ...string) (id string) {
	t.Helper()
	out, code := ops(t, server, append([]string{"capture", service, "--project", "color-game", "--no-wait"}, args...)...)
	if code != exitDone {
		t.Fatalf("beginning a capture of %s: exit code %d\n%s", service, code, out)
	}
	return strings.TrimSpace(out)
}

// captured finds a capture; ok is false if the centre does not answer.
func captured(t *testing.T, server, id string) (c capture, ok bool) {
	t.Helper()
	out, code := ops(t, server, "captures", "--json")
	if code != exitDone {
		return c, false
	}
	var answer struct{ Captures []capture }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("captures: %v\n%s", err, out)
	}
	for _, c := range answer.Captures {
		if c.ID == id {
			return c, true
		}
	}
	t.Fatalf("capture %s is not listed:\n%s", id, out)
	return c, false
}

func ended(state string) bool {
	switch state {
	case "done", "partial", "failed", "cancelled":
		return true
	}
	return false
}

type instance struct {
	ID, Service, State string
	Process            struct{ PID int }
	Predecessor        *struct {
		InstanceID string `json:"instance_id"`
		Verdict    string
	}
}

// instances lists the ones of a service that are up.
func instances(t *testing.T, server, service string) (up []instance) {
	t.Helper()
	out, code := ops(t, server, "instances", "--json")
	if code != exitDone {
		return nil
	}
	var answer struct{ Instances []instance }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("instances: %v\n%s", err, out)
	}
	for _, i := range answer.Instances {
		if i.Service == service && i.State == "up" {
			up = append(up, i)
		}
	}
	return up
}

// A service that is killed in the 25th of 30 seconds leaves what a dying process
// loses first, and nearly all of its CPU profile. Its successor says whom it
// follows.
func TestServiceKilledMidCapture(t *testing.T) {
	s := game(t)
	t.Parallel()
	victim := s.member(t, "game-service")
	before := instances(t, s.center, "game-service")
	if len(before) != 1 {
		t.Fatalf("instances of game-service: %+v", before)
	}
	id := begin(t, s.center, "game-service", "-d", "30s")
	time.Sleep(25 * time.Second)
	kill(t, victim.PID)

	var c capture
	wait(t, "the capture has ended", func() bool {
		var ok bool
		c, ok = captured(t, s.center, id)
		return ok && ended(c.State)
	})
	if c.State != "partial" {
		t.Errorf("the capture is %s (%s), want partial", c.State, c.Reason)
	}
	if len(c.Targets) != 1 || len(c.Targets[0].Losses) == 0 && c.Targets[0].Reason == "" {
		t.Errorf("nothing says what is missing: %+v", c.Targets)
	}
	e := export(t, s.center, c)
	cpu := e.profile(t, "cpu.pprof")
	if got := time.Duration(cpu.DurationNanos); got < 20*time.Second {
		t.Errorf("the CPU profile covers %v, want 20s", got)
	}
	if samples, _ := weigh(t, cpu, "cpu", function("game.(*Room).PlaceBet")); samples == 0 {
		t.Error("the CPU profile has no bets")
	}
	for _, name := range []string{"goroutine.before.pprof", "heap.before.pprof"} {
		if len(e.profile(t, name).Sample) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	if !strings.Contains(string(e.files["runtime.before.json"]), "opscenter.runtime/v1") {
		t.Errorf("runtime.before.json begins with %.200s", e.files["runtime.before.json"])
	}

	wait(t, "the successor is up and names its predecessor", func() bool {
		up := instances(t, s.center, "game-service")
		return len(up) == 1 && up[0].ID != before[0].ID && up[0].Predecessor != nil && up[0].Predecessor.InstanceID == before[0].ID
	})
	s.until(t, "game-service", "bets_total", atLeast(100))
}

// A centre that is killed in the middle of a capture leaves none in between, and
// works again.
func TestCenterKilledMidCapture(t *testing.T) {
	s := game(t)
	id := begin(t, s.center, "gateway-service", "-d", "20s")
	time.Sleep(6 * time.Second)
	kill(t, s.member(t, "ops").PID)

	wait(t, "every capture has ended", func() bool {
		c, ok := captured(t, s.center, id)
		return ok && ended(c.State)
	})
	c, _ := captured(t, s.center, id)
	if c.State == "done" {
		t.Errorf("the capture is done, although the centre died in it")
	}
	if c.Reason == "" {
		t.Error("the capture does not say why it is " + c.State)
	}
	// What arrived before the kill is still whole.
	if c.State == "partial" {
		if e := export(t, s.center, c); len(e.profile(t, "goroutine.before.pprof").Sample) == 0 {
			t.Error("goroutine.before.pprof is empty")
		}
	}
	out, _ := ops(t, s.center, "captures", "--json")
	var all struct{ Captures []capture }
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all.Captures {
		if !ended(c.State) {
			t.Errorf("capture %s is %s", c.ID, c.State)
		}
	}
	wait(t, "the gateway is back", func() bool { return len(instances(t, s.center, "gateway-service")) == 1 })
	if e := captureOne(t, s.center, "gateway-service", "-d", "2s"); len(e.profile(t, "goroutine.pprof").Sample) == 0 {
		t.Error("the capture after the kill is empty")
	}
}

// proxyTo serves everything below prefix from a server that knows nothing of it;
// keep leaves the prefix on the way.
func proxyTo(t *testing.T, prefix, base string, keep bool) string {
	t.Helper()
	to, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.SetXForwarded()
	}}
	if !keep {
		h = http.StripPrefix(prefix, h)
	}
	mux := http.NewServeMux()
	mux.Handle(prefix+"/", h)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL + prefix
}

// A service whose pprof pages are behind a reverse proxy, and a centre that is
// behind another, both under a path of their own.
func TestBehindReverseProxies(t *testing.T) {
	s := game(t)
	pages := proxyTo(t, "/games/color", s.member(t, "game-service").Admin, false) + "/debug/pprof"
	listen, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	center := proxyTo(t, "/ops", "http://"+listen, true)
	c, err := start(nil, programs.ops, "serve", "--listen", listen, "--base-path", "/ops", "--data", filepath.Join(t.TempDir(), "data"),
		"--target", "color-game/proxied-game="+pages)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.end(); err != nil {
			t.Errorf("the centre ended with %v, and said:\n%s", err, c.said())
		}
	})
	// An agent that reaches the centre through its proxy.
	user, err := start([]string{"OPS_CENTER=" + center}, programs.colorgame, "user-service", "--players", "2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := user.end(); err != nil {
			t.Errorf("the user-service ended with %v, and said:\n%s", err, user.said())
		}
	})
	for _, service := range []string{"proxied-game", "user-service"} {
		wait(t, service+" is up", func() bool { return len(instances(t, center, service)) == 1 })
	}

	e := captureOne(t, center, "proxied-game", "-d", "3s")
	if _, total := weigh(t, e.profile(t, "cpu.pprof"), "cpu", hashing); total == 0 {
		t.Error("the CPU profile of the service behind the proxy is empty")
	}
	if n, _ := weigh(t, e.profile(t, "goroutine.pprof"), "goroutine", function("game.(*Service).Run")); n == 0 {
		t.Error("the goroutines of the service behind the proxy are not a game's")
	}
	if w := waitsOf(t, e.files["trace.out"], "game.(*Service).playRounds"); w.goroutines != 4 {
		t.Errorf("the trace of the service behind the proxy has %d rooms, want 4", w.goroutines)
	}
	e = captureOne(t, center, "user-service", "-d", "2s")
	if n, _ := weigh(t, e.profile(t, "goroutine.pprof"), "goroutine", function("user.(*Service).Run")); n != 1 {
		t.Errorf("the goroutines of the service whose agent goes through the proxy: %v run it, want 1", n)
	}
}
