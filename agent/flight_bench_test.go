package agent

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// pingPong is the worst case of the recorder: two goroutines that do nothing but
// hand over to each other.
func pingPong(b *testing.B) {
	there, back := make(chan struct{}), make(chan struct{})
	go func() {
		for range there {
			back <- struct{}{}
		}
	}()
	for b.Loop() {
		there <- struct{}{}
		<-back
	}
	close(there)
}

func BenchmarkRecorder(b *testing.B) {
	start := func(b *testing.B, c Config) *Agent {
		c.Center, c.Project, c.Service = centerOff, "bench", "bench"
		a, err := Start(c)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = a.Close() })
		return a
	}
	b.Run("idle", func(b *testing.B) { start(b, Config{}); pingPong(b) })
	b.Run("rules", func(b *testing.B) {
		a := start(b, Config{})
		rules, _, err := readRules(&agentv1.SetRulesRequest{Rules: []*agentv1.Rule{{
			Name: "crowd", Trigger: &agentv1.Trigger{Metric: "goroutines", Level: 1e9},
			Bounds: &agentv1.Bounds{Cooldown: durationpb.New(time.Minute), Budget: 1, Per: durationpb.New(time.Hour)},
		}}})
		if err != nil {
			b.Fatal(err)
		}
		a.setRules(rules, nil)
		pingPong(b)
	})
	b.Run("recording", func(b *testing.B) { start(b, Config{FlightRecorder: 5 * time.Second}); pingPong(b) })
}
