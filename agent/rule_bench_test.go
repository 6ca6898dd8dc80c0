package agent

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// BenchmarkRules is what eight rules cost: a look at the process's numbers, once a
// second, and each call that the service times.
func BenchmarkRules(b *testing.B) {
	a, err := Start(Config{Center: "http://127.0.0.1:9", Project: "bench", Service: "rules"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = a.Close() })
	bounds := &agentv1.Bounds{Cooldown: durationpb.New(time.Minute), Budget: 1, Per: durationpb.New(time.Hour)}
	var in []*agentv1.Rule
	for _, metric := range []string{"cpu", "goroutines", "rss-bytes", "heap-slope", "sched-p99", "pool-waiters"} {
		in = append(in, &agentv1.Rule{Name: metric, Trigger: &agentv1.Trigger{Metric: metric, Level: 1e15}, Bounds: bounds})
	}
	for name, quantile := range map[string]float64{"slow": 0, "quantile": 0.99} {
		in = append(in, &agentv1.Rule{Name: name, Trigger: &agentv1.Trigger{Signal: "*", Longer: durationpb.New(time.Hour), Quantile: quantile}, Bounds: bounds})
	}
	rules, _, err := readRules(&agentv1.SetRulesRequest{Rules: in})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("call, no rules", func(b *testing.B) {
		for b.Loop() {
			a.Slow(context.Background(), "place-bet", time.Millisecond)
		}
	})
	a.rules.set(rules, nil)
	b.Run("call", func(b *testing.B) {
		for b.Loop() {
			a.Slow(context.Background(), "place-bet", time.Millisecond)
		}
	})
	m := newMeter(heartbeatMetrics(), a.self.cgroup, &a.pools)
	before := m.read()
	b.Run("second", func(b *testing.B) {
		for b.Loop() {
			now := m.read()
			a.rules.tick(time.Now(), now.heartbeat(before))
			before = now
		}
	})
}
