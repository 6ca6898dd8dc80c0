package etcd

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestValues(t *testing.T) {
	for _, c := range []struct {
		cfg        Config
		key, value string
		want       string
	}{
		// etcd's own naming/endpoints: em.AddEndpoint(ctx, "/services/user-service/…", endpoints.Endpoint{Addr, Metadata})
		{Config{}, "/services/user-service/10.0.0.7:9000", `{"Op":0,"Addr":"10.0.0.7:9000","Metadata":null}`, "default/user-service http://10.0.0.7:9000/debug/pprof map[]"},
		{Config{}, "/services/user-service/x", `{"Op":0,"Addr":"10.0.0.7:9000","Metadata":{"ops_pprof_port":6060,"zone":"a"}}`, "default/user-service http://10.0.0.7:6060/debug/pprof map[zone:a]"},
		{Config{}, "/services/user-service/x", `{"Op":0,"Addr":"10.0.0.7:9000","Metadata":"free text"}`, "default/user-service http://10.0.0.7:9000/debug/pprof map[]"},
		{Config{}, "/services/user-service/x", `{"Op":1,"Addr":"10.0.0.7:9000"}`, "not listed"},
		{Config{Naming: discovery.Naming{Scheme: "grpc"}}, "/services/user-service/x", `{"Addr":"10.0.0.7:9000"}`, "default/user-service grpc://10.0.0.7:9000 map[]"},
		{Config{Naming: discovery.Naming{Port: 6060}}, "/services/user-service/x", `{"Addr":"10.0.0.7:9000"}`, "default/user-service http://10.0.0.7:6060/debug/pprof map[]"},
		// go-zero and others: the address alone.
		{Config{}, "/services/user-service/7587863", "10.0.0.7:9000", "default/user-service http://10.0.0.7:9000/debug/pprof map[]"},
		{Config{}, "/services/user-service/x", "http://[fd00::7]:9000", "default/user-service http://[fd00::7]:9000/debug/pprof map[]"},
		// Ours.
		{Config{}, "/services/x", `{"project":"color-game","service":"user-service","url":"http://10.0.0.7:6060","labels":{"zone":"a"}}`, "color-game/user-service http://10.0.0.7:6060/debug/pprof map[zone:a]"},
		{Config{}, "/services/color-game/user-service/x", `{"url":"grpc://10.0.0.7:6060"}`, "color-game/user-service grpc://10.0.0.7:6060 map[]"},
		{Config{Prefix: "/user-service/"}, "/user-service/x", `{"url":"grpc://10.0.0.7:6060"}`, "default/user-service grpc://10.0.0.7:6060 map[]"},
		// What cannot be.
		{Config{}, "/services/user-service/x", `{"Addr":"10.0.0.7"}`, `error: its address is "10.0.0.7": register host:port`},
		{Config{}, "/services/user-service/x", ``, `error: its address is "": register host:port`},
		{Config{}, "/services/user-service/x", `{"Addr":`, `error: its value is no JSON of a known shape (unexpected end of JSON input)`},
		{Config{}, "/services/user-service/x", `10.0.0.7:http`, `error: its port is "http": register a number`},
		{Config{}, "/services/user service/x", `10.0.0.7:1`, `error: service "user service" is not a valid name: use letters, digits, dot, underscore and hyphen`},
		{Config{}, "/services/user-service/x", strings.Repeat("x", maxValueBytes+1), "error: its value is larger than 64 KiB"},
	} {
		if c.cfg.Prefix == "" {
			c.cfg.Prefix = prefix
		}
		if got := line(c.cfg, c.key, []byte(c.value)); got != c.want {
			t.Errorf("%s = %.100s\ngot  %s\nwant %s", c.key, c.value, got, c.want)
		}
	}
}

func line(c Config, key string, value []byte) string {
	t, listed, err := c.read(key, value)
	switch {
	case err != nil:
		return "error: " + err.Error()
	case !listed:
		return "not listed"
	}
	return fmt.Sprintf("%s/%s %s %v", t.Project, t.Service, t.URL, t.Labels)
}

func FuzzValue(f *testing.F) {
	f.Add("/services/a/b", []byte(`{"Op":0,"Addr":"10.0.0.7:9000","Metadata":{"a":1}}`))
	f.Add("/services/", []byte("x:1"))
	f.Add("", []byte(`{"url":"grpc://a:1"}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		got, listed, err := Config{Prefix: prefix}.read(key, value)
		if err != nil || !listed {
			return
		}
		if again, err := discovery.Normalize(got); err != nil || again.URL != got.URL {
			t.Errorf("%q = %q: %+v is no target that may be: %v", key, value, got, err)
		}
	})
}

func TestNew(t *testing.T) {
	good := Config{Endpoints: []string{"10.0.0.1:2379"}, Prefix: prefix}
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Endpoints = []string{"https://a:1", "https://b:2"} }, ""},
		{func(c *Config) { c.Endpoints = nil }, "endpoints: missing: write the cluster's, such as 10.0.0.1:2379"},
		{func(c *Config) { c.Endpoints = []string{"a"} }, `endpoints: "a" is none: write host:port or https://host:port`},
		{func(c *Config) { c.Endpoints = []string{"http://u:p@a:1"} }, `endpoints: "http://u:xxxxx@a:1" is none: write host:port or https://host:port`},
		{func(c *Config) { c.Endpoints = []string{"a:1", "https://b:2"} }, "endpoints: some are https and some are not: use one for all"},
		{func(c *Config) { c.TLS.CAFile = "ca.pem" }, "tls: the endpoints are not https: write them as https://host:port"},
		{func(c *Config) { c.Endpoints, c.TLS.CertFile = []string{"https://a:1"}, "c" }, "tls: cert_file and key_file belong together: give both or none"},
		{func(c *Config) { c.Prefix = "" }, "prefix: missing: write what the services' keys begin with, such as /services/"},
		{func(c *Config) { c.User = "u" }, "user and password_file belong together: give both or none"},
		{func(c *Config) { c.Scheme = "ftp" }, `scheme: "ftp" is none: use http, https, grpc or grpcs`},
		{func(c *Config) { c.Port = 70000 }, "port: 70000 is none: use 1 to 65535"},
	} {
		cfg := good
		c.change(&cfg)
		_, err := New(cfg)
		if got := errors.Join(err); (got == nil) != (c.want == "") || err != nil && (err.Error() != c.want || ops.KindOf(err) != ops.Invalid) {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
	if s, _ := New(good); s.Name() != "etcd 10.0.0.1:2379 /services/" {
		t.Error(s.Name())
	}
}
