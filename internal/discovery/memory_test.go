package discovery

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// remembering runs a manager with a directory until stop is called.
func remembering(dir string, d *dialer, s Source) (m *Manager, stop func()) {
	manager := NewManager(Config{Sources: []Source{s}, Dir: dir, Connect: d.connect})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- manager.Run(ctx) }()
	synctest.Wait()
	return manager, func() { cancel(); <-ended }
}

func TestAListOutlivesTheCentre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "discovery")
		s := newSource("etcd a:2379")
		_, stop := remembering(dir, newDialer(), s)
		s.lists <- targets("a", "b")
		settleDown()
		stop() // before the next round of saving
		saved := time.Now()

		d := newDialer()
		s = newSource("etcd a:2379")
		m, stop := remembering(dir, d, s)
		time.Sleep(recallAfter - time.Second)
		settleDown()
		if got := d.connected(); got != "" {
			t.Errorf("the old list was taken at once: %s", got)
		}
		time.Sleep(2 * time.Second)
		settleDown()
		if got := d.connected(); got != "etcd a:2379 grpc://a:1; etcd a:2379 grpc://b:1" {
			t.Errorf("connected to %q", got)
		}
		if st := m.Status()[0]; st.Targets != 2 || !st.Heard.IsZero() || saved.Sub(st.StaleSince).Abs() > time.Second {
			t.Errorf("status %+v, saved %v", st, saved)
		}
		s.lists <- targets("b")
		settleDown()
		if got := d.connected(); got != "etcd a:2379 grpc://b:1" {
			t.Errorf("after the source spoke: connected to %q", got)
		}
		if st := m.Status()[0]; st.Heard.IsZero() || !st.StaleSince.IsZero() {
			t.Errorf("status %+v", st)
		}
		stop()
	})
}

func TestAListOfBeforeIsNotTakenWhenTheSourceSpeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, s := t.TempDir(), newSource("consul")
		_, stop := remembering(dir, newDialer(), s)
		s.lists <- targets("old")
		time.Sleep(2 * saveEvery)
		stop()
		d := newDialer()
		s = newSource("consul")
		_, stop = remembering(dir, d, s)
		s.lists <- nil
		time.Sleep(2 * recallAfter)
		settleDown()
		if len(d.attempts) != 0 {
			t.Errorf("attempts %v", d.attempts)
		}
		stop()
	})
}

func TestAListThatCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no JSON":             {"{", ""},
		"a target of no kind": {`{"targets":[{"Service":"s","URL":"ftp://a"},{"Service":"s","URL":"grpc://a:1"}]}`, "x grpc://a:1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, s := newDialer(), newSource("x")
				m, stop := remembering(t.TempDir(), d, s)
				if err := os.WriteFile(m.file(m.slots[0]), []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * recallAfter)
				settleDown()
				if got := d.connected(); got != c.want {
					t.Errorf("connected to %q, want %q", got, c.want)
				}
				stop()
			})
		})
	}
}

// ailing is a source that can have trouble.
type ailing struct {
	*source
	*Trouble
}

func TestStatusTellsWhatIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := ailing{newSource("consul"), NewTrouble(nil, "consul")}
		m, stop := remembering("", newDialer(), a)
		a.Set("no answer")
		if st := m.Status()[0]; st.Problem != "no answer" || !st.StaleSince.IsZero() {
			t.Errorf("nothing was said, so nothing can be stale: %+v", st)
		}
		a.Set("")
		a.lists <- targets("a")
		settleDown()
		if st := m.Status()[0]; st.Problem != "" || !st.StaleSince.IsZero() || st.Targets != 1 || st.Source != "consul" {
			t.Errorf("%+v", st)
		}
		began := time.Now()
		a.Set("no answer")
		time.Sleep(time.Minute)
		a.Set("403 Forbidden")
		if st := m.Status()[0]; st.Problem != "403 Forbidden" || !st.StaleSince.Equal(began) {
			t.Errorf("%+v, began %v", st, began)
		}
		stop()
	})
}

func TestURLsWithPasswordsAreKeptFromOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "discovery")
	m := NewManager(Config{Sources: []Source{newSource("static")}, Dir: dir})
	if err := m.write(m.slots[0], []ops.Target{{Service: "s", URL: "http://u:secret@a:1/debug/pprof"}}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	fi, err := entries[0].Info()
	if err != nil || fi.Mode().Perm() != 0o600 || !strings.HasSuffix(fi.Name(), ".json") {
		t.Error(fi.Name(), fi.Mode(), err)
	}
}
