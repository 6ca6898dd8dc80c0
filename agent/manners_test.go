package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// idleFor is how long the idle process is watched.
const idleFor = 4 * time.Second

// TestIdleAgentCostsLittle measures a process that does nothing but hold an
// agent, with the heartbeat that every centre asks for, against the same process
// without.
func TestIdleAgentCostsLittle(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("measures with /proc")
	}
	bin := filepath.Join(t.TempDir(), "idle")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./internal/idle")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	bare := measureIdle(t, bin, "OPS_AGENT=off")

	c := newCentre(t, "127.0.0.1:0", "")
	var measured idleCost
	done := make(chan struct{})
	go func() {
		defer close(done)
		measured = measureIdle(t, bin, "OPS_CENTER="+c.addr)
	}()
	client := c.accept()
	stream, err := client.WatchMetrics(t.Context(), &agentv1.WatchMetricsRequest{Interval: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	<-done
	extra := measured.rss - bare.rss
	t.Logf("CPU %.3f %% of a core, resident %.1f MB, of which the agent %.1f MB", 100*measured.cores, float64(measured.rss)/1e6, float64(extra)/1e6)
	if measured.cores >= 0.01 {
		t.Errorf("an idle agent uses %.2f %% of a core, want < 1 %%", 100*measured.cores)
	}
	if extra >= 20e6 {
		t.Errorf("an idle agent takes %d bytes, want < 20 MB", extra)
	}
}

type idleCost struct {
	cores float64
	rss   int64
}

// measureIdle runs the idle program for a while and reads what it says of itself.
func measureIdle(t *testing.T, bin string, env ...string) (c idleCost) {
	cmd := exec.CommandContext(t.Context(), bin, idleFor.String())
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v", bin, err)
		return c
	}
	f := strings.Fields(string(out))
	if len(f) != 2 {
		t.Errorf("%s says %q", bin, out)
		return c
	}
	c.cores, _ = strconv.ParseFloat(f[0], 64)
	c.rss, _ = strconv.ParseInt(f[1], 10, 64)
	return c
}
