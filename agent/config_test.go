package agent

import (
	"strings"
	"testing"
	"time"
)

func env(kv ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return func(k string) string { return m[k] }
}

func TestZeroConfig(t *testing.T) {
	s, off, err := Config{}.resolve(env())
	if err != nil || off {
		t.Fatal(off, err)
	}
	if s.center.String() != "http://127.0.0.1:8080/opscenter.agent.v1/tunnel" || s.project != "default" || s.service != "agent.test" || s.log == nil || s.spoolDir == "" {
		t.Errorf("%+v", s)
	}
	if want := (Limits{10 * time.Minute, 30 * time.Second, 512 << 20, 512 << 20, 2}); s.limits != want {
		t.Errorf("limits %+v", s.limits)
	}
}

func TestConfigWinsOverTheEnvironment(t *testing.T) {
	all := env("OPS_CENTER", "env:1", "OPS_PROJECT", "env-project", "OPS_SERVICE", "env-service", "OPS_INSTANCE_LABELS", "zone=a, rack = 7,",
		"OPS_TOKEN_FILE", "/env/token", "OPS_CA_PIN", "", "OPS_AGENT_TOKEN", "env-token", "OPS_SPOOL_DIR", "/env/spool")
	s, _, err := Config{}.resolve(all)
	if err != nil {
		t.Fatal(err)
	}
	if s.center.Host != "env:1" || s.project != "env-project" || s.service != "env-service" || s.labels["rack"] != "7" || s.tokenFile != "/env/token" || s.token != "env-token" || s.spoolDir != "/env/spool" {
		t.Errorf("from the environment: %+v", s)
	}
	s, _, err = Config{Center: "code:2", Project: "p", Service: "s", Labels: map[string]string{"zone": "b"}, TokenFile: "/t", ListenToken: "t", SpoolDir: "/s"}.resolve(all)
	if err != nil {
		t.Fatal(err)
	}
	if s.center.Host != "code:2" || s.project != "p" || s.service != "s" || s.labels["zone"] != "b" || s.labels["rack"] != "7" || s.tokenFile != "/t" || s.token != "t" || s.spoolDir != "/s" {
		t.Errorf("from the code: %+v", s)
	}
}

func TestCentres(t *testing.T) {
	for in, want := range map[string]string{
		"ops.example":                     "http://ops.example:80/opscenter.agent.v1/tunnel",
		"10.0.0.1:8080":                   "http://10.0.0.1:8080/opscenter.agent.v1/tunnel",
		"http://host:8080/ops":            "http://host:8080/ops/opscenter.agent.v1/tunnel",
		"http://host:8080/ops/":           "http://host:8080/ops/opscenter.agent.v1/tunnel",
		"https://ops.example":             "https://ops.example:443/opscenter.agent.v1/tunnel",
		"https://[::1]:8443/a/b":          "https://[::1]:8443/a/b/opscenter.agent.v1/tunnel",
		"ops.example:9000/behind/a/proxy": "http://ops.example:9000/behind/a/proxy/opscenter.agent.v1/tunnel",
	} {
		u, err := parseCenter(in)
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v, want %s", in, u, err, want)
		}
	}
	if u, err := parseCenter("off"); u != nil || err != nil {
		t.Errorf("off: %v, %v", u, err)
	}
}

func TestBadConfigurations(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    Config
		env  []string
		want string
	}{
		{"project", Config{Project: "a/b"}, nil, `agent: project name "a/b" is not valid: use up to 128 letters, digits, dots, underscores and hyphens, starting with a letter or digit`},
		{"service", Config{}, []string{"OPS_SERVICE", ".hidden"}, `agent: service name ".hidden" is not valid: use up to 128 letters, digits, dots, underscores and hyphens, starting with a letter or digit`},
		{"scheme", Config{Center: "ftp://x"}, nil, `agent: centre "ftp://x" has the scheme ftp: use host:port, or a URL such as https://ops.example.com/ops`},
		{"no host", Config{Center: "http:///ops"}, nil, `agent: centre "http:///ops" has no host: use host:port, or a URL such as https://ops.example.com/ops`},
		{"password", Config{Center: "https://u:p@x"}, nil, `agent: centre "https://u:p@x" carries a password; put the token into a file and name it in OPS_TOKEN_FILE: use host:port, or a URL such as https://ops.example.com/ops`},
		{"port", Config{Center: "x:port"}, nil, `agent: centre "x:port" is not an address: use host:port, or a URL such as https://ops.example.com/ops`},
		{"labels", Config{}, []string{"OPS_INSTANCE_LABELS", "zone"}, `agent: label "zone" of OPS_INSTANCE_LABELS is not valid: write key=value,key=value`},
		{"long label", Config{Labels: map[string]string{"k": strings.Repeat("v", 300)}}, nil, `agent: label "k" is too long or has no name: use a name of 1 to 128 bytes and a value of at most 256`},
		{"pin", Config{CAPin: "abc"}, nil, `agent: CA pin "abc" is not valid: give the SHA-256 of the certificate's public key (SubjectPublicKeyInfo) as 64 hex digits or as base64`},
		{"pin without TLS", Config{CAPin: strings.Repeat("ab", 32)}, nil, `agent: a CA pin is set but the centre 127.0.0.1:8080 is not https: use an https URL or drop the pin`},
		{"limits", Config{Limits: Limits{MaxTraceBytes: -1}}, nil, `agent: a limit is negative: use zero for the default`},
	} {
		if _, _, err := tc.c.resolve(env(tc.env...)); err == nil || err.Error() != tc.want {
			t.Errorf("%s:\ngot  %v\nwant %s", tc.name, err, tc.want)
		}
	}
}

func TestOff(t *testing.T) {
	a, err := start(Config{Project: "not / valid"}, env("OPS_AGENT", "off"), defaultTuning())
	if a != nil || err != nil {
		t.Fatalf("%v, %v", a, err)
	}
	// Every function takes the agent that is off.
	Register(nil, a)
	a.AddPool("db", nil)
	if a.BootID() != "" || a.Close() != nil {
		t.Error("an agent that is off did something")
	}
}

func TestProgramName(t *testing.T) {
	for in, want := range map[string]string{"/usr/bin/game-service": "game-service", "game.exe": "game", "./my prog!": "my-prog-", "": "unknown", "/a/…": "-"} {
		got := programName([]string{in})
		if want == "-" {
			want = "unknown"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if programName(nil) != "unknown" {
		t.Error("without arguments")
	}
}

func TestCloseTwice(t *testing.T) {
	a := startTest(t, listening)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestBootIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id := newBootID()
		if !captureIDPattern.MatchString(id) || seen[id] {
			t.Errorf("boot id %q", id)
		}
		seen[id] = true
	}
}
