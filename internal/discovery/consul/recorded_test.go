package consul

import (
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
)

var record = flag.Bool("record", false, "record what the Consul of OPS_BACKENDS says into testdata anew")

// played is a source of what a Consul says, or once said.
type played struct {
	*testing.T
	tape  *discoverytest.Tape
	real  *discoverytest.RealConsul // nil = its tape is played
	s     *Source
	lists chan string
	last  string
}

// play runs a test with the tape of its name and, where OPS_BACKENDS has one, with
// a real Consul too, which -record writes the tape from. guarded = one with an ACL.
func play(t *testing.T, guarded bool, cfg Config, test func(p *played)) {
	file := filepath.Join("testdata", filepath.Base(t.Name())+".json")
	begin := func(t *testing.T, tape *discoverytest.Tape, server *discoverytest.RealConsul) {
		cfg := cfg
		cfg.Address, cfg.NoExpect = tape.Address, true // the tapes have what passes alone
		p := &played{T: t, tape: tape, real: server}
		p.s, p.lists = run(t, cfg)
		test(p)
	}
	if os.Getenv("OPS_BACKENDS") != "" {
		t.Run("real", func(t *testing.T) {
			c := discoverytest.StartRealConsul(t)
			if guarded {
				c.Guard(t)
			}
			to := ""
			if *record {
				to = file
			}
			begin(t, discoverytest.RecordTape(t, to, c.Original()), c)
		})
	}
	t.Run("recorded", func(t *testing.T) {
		tape := discoverytest.PlayTape(t, file)
		tape.BuiltFrom(t, "../../../scripts/backends.sh", "consul")
		begin(t, tape, nil)
	})
}

// expect waits for this list.
func (p *played) expect(want string) {
	p.Helper()
	for deadline := time.After(time.Minute); p.last != want || want == ""; {
		select {
		case p.last = <-p.lists:
			if p.last == want {
				return
			}
		case <-deadline:
			p.Fatalf("the list is\n%s\nwant\n%s\nproblem %q", p.last, want, p.s.Problem())
		}
	}
}

// problem waits until the source has this one, or none when want is empty. A query
// that is held for a minute may come first.
func (p *played) problem(want string) {
	p.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(p.s.Problem(), want) || want == "" && p.s.Problem() != ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("problem %q, want one with %q", p.s.Problem(), want)
		}
	}
}

func (p *played) put(path string, body any) { p.real.Call(p, http.MethodPut, path, body) }

// enter registers an instance whose check passes as long as it is said.
func (p *played) enter(id string, port int, tags ...string) {
	p.put("/v1/agent/service/register", map[string]any{
		"ID": id, "Name": "user-service", "Address": "10.0.0.7", "Port": port, "Tags": tags, "Meta": map[string]string{"version": "1.2.3"},
		"Check": map[string]any{"CheckID": "service:" + id, "TTL": "10m", "Status": "passing"},
	})
}

func (p *played) says(id, status, note string) {
	p.put("/v1/agent/check/update/service:"+id, map[string]any{"Status": status, "Output": note})
}

const (
	one   = "default/user-service http://10.0.0.7:6060/debug/pprof map[node:test version:1.2.3 zone:a]"
	two   = "default/user-service http://10.0.0.7:6061/debug/pprof map[node:test tags:canary version:1.2.3]"
	moved = "default/user-service http://10.0.0.7:7061/debug/pprof map[node:test version:1.2.3]"
)

// What a Consul said to the source, and what the source made of it.
func TestRecorded(t *testing.T) {
	t.Run("passing", func(t *testing.T) {
		play(t, false, Config{}, func(p *played) {
			p.expect("")
			p.tape.Scene(func() { p.enter("a", 6060, "zone=a"); p.enter("b", 6061, "canary") })
			p.expect(one + "\n" + two)
			p.tape.Scene(func() { p.says("a", "critical", "dial: connection refused") })
			p.expect(two)
			p.tape.Scene(func() { p.says("a", "passing", "") })
			p.expect(one + "\n" + two)
			p.tape.Scene(func() { p.enter("b", 7061) })
			p.expect(one + "\n" + moved)
			p.tape.Down(func() { p.real.Kill(p) })
			p.problem("connection refused")
			p.tape.Up(func() { p.real.Start(p) })
			p.problem("")
			p.tape.Scene(func() { p.put("/v1/agent/service/deregister/b", nil) })
			p.expect(one)
			p.tape.Scene(func() { p.put("/v1/agent/service/deregister/a", nil) })
			p.expect("")
		})
	})
	t.Run("all", func(t *testing.T) {
		play(t, false, Config{All: true, Services: []string{"user-service"}}, func(p *played) {
			p.expect("")
			p.tape.Scene(func() { p.enter("a", 6060, "zone=a"); p.enter("b", 6061, "canary") })
			p.expect(one + "\n" + two)
			p.tape.Scene(func() { p.says("a", "warning", "slow: 900 ms\nand more") })
			p.expect(one + " warning: slow: 900 ms\n" + two)
			p.tape.Scene(func() { p.says("a", "critical", "dial: connection refused") })
			p.expect(one + " critical: dial: connection refused\n" + two)
			p.tape.Scene(func() { p.put("/v1/agent/service/maintenance/b?enable=true&reason=new+rules", nil) })
			p.expect(one + " critical: dial: connection refused\n" + two + " maintenance: new rules")
		})
	})
}

// Consul refuses only a token that it does not know. Who may see nothing is
// answered that there is nothing, which nobody must believe.
func TestRecordedRefusals(t *testing.T) {
	const unseen = "22222222-0000-4000-8000-000000000002"
	token := filepath.Join(t.TempDir(), "token")
	for _, c := range []struct {
		name, token string
		cfg         Config
		want        string
	}{
		{"anonymous", "", Config{}, "shows nothing without a token: set token_file"},
		{"anonymous-named", "", Config{Services: []string{"user-service"}}, "shows nothing without a token: set token_file"},
		{"unknown-token", "33333333-0000-4000-8000-000000000003", Config{TokenFile: token}, "refuses to answer (403) with this token: let its policy read nodes and services"},
		{"powerless-token", unseen, Config{TokenFile: token}, "shows nothing with this token: let its policy read nodes and services"},
		{"powerless-token-named", unseen, Config{TokenFile: token, Services: []string{"user-service"}}, "shows nothing with this token: let its policy read nodes and services"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(token, []byte(c.token), 0o600); err != nil {
				t.Fatal(err)
			}
			play(t, true, c.cfg, func(p *played) {
				p.tape.Scene(func() {
					p.put("/v1/acl/policy", map[string]any{"Name": "nothing", "Rules": ""})
					p.put("/v1/acl/token", map[string]any{"SecretID": unseen, "Policies": []any{map[string]any{"Name": "nothing"}}})
					p.enter("a", 6060)
				})
				p.problem(c.want)
				select {
				case l := <-p.lists:
					p.Errorf("a list is told: %q", l)
				default:
				}
			})
		})
	}
}

// A token that may no longer read empties no list.
func TestRecordedWithdrawal(t *testing.T) {
	const reader = "44444444-0000-4000-8000-000000000004"
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(reader), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("withdrawn", func(t *testing.T) {
		play(t, true, Config{TokenFile: token}, func(p *played) {
			const accessor = "44444444-0000-4000-8000-000000000005"
			grant := func(method string, policies ...any) {
				p.put("/v1/acl/token"+method, map[string]any{"AccessorID": accessor, "SecretID": reader, "Policies": policies})
			}
			may := map[string]any{"Name": "reader"}
			p.tape.Scene(func() {
				p.put("/v1/acl/policy", map[string]any{"Name": "reader", "Rules": `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`})
				grant("", may)
				p.enter("a", 6060, "zone=a")
			})
			p.expect(one)
			p.tape.Scene(func() { grant("/" + accessor); p.enter("b", 6061, "canary") })
			// The query that is held comes back empty after its minute, and knows no leader.
			p.problem("shows nothing with this token: let its policy read nodes and services")
			for len(p.lists) > 0 {
				if l := <-p.lists; l == "" {
					p.Error("the list is emptied")
				}
			}
			p.tape.Scene(func() { grant("/"+accessor, may) })
			p.expect(one + "\n" + two)
			p.problem("")
		})
	})
}
