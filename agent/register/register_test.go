package register

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/agent"
)

func TestMain(m *testing.M) {
	if os.Getenv("OPS_TEST_CHILD") != "" {
		child()
	}
	goleak.VerifyTestMain(m)
}

var self = agent.Self{Project: "color-game", Service: "user-service", BootID: "boot-1", Labels: map[string]string{"zone": "a"}}

// book is a registry whose answers a test decides.
type book struct {
	mu      sync.Mutex
	calls   []string
	fail    error // of every call
	panics  bool
	hangs   bool
	entries map[string]Entry
}

func (b *book) Server() string { return "127.0.0.1:1" }

func (b *book) call(ctx context.Context, what string) error {
	b.mu.Lock()
	b.calls = append(b.calls, what)
	b.mu.Unlock()
	switch {
	case b.panics:
		panic("boom")
	case b.hangs:
		<-ctx.Done()
		return ctx.Err()
	}
	return b.fail
}

func (b *book) Enter(ctx context.Context, e Entry, _ time.Duration) error {
	if err := b.call(ctx, "enter"); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries == nil {
		b.entries = map[string]Entry{}
	}
	b.entries[e.ID] = e
	return nil
}

func (b *book) Keep(ctx context.Context, _ Entry, _ time.Duration) error {
	if err := b.call(ctx, "keep"); err != nil {
		return err
	}
	if len(b.all()) == 0 {
		return errors.New("unknown")
	}
	return nil
}

func (b *book) Remove(ctx context.Context, _ Entry) error {
	b.forget()
	return b.call(ctx, "remove")
}

func (b *book) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.entries)
}

func (b *book) all() map[string]Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.entries)
}

func (b *book) asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

func begin(t *testing.T, c Config) *Registration {
	t.Helper()
	r, err := startAs(self, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnEntryIsKeptAndTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &book{}
		r := begin(t, Config{Registry: b, Address: "10.0.0.7:9000", Scheme: "grpc", PprofPort: 6060, Meta: map[string]string{"zone": "b"}})
		time.Sleep(21 * time.Second) // entered at 0, kept at 5, 10, 15, 20
		synctest.Wait()
		if r.Problem() != nil || len(b.asked()) != 5 {
			t.Errorf("%v, %v", r.Problem(), b.asked())
		}
		e := b.all()["boot-1"]
		for k, want := range map[string]string{"ops_project": "color-game", "ops_instance": "boot-1", "ops_scheme": "grpc", "ops_pprof_port": "6060", "zone": "b"} {
			if e.Meta[k] != want {
				t.Errorf("%s is %q, want %q", k, e.Meta[k], want)
			}
		}
		if e.Address() != "10.0.0.7:9000" || e.Service != "user-service" {
			t.Errorf("%+v", e)
		}
		b.forget() // lost: entered again within a second of the next heartbeat
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if len(b.all()) != 1 || r.Problem() != nil {
			t.Errorf("%v, %v", b.asked(), r.Problem())
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil || len(b.all()) != 0 {
			t.Errorf("%v, %v", err, b.all())
		}
	})
}

func TestNothingHarmsTheHost(t *testing.T) {
	for name, b := range map[string]*book{"away": {fail: errors.New("connection refused")}, "panics": {panics: true}, "hangs": {hangs: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := begin(t, Config{Registry: b, Address: ":6060"})
				time.Sleep(time.Hour)
				synctest.Wait()
				if r.Problem() == nil {
					t.Error("no problem is told")
				}
				// Every half a minute at most, and not much more seldom.
				if n := len(b.asked()); n < 60 || n > 300 {
					t.Errorf("%d attempts in an hour", n)
				}
				began := time.Now()
				if err := r.Close(); err != nil || time.Since(began) > closeWithin+callWithin {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		})
	}
}

func TestOff(t *testing.T) {
	r, err := Start(nil, Config{})
	if r != nil || err != nil || r.Close() != nil || r.Problem() != nil {
		t.Error(r, err)
	}
}

func TestWhatCannotBe(t *testing.T) {
	b := &book{}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Address: ":1"}, "register: no Registry: make one with the package of your registry, such as agent/register/etcd"},
		{Config{Registry: b, Address: "host"}, `register: address "host" is none: use host:port, or :port for this host's own`},
		{Config{Registry: b, Address: "host:0"}, `register: address "host:0" is none: use host:port, or :port for this host's own`},
		{Config{Registry: b, Address: ":1", Scheme: "ftp"}, `register: scheme "ftp" is none: use http, https, grpc or grpcs`},
		{Config{Registry: b, Address: ":1", PprofPort: -1}, "register: pprof port -1 is none: use 1 to 65535"},
		{Config{Registry: b, Address: ":1", TTL: time.Millisecond}, "register: TTL 1ms is too short: use at least 1s"},
	} {
		if _, err := startAs(self, c.cfg); err == nil || err.Error() != c.want {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
}

// child registers and waits for its signal.
func child() {
	f := fileBook(os.Getenv("OPS_TEST_CHILD"))
	if _, err := startAs(self, Config{Registry: f, Address: "10.0.0.7:1", Signal: true}); err != nil {
		panic(err)
	}
	time.Sleep(time.Minute)
	os.Exit(3)
}

// fileBook is a registry that is a folder.
type fileBook string

func (f fileBook) Server() string { return "127.0.0.1:1" }
func (f fileBook) Enter(_ context.Context, e Entry, _ time.Duration) error {
	return os.WriteFile(filepath.Join(string(f), e.ID), nil, 0o600)
}
func (f fileBook) Keep(context.Context, Entry, time.Duration) error { return nil }
func (f fileBook) Remove(_ context.Context, e Entry) error {
	return os.Remove(filepath.Join(string(f), e.ID))
}
