package waits

import (
	"testing"

	"github.com/opscenter/opscenter/internal/diagnosis/rule/ruletest"
)

func TestRules(t *testing.T) { ruletest.Run(t, Rules()) }

func TestWhoIsCalledIsTheNextToCapture(t *testing.T) {
	for _, c := range []struct{ client, remote, want string }{
		{"gRPC", "user-service:9090, wallet:9090", "user-service:9090"},
		{"HTTP", "user-service", "user-service"},
		{"HTTP", "", ""},
		{"pgx", "db.example:5432", ""}, // no process that can be captured
	} {
		got := ""
		if n := (&downstream{client: c.client, remote: c.remote}).callee(); n != nil {
			got = n.Remote
		}
		if got != c.want {
			t.Errorf("%s at %q: got %q, want %q", c.client, c.remote, got, c.want)
		}
	}
}
