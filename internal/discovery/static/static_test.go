package static

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSource(t *testing.T) {
	opstest.TestSource(t, func(t *testing.T, initial []ops.Target) opstest.SourceBackend {
		var entries []Target
		for _, i := range initial {
			entries = append(entries, Target{Project: string(i.Project), Service: string(i.Service), URL: i.URL, Labels: i.Labels})
		}
		s, err := New(entries)
		if err != nil {
			t.Fatal(err)
		}
		return opstest.SourceBackend{Source: s}
	})
}

func TestNewRefuses(t *testing.T) {
	good := Target{Service: "user-service", URL: "http://10.0.0.1:6060"}
	cases := []struct {
		second Target
		want   string
	}{
		{Target{URL: "http://10.0.0.2:6060"}, "static target 2: the service is missing: say which service the target belongs to"},
		{Target{Service: "s", URL: "10.0.0.2:6060"}, `static target 2: the URL cannot be read: first path segment in URL cannot contain colon`},
		{Target{Service: "s", URL: "http://10.0.0.1:6060/debug/pprof/"}, "static target 2: its URL is that of target 1: list it once"},
	}
	for _, c := range cases {
		_, err := New([]Target{good, c.second})
		if err == nil || err.Error() != c.want || ops.KindOf(err) != ops.Invalid {
			t.Errorf("%v\nwant: %s", err, c.want)
		}
	}
}
