package discovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// TestPhantoms: who is listed and has to dial, and does not, is told of, unless it may
// have nothing to dial with.
func TestPhantoms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mu sync.Mutex
		known := map[string]ops.Awaited{}
		s := newSource("kubernetes")
		m := NewManager(Config{Sources: []Source{s}, Connect: newDialer().connect, Awaited: func(targets []ops.Target) (out []ops.Awaited) {
			mu.Lock()
			defer mu.Unlock()
			for _, tg := range targets {
				out = append(out, known[awaitedKey(tg)])
			}
			return out
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		check := func(when, want string) {
			t.Helper()
			got := ""
			for _, a := range m.Absences() {
				got += fmt.Sprintf("%s says %s since %v: %s; ", a.Target.Source, awaitedKey(a.Target), a.Since.Sub(began).Round(time.Second), a.Problem)
			}
			if got != want {
				t.Errorf("%s: %q\nwant %q", when, got, want)
			}
		}
		know := func(pod string, a ops.Awaited) {
			mu.Lock()
			defer mu.Unlock()
			known[pod] = a
		}
		all := []ops.Target{{Project: "p", Service: "s", Pod: "game/user-1"}, {Project: "p", Service: "s", Pod: "game/user-2"}, {Project: "p", Service: "pg", Pod: "game/pg-0"}}
		know("game/user-1", ops.Awaited{Known: true, Here: true})
		know("game/user-2", ops.Awaited{Known: true})
		s.lists <- all
		settleDown()
		time.Sleep(50 * time.Second)
		check("it may still start", "")
		s.lists <- all // told again, it is awaited since it was told first
		time.Sleep(10 * time.Second)
		check("nobody came", "kubernetes says game/user-2 since 0s: no agent in it is connected; ")
		know("game/user-2", ops.Awaited{Known: true, Here: true})
		check("it has come", "")
		time.Sleep(time.Hour)
		know("game/user-2", ops.Awaited{Known: true, Last: time.Now()})
		check("it has just gone", "")
		time.Sleep(time.Minute)
		check("and stays away", "kubernetes says game/user-2 since 1h1m0s: no agent in it is connected; ")
		s.lists <- all[:1]
		settleDown()
		check("it is listed no longer", "")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAbsences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDialer(), newSource("etcd")
		m, stop := remembering("", d, s)
		defer stop()
		began := time.Now()
		absent := func() string {
			out := ""
			for _, a := range m.Absences() {
				out += fmt.Sprintf("%s %s since %v: %s", a.Target.Source, a.Target.URL, a.Since.Sub(began).Round(time.Second), a.Problem)
			}
			return out
		}
		d.fail = errors.New("connection refused")
		s.lists <- []ops.Target{{Project: "p", Service: "s", URL: "http://u:secret@a:1/debug/pprof"}}
		settleDown()
		want := "etcd http://u:xxxxx@a:1/debug/pprof since 0s: connection refused"
		if got := absent(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		time.Sleep(5 * time.Minute) // however often it is tried
		if got := absent(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}

		d.mu.Lock()
		d.fail, d.linger = nil, 10*time.Minute
		d.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if got := absent(); got != "" {
			t.Errorf("it is connected, but %s", got)
		}
		d.mu.Lock()
		d.fail = errors.New("no route to host")
		d.mu.Unlock()
		time.Sleep(12 * time.Minute)
		a := m.Absences()
		if len(a) != 1 || a[0].Problem != "no route to host" || a[0].Since.Sub(began) < 10*time.Minute {
			t.Errorf("lost after it was connected: %+v", a)
		}
		s.lists <- nil
		settleDown()
		if got := absent(); got != "" {
			t.Errorf("it is listed no longer, but %s", got)
		}
	})
}
