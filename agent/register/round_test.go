package register_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/agent/register"
	registerconsul "github.com/opscenter/opscenter/agent/register/consul"
	registeretcd "github.com/opscenter/opscenter/agent/register/etcd"
	registernacos "github.com/opscenter/opscenter/agent/register/nacos"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/discovery/consul"
	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
	"github.com/opscenter/opscenter/internal/discovery/etcd"
	"github.com/opscenter/opscenter/internal/discovery/nacos"
	"github.com/opscenter/opscenter/internal/ops"
)

// backend is a registry, how to enter something and how the centre reads it.
type backend struct {
	registry    func() (register.Registry, error)
	source      func() (discovery.Source, error)
	stop, start func()
	forget      func() // what it holds, while it is stopped
}

var backends = map[string]func(t *testing.T) backend{
	"etcd": func(t *testing.T) backend { // the real one
		e := discoverytest.StartEtcd(t)
		return backend{
			registry: func() (register.Registry, error) {
				return registeretcd.New(registeretcd.Config{Endpoints: []string{e.Client}})
			},
			source: func() (discovery.Source, error) {
				return etcd.New(etcd.Config{Endpoints: []string{e.Client}, Prefix: "/services/"})
			},
			stop: func() { e.Kill(t) }, start: func() { e.Start(t) }, forget: func() { e.Forget(t) },
		}
	},
	"consul": func(t *testing.T) backend {
		c := discoverytest.StartConsul(t)
		return backend{
			registry: func() (register.Registry, error) {
				return registerconsul.New(registerconsul.Config{Address: c.Address, Tags: []string{"game"}})
			},
			source: func() (discovery.Source, error) {
				return consul.New(consul.Config{Address: c.Address, Tags: []string{"game"}})
			},
			stop: func() { c.Kill(t) }, start: func() { c.Start(t) }, forget: c.Forget,
		}
	},
	"a real consul": func(t *testing.T) backend { // of make test-full
		c := discoverytest.StartRealConsul(t)
		return backend{
			registry: func() (register.Registry, error) {
				return registerconsul.New(registerconsul.Config{Address: c.Address})
			},
			source: func() (discovery.Source, error) { return consul.New(consul.Config{Address: c.Address}) },
			stop:   func() { c.Kill(t) }, start: func() { c.Start(t) }, forget: func() { c.Forget(t) },
		}
	},
	"nacos": func(t *testing.T) backend {
		n := discoverytest.StartNacos(t)
		n.Guard("centre", "sesame")
		password := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(password, []byte("sesame\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return backend{
			registry: func() (register.Registry, error) {
				return registernacos.New(registernacos.Config{Addresses: []string{n.Address}, User: "centre", PasswordFile: password})
			},
			source: func() (discovery.Source, error) {
				return nacos.New(nacos.Config{Addresses: []string{n.Address}, User: "centre", PasswordFile: password, Refresh: 50 * time.Millisecond})
			},
			stop: func() { n.Kill(t) }, start: func() { n.Start(t) }, forget: n.Forget,
		}
	},
}

// read runs a source and hands over its lists.
func read(t *testing.T, b backend) <-chan []ops.Target {
	t.Helper()
	s, err := b.source()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lists, ended := make(chan []ops.Target, 1000), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func(l []ops.Target) { lists <- l }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return lists
}

// expect waits for a list of so many targets.
func expect(t *testing.T, lists <-chan []ops.Target, n int) []ops.Target {
	t.Helper()
	var last []ops.Target
	for deadline := time.After(time.Minute); ; {
		select {
		case last = <-lists:
			if len(last) == n {
				return last
			}
		case <-deadline:
			t.Fatalf("the last list is %+v, want %d", last, n)
		}
	}
}

func enter(t *testing.T, b backend, a *agent.Agent) *register.Registration {
	t.Helper()
	registry, err := b.registry()
	if err != nil {
		t.Fatal(err)
	}
	r, err := register.Start(a, register.Config{Registry: registry, Address: ":6060", TTL: 2 * time.Second, Scheme: "http"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What the agent enters, the centre's source finds: under the agent's names, with
// its identity; again after the registry was lost; and no more after Close.
func TestThereAndBack(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			a, err := agent.Start(agent.Config{Center: "off", Project: "color-game", Service: "user-service", Labels: map[string]string{"zone": "a"}, SpoolDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			lists := read(t, b)
			r := enter(t, b, a)
			defer r.Close()
			found := expect(t, lists, 1)[0]
			if found.Project != "color-game" || found.Service != "user-service" || found.Labels["zone"] != "a" ||
				found.Instance != ops.InstanceID(a.BootID()) || found.URL != "http://127.0.0.1:6060/debug/pprof" {
				t.Errorf("%+v", found)
			}
			b.stop()
			b.forget()
			b.start()
			again := read(t, b) // the first source may have seen nothing of it
			if f := expect(t, again, 1)[0]; f.Instance != found.Instance {
				t.Errorf("%+v", f)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			expect(t, again, 0)
		})
	}
}

// A process that is killed says nothing: its entry ends with the TTL. One whose
// registry was away for less is still there.
func TestAProcessThatDies(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			registry, err := b.registry()
			if err != nil {
				t.Fatal(err)
			}
			lists := read(t, b)
			e := register.Entry{Project: "color-game", Service: "user-service", ID: "boot-1", Host: "10.0.0.7", Port: 6060, Meta: map[string]string{"ops_project": "color-game"}}
			if err := registry.Enter(t.Context(), e, 2*time.Second); err != nil {
				t.Fatal(err)
			}
			expect(t, lists, 1)
			if err := registry.Keep(t.Context(), e, 2*time.Second); err != nil {
				t.Error(err)
			}
			expect(t, lists, 0)
			if !strings.Contains(name, "consul") { // whose check is there until a minute later
				if err := registry.Keep(t.Context(), e, 2*time.Second); err == nil {
					t.Error("an entry that has ended is kept")
				}
			}
		})
	}
}

func TestAddressesOfARegistry(t *testing.T) {
	for _, make := range []func(string) error{
		func(a string) error {
			_, err := registeretcd.New(registeretcd.Config{Endpoints: []string{a}})
			return err
		},
		func(a string) error {
			_, err := registernacos.New(registernacos.Config{Addresses: []string{a}})
			return err
		},
		func(a string) error { _, err := registerconsul.New(registerconsul.Config{Address: a}); return err },
	} {
		if err := make("10.0.0.1:1"); err != nil {
			t.Error(err)
		}
		for _, a := range []string{"ftp://a:1", "http://user:secret@a:1", "http://a:1?token=secret"} {
			err := make(a)
			if err == nil || !strings.Contains(err.Error(), "a registry's address is not valid: write host:port or https://host:port, without user and query") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", a, err)
			}
		}
	}
	if _, err := registeretcd.New(registeretcd.Config{Endpoints: []string{"a:1"}, User: "u"}); err == nil || err.Error() != "register: etcd: User and PasswordFile belong together: give both or none" {
		t.Error(err)
	}
	if _, err := registernacos.New(registernacos.Config{}); err == nil || err.Error() != "nacos: register: no address of the registry is given" {
		t.Error(err)
	}
}
