package console

import (
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestWhereAnInstanceServes(t *testing.T) {
	static := func(url, label string) ops.Instance {
		i := ops.Instance{ID: "i1", Source: "static", Address: url}
		if label != "" {
			i.Labels = map[string]string{AddressLabel: label}
		}
		return i
	}
	joined := ops.Instance{ID: "i1", Source: "agent", Address: "game-7/4211", Labels: map[string]string{AddressLabel: "169.254.169.254:80"}}
	for _, tc := range []struct {
		name string
		inst ops.Instance
		r    Route
		want string
		tls  bool
	}{
		{"the source says it", static("http://10.0.0.7:6060/debug/pprof", "10.0.0.8:9000"), Route{}, "10.0.0.8:9000", false},
		{"on the target's host", static("http://10.0.0.7:6060/debug/pprof", ":9000"), Route{}, "10.0.0.7:9000", false},
		{"with TLS", static("http://10.0.0.7:6060/debug/pprof", "grpcs://wallet:9000"), Route{}, "wallet:9000", true},
		{"another port", static("http://[fd00::7]:6060/debug/pprof", ""), Route{Port: 9001, TLS: true}, "[fd00::7]:9001", true},
		{"nobody said", static("http://10.0.0.7:6060/debug/pprof", ""), Route{}, "nobody said where instance i1 serves gRPC: label it grpc=host:port in its source, choose a port, or give its agent the service's methods (agent.Config.Services)", false},
		{"a label that is none", static("http://10.0.0.7:6060/debug/pprof", "wallet"), Route{}, "the label grpc=wallet of instance i1 is no address: write host:port, or :port", false},
		{"an agent's own label is not believed", joined, Route{}, "nobody said where instance i1 serves gRPC: label it grpc=host:port in its source, choose a port, or give its agent the service's methods (agent.Config.Services)", false},
		{"nor has it an address", joined, Route{Port: 80}, "instance i1 came to the centre by itself, so there is no address to find port 80 at: give its agent the service's methods (agent.Config.Services)", false},
		{"no port", static("http://10.0.0.7:6060", ""), Route{Port: 70000}, "70000 is no port: use 1 to 65535", false},
	} {
		to, err := addressOf(tc.inst, tc.r)
		got := to.address
		if err != nil {
			got = err.Error()
		}
		if got != tc.want || (err == nil && to.tls != tc.tls) {
			t.Errorf("%s: %s tls=%v", tc.name, got, to.tls)
		}
	}
}
