package agent

import (
	"database/sql"
	"database/sql/driver"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

func watch(t *testing.T, client agentv1.AgentServiceClient, full bool, n int) (out []*agentv1.WatchMetricsResponse) {
	t.Helper()
	stream, err := client.WatchMetrics(t.Context(), &agentv1.WatchMetricsRequest{Interval: durationpb.New(time.Second), Full: full})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func TestHeartbeat(t *testing.T) {
	work(t)
	_, client := joined(t, nil)
	start := time.Now()
	beats := watch(t, client, false, 2)
	if took := time.Since(start); took < 900*time.Millisecond || took > 30*time.Second {
		t.Errorf("two heartbeats took %v, want one at once and one after a second", took)
	}
	h := beats[1].Heartbeat
	if h.Goroutines < 5 || h.GoroutinesWaiting < 1 || h.Goroutines < h.GoroutinesRunning+h.GoroutinesRunnable {
		t.Errorf("goroutines %v", h)
	}
	if h.CpuCores <= 0 || h.LiveHeapBytes <= 0 || h.HeapObjects <= 0 || h.RssBytes < 1<<20 || h.Threads < 2 || h.Gomaxprocs < 1 || h.SchedLatencyP99Seconds <= 0 || h.MutexWaitRate <= 0 {
		t.Errorf("heartbeat %v", h)
	}
	for _, share := range []float64{h.GcCpuFraction, h.ThrottledFraction} {
		if share < 0 || share > 1 {
			t.Errorf("share %v in %v", share, h)
		}
	}
	if len(beats[1].Metrics) != 0 || len(beats[1].Pools) != 0 {
		t.Error("metrics without being asked for")
	}
}

func TestFullMetricsAndPools(t *testing.T) {
	a, client := joined(t, nil)
	db := sql.OpenDB(noConnector{})
	db.SetMaxOpenConns(7)
	defer func() { _ = db.Close() }()
	a.AddPool("records", SQLPool(db, "db.example:5432"))
	a.AddPool("hangs", PoolFunc(func() PoolStats { <-t.Context().Done(); return PoolStats{} }))
	a.AddPool("panics", PoolFunc(func() PoolStats { panic("on purpose") }))
	a.AddPool("cache", PoolFunc(func() PoolStats { return PoolStats{Kind: "redis", Waiting: 3} }))
	a.AddPool("gone", PoolFunc(func() PoolStats { return PoolStats{} }))
	a.AddPool("gone", nil)
	a.AddPool("", SQLPool(db, ""))
	m := watch(t, client, true, 2)[1]
	names := []string{}
	for _, p := range m.Pools {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"cache", "records"}) {
		t.Fatalf("pools %q", names)
	}
	if p := m.Pools[1]; p.Kind != "database/sql" || p.Remote != "db.example:5432" || p.MaxOpen != 7 || p.Waiting != -1 {
		t.Errorf("pool %v", p)
	}
	if m.Heartbeat.PoolWaiters != 3 {
		t.Errorf("%d waiters, want 3", m.Heartbeat.PoolWaiters)
	}
	got := map[string]*agentv1.Metric{}
	for _, v := range m.Metrics {
		got[v.Name] = v
	}
	if len(got) < 50 || got["/sched/goroutines:goroutines"].GetUint64() == 0 || got["/cpu/classes/total:cpu-seconds"].GetFloat64() <= 0 {
		t.Errorf("%d metrics", len(got))
	}
	h := got["/sched/latencies:seconds"].GetHistogram()
	if len(h.GetBuckets()) != len(h.GetCounts())+1 || len(h.GetCounts()) == 0 {
		t.Errorf("histogram %v", h)
	}
	if n := proto.Size(m); n > 32<<10 {
		t.Errorf("a message of %d bytes", n)
	}
	a.AddPool("hangs", nil)
}

type noConnector struct{ driver.Connector }

func (noConnector) Driver() driver.Driver { return nil }

// A pool that does not say how many wait counts with the average of the
// interval.
func TestWaitersOfASilentPool(t *testing.T) {
	at := func(waited time.Duration) []namedPool {
		return []namedPool{{"db", PoolStats{Waiting: -1, WaitDuration: waited}}, {"other", PoolStats{Waiting: 2}}}
	}
	// 5 s in which 20 callers waited all the time.
	if n := poolWaiters(at(time.Second), at(101*time.Second), 5); n != 22 {
		t.Errorf("%d waiters, want 22", n)
	}
	if n := poolWaiters(nil, at(time.Hour), 5); n != 2 {
		t.Errorf("%d waiters of a pool that was just added, want 2", n)
	}
}

func TestQuantile(t *testing.T) {
	inf := math.Inf(1)
	bounds := []float64{math.Inf(-1), 1, 2, 3, inf}
	for _, tc := range []struct {
		before, after []uint64
		want          float64
	}{
		{[]uint64{0, 0, 0, 0}, []uint64{0, 98, 2, 0}, 3},
		{[]uint64{0, 0, 50, 0}, []uint64{0, 99, 51, 0}, 2},
		{[]uint64{0, 0, 0, 0}, []uint64{0, 0, 0, 9}, 3},
		{[]uint64{0, 5, 0, 0}, []uint64{0, 5, 0, 0}, 0},
		{nil, []uint64{0, 5, 0, 0}, 2},
		{nil, nil, 0},
	} {
		if got := quantile(0.99, tc.before, tc.after, bounds); got != tc.want {
			t.Errorf("%v → %v: %v, want %v", tc.before, tc.after, got, tc.want)
		}
	}
}

func TestTrimHistogram(t *testing.T) {
	counts, bounds := trimHistogram([]uint64{0, 0, 3, 0, 1, 0}, []float64{0, 1, 2, 3, 4, 5, 6})
	if !slices.Equal(counts, []uint64{3, 0, 1}) || !slices.Equal(bounds, []float64{2, 3, 4, 5}) {
		t.Errorf("%v %v", counts, bounds)
	}
	counts, bounds = trimHistogram([]uint64{0, 0}, []float64{0, 1, 2})
	if len(counts) != 1 || len(bounds) != 2 {
		t.Errorf("empty: %v %v", counts, bounds)
	}
}

func TestBadWatchIntervals(t *testing.T) {
	_, client := joined(t, nil)
	for _, d := range []time.Duration{-time.Second, time.Millisecond, 2 * time.Hour} {
		stream, err := client.WatchMetrics(t.Context(), &agentv1.WatchMetricsRequest{Interval: durationpb.New(d)})
		if err == nil {
			_, err = stream.Recv()
		}
		if s := status.Convert(err); s.Code() != codes.InvalidArgument || s.Message() != "interval "+d.String()+" is out of range: use 1s to 1h0m0s" {
			t.Errorf("%v: %v", d, err)
		}
	}
}

// A hanging pool must not make a process look dead.
func TestHangingPoolDelaysNothingForLong(t *testing.T) {
	var r poolRegistry
	release := make(chan struct{})
	r.add("hangs", PoolFunc(func() PoolStats { <-release; return PoolStats{Open: 1} }))
	for range 3 {
		start := time.Now()
		if got := r.read(); len(got) != 0 {
			t.Errorf("got %v", got)
		}
		if took := time.Since(start); took > poolPatience+30*time.Second {
			t.Errorf("took %v", took)
		}
	}
	close(release)
	eventually(t, "the pool answers again", func() bool {
		got := r.read()
		return len(got) == 1 && got[0].Open == 1
	})
}
