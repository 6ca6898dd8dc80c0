package audit_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/audit/sqlite"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestSearch(t *testing.T) {
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	clock := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l, err := audit.Open(t.Context(), audit.Config{Store: s, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	// One action a minute: a, b, c, …
	for _, a := range []struct {
		in  audit.Intent
		out audit.Outcome
	}{
		{audit.Intent{Actor: "local:ann", Action: "control.run", Subject: "gc", Project: "color-game", Service: "user", Instances: []ops.InstanceID{"boot-1"}, Mutating: true, Reason: "100% full"}, audit.Outcome{Result: audit.Succeeded}},
		{audit.Intent{Actor: "local:bob", Action: "grpc.call", Subject: "wallet.v1.WalletService/AddBalance", Project: "color-game", Service: "wallet", Instances: []ops.InstanceID{"boot-2"}, Mutating: true, Request: json.RawMessage(`{"note":"a \"quoted\" 贈點"}`)}, audit.Outcome{Result: audit.Failed, Message: "no such player"}},
		{audit.Intent{Actor: "local:ann", Action: "capture.download", Subject: "01cap", Project: "card-game", Service: "user"}, audit.Outcome{Result: audit.Succeeded}},
		{audit.Intent{Actor: "local:ann", Action: "controlled", Subject: "x", Project: "card-game", Service: "user", Mutating: true}, audit.Outcome{}},
	} {
		act, err := l.Begin(t.Context(), a.in)
		if err != nil {
			t.Fatal(err)
		}
		if a.out.Result != "" {
			if err := act.End(t.Context(), a.out); err != nil {
				t.Fatal(err)
			}
		}
		clock = clock.Add(time.Minute)
	}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		f    audit.Filter
		want string
	}{
		{"all", audit.Filter{}, "x 01cap wallet.v1.WalletService/AddBalance gc"},
		{"actor", audit.Filter{Actor: "local:bob"}, "wallet.v1.WalletService/AddBalance"},
		{"action", audit.Filter{Action: "control.run"}, "gc"},
		{"beginning of an action", audit.Filter{Action: "control"}, "gc"},
		{"target: instance", audit.Filter{Target: "boot-2"}, "wallet.v1.WalletService/AddBalance"},
		{"target: service", audit.Filter{Target: "user"}, "x 01cap gc"},
		{"target: subject", audit.Filter{Target: "01cap"}, "01cap"},
		{"project and service", audit.Filter{Project: "color-game", Service: "user"}, "gc"},
		{"outcome", audit.Filter{Results: []audit.Result{audit.Failed, audit.Running}}, "x wallet.v1.WalletService/AddBalance"},
		{"changes only", audit.Filter{Mutating: true}, "x wallet.v1.WalletService/AddBalance gc"},
		{"text of an outcome", audit.Filter{Text: "NO SUCH player"}, "wallet.v1.WalletService/AddBalance"},
		{"text as typed", audit.Filter{Text: `"QUOTED" 贈點`}, "wallet.v1.WalletService/AddBalance"},
		{"text of a request", audit.Filter{Text: "贈點"}, "wallet.v1.WalletService/AddBalance"},
		{"text with a percent sign", audit.Filter{Text: "0% f"}, "gc"},
		{"text with a wildcard", audit.Filter{Text: "1%l"}, ""},
		{"from", audit.Filter{From: start.Add(2 * time.Minute)}, "x 01cap"},
		{"to, exclusive", audit.Filter{To: start.Add(time.Minute)}, "gc"},
		{"page", audit.Filter{Limit: 2}, "x 01cap"},
	} {
		got, err := l.Search(t.Context(), tt.f)
		if err != nil || subjects(got) != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.name, subjects(got), err, tt.want)
		}
	}
	first, err := l.Search(t.Context(), audit.Filter{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	next, err := l.Search(t.Context(), audit.Filter{Limit: 2, Before: first[1].Seq})
	if err != nil || subjects(next) != "wallet.v1.WalletService/AddBalance gc" {
		t.Errorf("the next page has %q, %v", subjects(next), err)
	}
	for _, tt := range []struct {
		f    audit.Filter
		want string
	}{
		{audit.Filter{Limit: 501}, "a page of 501 is out of range: use 1 to 500"},
		{audit.Filter{Results: []audit.Result{"fine"}}, `the outcome "fine" is not known: use ok, failed, partial, refused, cancelled, unknown or running`},
		{audit.Filter{From: start, To: start.Add(-time.Second)}, "the stretch ends (2026-03-01T11:59:59.000000Z) before it begins (2026-03-01T12:00:00.000000Z)"},
	} {
		if _, err := l.Search(t.Context(), tt.f); ops.KindOf(err) != ops.Invalid || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
	if _, err := l.Entry(t.Context(), "01none"); ops.KindOf(err) != ops.NotFound || err.Error() != `there is no action "01none" on record` {
		t.Errorf("an unknown id: %v", err)
	}
}

func subjects(entries []audit.Entry) string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Subject)
	}
	return strings.Join(out, " ")
}

// BenchmarkBegin measures what the record adds to an action: two synced rows,
// alone and with others at the same time.
func BenchmarkBegin(b *testing.B) {
	for _, at := range []int{1, 16} {
		b.Run(fmt.Sprintf("at-once=%d", at), func(b *testing.B) {
			s, err := sqlite.Open(b.Context(), b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			l, err := audit.Open(b.Context(), audit.Config{Store: s})
			if err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(at)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					a, err := l.Begin(b.Context(), gc("local:ann", ""))
					if err == nil {
						err = a.End(b.Context(), audit.Outcome{Result: audit.Succeeded})
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
