package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const prefix = "/services/"

func client(t *testing.T, e *discoverytest.Etcd, user, password string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Client}, DialTimeout: 5 * time.Second, Username: user, Password: password, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// with runs fn with a client that is closed before the suite looks for goroutines.
func with(t *testing.T, e *discoverytest.Etcd, fn func(context.Context, *clientv3.Client) error) {
	t.Helper()
	c := client(t, e, "", "")
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := fn(ctx, c); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, e *discoverytest.Etcd, key, val string) {
	t.Helper()
	with(t, e, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Put(ctx, key, val)
		return err
	})
}

// set makes the cluster hold these and no other.
func set(t *testing.T, e *discoverytest.Etcd, targets []ops.Target) {
	with(t, e, func(ctx context.Context, c *clientv3.Client) error {
		wanted := map[string]string{}
		for i, tg := range targets {
			b, err := json.Marshal(map[string]any{"url": tg.URL, "labels": tg.Labels})
			if err != nil {
				return err
			}
			wanted[fmt.Sprintf("%s%s/%s/%05d", prefix, tg.Project, tg.Service, i)] = string(b)
		}
		old, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		var ops []clientv3.Op
		for _, kv := range old.Kvs {
			if _, stays := wanted[string(kv.Key)]; !stays {
				ops = append(ops, clientv3.OpDelete(string(kv.Key)))
			}
		}
		for k, v := range wanted {
			ops = append(ops, clientv3.OpPut(k, v))
		}
		for batch := range slices.Chunk(ops, 100) {
			if _, err := c.Txn(ctx).Then(batch...).Commit(); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestSource(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("guess\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	opstest.TestSource(t, func(t *testing.T, initial []ops.Target) opstest.SourceBackend {
		e := discoverytest.StartEtcd(t)
		set(t, e, initial)
		s, err := New(Config{Endpoints: []string{e.Client}, Prefix: prefix, User: "centre", PasswordFile: password, probe: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		return opstest.SourceBackend{
			Source: s,
			Set:    func(t *testing.T, targets []ops.Target) { set(t, e, targets) },
			Break: func(t *testing.T) {
				for i, tg := range initial {
					put(t, e, fmt.Sprintf("%s%s/%s/%05d", prefix, tg.Project, tg.Service, i), `{"url": [`)
				}
			},
			Stop:  func(t *testing.T) { e.Kill(t) },
			Start: func(t *testing.T) { e.Start(t) },
			Refuse: func(t *testing.T) string {
				guarded(t, e)
				return `refuses user "centre": check user and password_file`
			},
		}
	})
}

// guarded makes the cluster ask for passwords.
func guarded(t *testing.T, e *discoverytest.Etcd) {
	with(t, e, func(ctx context.Context, c *clientv3.Client) error {
		for _, step := range []func() error{
			func() error { _, err := c.RoleAdd(ctx, "root"); return err },
			func() error { _, err := c.UserAdd(ctx, "root", "top"); return err },
			func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
			func() error { _, err := c.UserAdd(ctx, "reader", "may read"); return err },
			func() error { _, err := c.RoleAdd(ctx, "reader"); return err },
			func() error {
				_, err := c.RoleGrantPermission(ctx, "reader", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermRead))
				return err
			},
			func() error { _, err := c.UserGrantRole(ctx, "reader", "reader"); return err },
			func() error { _, err := c.AuthEnable(ctx); return err },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// watched runs a source and hands over its lists as "service url" lines.
func watched(t *testing.T, cfg Config) (*Source, chan string) {
	t.Helper()
	cfg.probe = 200 * time.Millisecond
	made, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lists, ended := make(chan string, 1000), make(chan error, 1)
	go func() {
		ended <- made.Run(ctx, func(l []ops.Target) {
			var lines []string
			for _, tg := range l {
				lines = append(lines, fmt.Sprintf("%s/%s %s %v", tg.Project, tg.Service, tg.URL, tg.Labels))
			}
			lists <- strings.Join(lines, "\n")
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return made.(*Source), lists
}

func expect(t *testing.T, lists chan string, want string) {
	t.Helper()
	last := "(nothing)"
	for deadline := time.After(time.Minute); ; {
		select {
		case last = <-lists:
			if last == want {
				return
			}
		case <-deadline:
			t.Fatalf("the list is\n%s\nwant\n%s", last, want)
		}
	}
}

func TestAUserMayReadOnlyWhatIsGranted(t *testing.T) {
	e := discoverytest.StartEtcd(t)
	put(t, e, "/services/user-service/a", "10.0.0.1:6060")
	guarded(t, e)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("may read"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, lists := watched(t, Config{Endpoints: []string{e.Client}, Prefix: prefix, User: "reader", PasswordFile: password})
	expect(t, lists, "default/user-service http://10.0.0.1:6060/debug/pprof map[]")
	s, _ := watched(t, Config{Endpoints: []string{e.Client}, Prefix: "/secrets/", User: "reader", PasswordFile: password})
	eventually(t, s, `refuses keys that begin with "/secrets/" to user "reader": grant the user's role to read them`)
	s, _ = watched(t, Config{Endpoints: []string{e.Client}, Prefix: prefix})
	eventually(t, s, "wants to know who asks: set user and password_file")
}

func eventually(t *testing.T, s *Source, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.Problem(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("problem %q, want one with %q", s.Problem(), want)
		}
	}
}

func TestALeaseThatEnds(t *testing.T) {
	e := discoverytest.StartEtcd(t)
	with(t, e, func(ctx context.Context, c *clientv3.Client) error {
		lease, err := c.Grant(ctx, 1)
		if err != nil {
			return err
		}
		_, err = c.Put(ctx, "/services/user-service/a", "10.0.0.1:6060", clientv3.WithLease(lease.ID))
		return err
	})
	_, lists := watched(t, Config{Endpoints: []string{e.Client}, Prefix: prefix})
	expect(t, lists, "default/user-service http://10.0.0.1:6060/debug/pprof map[]")
	expect(t, lists, "")
}

// What a source misses while the cluster is away may be compacted before it is
// back: it lists anew.
func TestCompactionWhileAway(t *testing.T) {
	e := discoverytest.StartEtcd(t)
	put(t, e, "/services/user-service/a", "10.0.0.1:6060")
	s, lists := watched(t, Config{Endpoints: []string{e.Client}, Prefix: prefix})
	expect(t, lists, "default/user-service http://10.0.0.1:6060/debug/pprof map[]")

	// From a revision that is compacted, a watch must end as one that is listed again.
	c := client(t, e, "", "")
	defer c.Close()
	for range 5 {
		put(t, e, "/services/user-service/b", "10.0.0.2:6060")
	}
	r, err := c.Get(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(t.Context(), r.Header.Revision); err != nil {
		t.Fatal(err)
	}
	apart := &Source{cfg: s.cfg, probe: time.Hour, Trouble: s.Trouble, known: map[string]ops.Target{}, odd: map[string]string{}}
	again, err := apart.watch(t.Context(), c, 1, func([]ops.Target) {})
	if !again || err == nil || !strings.Contains(err.Error(), "compacted") {
		t.Errorf("again %v, error %v", again, err)
	}
	expect(t, lists, "default/user-service http://10.0.0.1:6060/debug/pprof map[]\ndefault/user-service http://10.0.0.2:6060/debug/pprof map[]")
}

// A cluster that comes back without its data, or with older data, has another past.
func TestAClusterMadeAnew(t *testing.T) {
	e := discoverytest.StartEtcd(t)
	for range 20 {
		put(t, e, "/services/user-service/a", "10.0.0.1:6060")
	}
	_, lists := watched(t, Config{Endpoints: []string{e.Client}, Prefix: prefix})
	expect(t, lists, "default/user-service http://10.0.0.1:6060/debug/pprof map[]")
	e.Kill(t)
	e.Forget(t)
	e.Start(t)
	put(t, e, "/services/user-service/b", "10.0.0.2:6060")
	expect(t, lists, "default/user-service http://10.0.0.2:6060/debug/pprof map[]")
}
