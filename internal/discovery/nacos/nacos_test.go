package nacos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSource(t *testing.T) {
	opstest.TestSource(t, func(t *testing.T, initial []ops.Target) opstest.SourceBackend {
		n := discoverytest.StartNacos(t)
		n.Set(t, initial)
		s, err := New(Config{Addresses: []string{n.URL}, Refresh: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		return opstest.SourceBackend{
			Source: s,
			Set:    func(t *testing.T, targets []ops.Target) { n.Set(t, targets) },
			Break:  func(*testing.T) { n.Break() },
			Stop:   func(t *testing.T) { n.Kill(t) },
			Start:  func(t *testing.T) { n.Start(t) },
			Refuse: func(*testing.T) string {
				n.Guard("nacos", "secret")
				return "refuses to answer (403) without a user: set user and password_file"
			},
		}
	})
}

func run(t *testing.T, cfg Config) (*Source, chan string) {
	t.Helper()
	cfg.Refresh = 20 * time.Millisecond
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lists, ended := make(chan string, 100), make(chan error, 1)
	go func() {
		ended <- s.Run(ctx, func(l []ops.Target) {
			var lines []string
			for _, tg := range l {
				lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s/%s %s %v %s", tg.Project, tg.Service, tg.URL, tg.Labels, tg.Complaint)))
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
	return s.(*Source), lists
}

func eventually(t *testing.T, s *Source, want string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(s.Problem(), want) || want == "" && s.Problem() != ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("problem %q, want one with %q", s.Problem(), want)
		}
	}
}

func TestWhatAnInstanceSays(t *testing.T) {
	n := discoverytest.StartNacos(t)
	n.SetInstances("user-service",
		discoverytest.NacosInstance{IP: "10.0.0.1", Port: 9000, Healthy: true, Enabled: true, Cluster: "east", Metadata: map[string]string{"ops_pprof_port": "6060", "version": "1.2.3", "preserved.heart.beat.interval": "5000"}},
		discoverytest.NacosInstance{IP: "10.0.0.2", Port: 9000, Enabled: true, Cluster: "DEFAULT"},
		discoverytest.NacosInstance{IP: "10.0.0.3", Port: 9000, Healthy: true, Cluster: "DEFAULT"},
		discoverytest.NacosInstance{IP: "10.0.0.4", Healthy: true, Enabled: true})
	n.SetInstances("game-service", discoverytest.NacosInstance{IP: "10.0.0.9", Port: 9000, Healthy: true, Enabled: true})
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"what is well", Config{}, "default/user-service http://10.0.0.1:6060/debug/pprof map[cluster:east version:1.2.3]\ndefault/game-service http://10.0.0.9:9000/debug/pprof map[]"},
		{"all of one service", Config{All: true, Services: []string{"user-service"}, Naming: discovery.Naming{Project: "color-game", Scheme: "grpc"}},
			`color-game/user-service grpc://10.0.0.1:6060 map[cluster:east version:1.2.3]
color-game/user-service grpc://10.0.0.2:9000 map[] unhealthy: Nacos hears no heartbeat, or its check fails
color-game/user-service grpc://10.0.0.3:9000 map[] disabled: taken out of service in Nacos`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Addresses = []string{n.Address}
			s, lists := run(t, c.cfg)
			if got := <-lists; got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			eventually(t, s, `instance "10.0.0.4:0" of service "user-service": port 0 is none`)
		})
	}
}

// A user logs in once, and again when the token is refused; neither the password
// nor the token is in an address or in what is told.
func TestAUser(t *testing.T) {
	n := discoverytest.StartNacos(t)
	n.Guard("centre", "open sesame")
	n.SetInstances("user-service", discoverytest.NacosInstance{IP: "10.0.0.1", Port: 6060, Healthy: true, Enabled: true})
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong")
	s, lists := run(t, Config{Addresses: []string{n.Address}, User: "centre", PasswordFile: file})
	eventually(t, s, `refuses user "centre" (403): check user and password_file, and that it may read the namespace`)
	write("open sesame\n") // without a restart
	const want = "default/user-service http://10.0.0.1:6060/debug/pprof map[]"
	if got := <-lists; got != want {
		t.Error(got)
	}
	n.Guard("centre", "open sesame") // the token of before is refused
	n.SetInstances("user-service")
	if got := <-lists; got != "" {
		t.Error(got)
	}
	eventually(t, s, "")
	for _, u := range n.URLs() {
		if strings.Contains(u, "token") || strings.Contains(u, "sesame") {
			t.Fatal("a secret is in an address: " + u)
		}
	}
}

func TestTheNextServerIsAsked(t *testing.T) {
	n := discoverytest.StartNacos(t)
	n.SetInstances("user-service", discoverytest.NacosInstance{IP: "10.0.0.1", Port: 6060, Healthy: true, Enabled: true})
	_, lists := run(t, Config{Addresses: []string{discoverytest.FreeAddress(t), n.URL}})
	if got := <-lists; got != "default/user-service http://10.0.0.1:6060/debug/pprof map[]" {
		t.Error(got)
	}
}

func TestManyServices(t *testing.T) {
	n := discoverytest.StartNacos(t)
	for i := range maxServices {
		n.SetInstances(fmt.Sprintf("service-%03d", i), discoverytest.NacosInstance{IP: fmt.Sprintf("10.0.%d.%d", i>>8, i&255), Port: 6060, Healthy: true, Enabled: true})
	}
	s, lists := run(t, Config{Addresses: []string{n.URL}})
	if got := strings.Count(<-lists, "\n") + 1; got != maxServices {
		t.Errorf("%d instances", got)
	}
	n.SetInstances("one-more")
	eventually(t, s, "501 services are too many for one source: name at most 500 in services")
}

func TestWhatIsNoNacos(t *testing.T) {
	n := discoverytest.StartNacos(t)
	s, _ := run(t, Config{Addresses: []string{n.URL + "/elsewhere"}})
	eventually(t, s, "answers 404: ")
}

func TestNew(t *testing.T) {
	for _, c := range []struct {
		cfg        Config
		name, want string
	}{
		{Config{}, "nacos 127.0.0.1:8848 DEFAULT_GROUP", ""},
		{Config{Addresses: []string{"a", "http://b:1/registry/"}, Namespace: "games", Group: "blue"}, "nacos a:8848,b:1 games blue", ""},
		{Config{Addresses: []string{"https://nacos.example.com"}, TLS: discovery.TLS{ServerName: "x"}}, "nacos nacos.example.com DEFAULT_GROUP", ""},
		{Config{Addresses: []string{"ftp://a:1"}}, "", `addresses: "ftp://a:1" is none: write host:port or https://host:port`},
		{Config{Addresses: []string{"http://u:p@a:1"}}, "", `addresses: "http://u:xxxxx@a:1" is none: write host:port or https://host:port`},
		{Config{Addresses: []string{"a:1", "https://b:1"}}, "", "addresses: some are https and some are not: use one for all"},
		{Config{TLS: discovery.TLS{ServerName: "x"}}, "", "tls: the addresses are not https: write them as https://host:port"},
		{Config{User: "x"}, "", "user and password_file belong together: give both or none"},
		{Config{Services: []string{""}}, "", "services: a name is empty"},
		{Config{Refresh: -time.Second}, "", "refresh: -1s is negative: use one such as 5s"},
		{Config{Naming: discovery.Naming{Port: -1}}, "", "port: -1 is none: use 1 to 65535"},
	} {
		s, err := New(c.cfg)
		switch {
		case c.want == "" && (err != nil || s.Name() != c.name):
			t.Errorf("%v, %v", s, err)
		case c.want != "" && (err == nil || err.Error() != c.want || ops.KindOf(err) != ops.Invalid):
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
}
