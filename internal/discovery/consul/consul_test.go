package consul

import (
	"context"
	"encoding/json"
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
		c := discoverytest.StartConsul(t)
		c.Set(t, initial)
		s, err := New(Config{Address: c.URL})
		if err != nil {
			t.Fatal(err)
		}
		return opstest.SourceBackend{
			Source: s,
			Set:    func(t *testing.T, targets []ops.Target) { c.Set(t, targets) },
			Break:  func(*testing.T) { c.Break() },
			Stop:   func(t *testing.T) { c.Kill(t) },
			Start:  func(t *testing.T) { c.Start(t) },
			Refuse: func(*testing.T) string {
				c.Guard("secret")
				return "shows nothing without a token: set token_file"
			},
			Want: func(t *testing.T, n int) { c.Want(t, initial, n) },
		}
	})
}

// An answer to /v1/health/service/user-service in the shape that Consul documents,
// cut to what matters.
const documented = `[
 {"Node":{"ID":"6d1e","Node":"node-a","Address":"10.0.0.1","Datacenter":"dc1"},
  "Service":{"ID":"user-1","Service":"user-service","Tags":["canary","zone=a"],"Address":"","Meta":{"version":"1.2.3","ops_pprof_port":"6060"},"Port":9000,"Weights":{"Passing":1,"Warning":1}},
  "Checks":[{"Node":"node-a","CheckID":"serfHealth","Name":"Serf Health Status","Status":"passing","Output":"Agent alive and reachable"},
            {"Node":"node-a","CheckID":"service:user-1","Name":"Service check","Status":"critical","Output":"TTL expired (last output before timeout follows): fine\nmore","ServiceID":"user-1"}]},
 {"Node":{"Node":"node-b","Address":"10.0.0.2"},
  "Service":{"ID":"user-2","Service":"user-service","Tags":null,"Address":"10.1.0.2","Port":9000},
  "Checks":[{"CheckID":"serfHealth","Status":"passing"}]},
 {"Node":{"Node":"node-c","Address":"10.0.0.3"},"Service":{"ID":"user-3","Service":"user-service","Port":0},"Checks":[]}
]`

func TestWhatAnInstanceSays(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"passing only", Config{}, "default/user-service http://10.1.0.2:9000/debug/pprof map[node:node-b]"},
		{"all, with what is wrong", Config{All: true}, `default/user-service http://10.0.0.1:6060/debug/pprof map[node:node-a tags:canary version:1.2.3 zone:a] critical: TTL expired (last output before timeout follows): fine
default/user-service http://10.1.0.2:9000/debug/pprof map[node:node-b]`},
		{"named", Config{All: true, Services: []string{"user-service"}, Datacenter: "dc2", Naming: discovery.Naming{Project: "color-game", Scheme: "grpc", Labels: map[string]string{"dc": "2"}}}, `color-game/user-service grpc://10.0.0.1:6060 map[dc:2 node:node-a tags:canary version:1.2.3 zone:a] critical: TTL expired (last output before timeout follows): fine
color-game/user-service grpc://10.1.0.2:9000 map[dc:2 node:node-b]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			standIn := discoverytest.StartConsul(t)
			var entries []any
			if err := json.Unmarshal([]byte(documented), &entries); err != nil {
				t.Fatal(err)
			}
			standIn.SetEntries("user-service", entries)
			c.cfg.Address = standIn.URL
			s, lists := run(t, c.cfg)
			if got := <-lists; got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			eventually(t, s, `instance "user-3" of service "user-service": port 0 is none: register one, or set port in the source's configuration`)
			for _, q := range standIn.Queries() {
				if q.Get("dc") != c.cfg.Datacenter {
					t.Errorf("asked for %v", q)
				}
			}
		})
	}
}

// Who is registered should be there, but for who is in maintenance.
func TestHowManyThereShouldBe(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"registered", Config{}, "map[default/other-service:{1 Consul service user-service 0 none} default/user-service:{2 Consul service user-service 0 none}]"},
		{"left alone", Config{NoExpect: true}, "map[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			standIn := discoverytest.StartConsul(t)
			var entries []any
			for i, status := range []string{"passing", "critical", "maintenance", "passing"} {
				check, meta := map[string]any{"CheckID": "service:x", "Status": status}, map[string]any{}
				if status == "maintenance" {
					check["CheckID"], check["Status"] = "_service_maintenance:x", "critical"
				}
				if i == 3 {
					meta["ops_service"] = "other-service"
				}
				entries = append(entries, map[string]any{"Service": map[string]any{"ID": fmt.Sprint(i), "Address": fmt.Sprint("10.0.0.", i), "Port": 6060, "Meta": meta}, "Checks": []any{check}})
			}
			standIn.SetEntries("user-service", entries)
			c.cfg.Address = standIn.URL
			s, lists := run(t, c.cfg)
			if got, want := <-lists, "default/user-service http://10.0.0.0:6060/debug/pprof map[]\ndefault/other-service http://10.0.0.3:6060/debug/pprof map[]"; got != want {
				t.Errorf("listed\n%s\nwant\n%s", got, want)
			}
			got := ""
			for deadline := time.Now().Add(time.Minute); got != c.want && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				want, _ := s.Expected()
				got = strings.ReplaceAll(fmt.Sprint(want), (time.Time{}).String(), "none")
			}
			if got != c.want {
				t.Errorf("there should be\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestATokenFromAFile(t *testing.T) {
	c := discoverytest.StartConsul(t)
	c.Guard("secret")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, lists := run(t, Config{Address: c.URL, TokenFile: file})
	eventually(t, s, "refuses to answer (403) with this token: let its policy read nodes and services")
	if strings.Contains(s.Problem(), "wrong") {
		t.Error("the token is told: " + s.Problem())
	}
	if err := os.WriteFile(file, []byte(" secret\n"), 0o600); err != nil { // without a restart
		t.Fatal(err)
	}
	if got := <-lists; got != "" {
		t.Error(got)
	}
}

func run(t *testing.T, cfg Config) (*Source, chan string) {
	t.Helper()
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
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.Problem(), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("problem %q, want one with %q", s.Problem(), want)
		}
	}
}

func TestNew(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, ""},
		{Config{Address: "https://consul.example.com:8501", TLS: discovery.TLS{ServerName: "x"}}, ""},
		{Config{Address: "consul"}, `address: "consul" is none: write host:port or https://host:port`},
		{Config{Address: "ftp://a:1"}, `address: "ftp://a:1" is none: write host:port or https://host:port`},
		{Config{TLS: discovery.TLS{ServerName: "x"}}, "tls: the address is not https: write it as https://host:port"},
		{Config{Services: []string{""}}, "services: a name is empty"},
		{Config{Services: make([]string, 151)}, "services: a name is empty"},
		{Config{Naming: discovery.Naming{Project: "a b"}}, `project: "a b" is not a valid name: use letters, digits, dot, underscore and hyphen`},
	} {
		_, err := New(c.cfg)
		if (err == nil) != (c.want == "") || err != nil && (err.Error() != c.want || ops.KindOf(err) != ops.Invalid) {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
}
