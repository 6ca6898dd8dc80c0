package discovery

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

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
