// Package metrics shows the centre and what it found out to Prometheus. It reads
// what others know and decides nothing.
package metrics

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/notify"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config says where the numbers come from. All fields are needed but Expected and Logger.
type Config struct {
	// Instances returns all that are not gone.
	Instances func() []ops.Instance
	// Expected returns how many instances of a service there should be; nil = nobody
	// knows.
	Expected func() map[ops.ServiceKey]Expected
	// Storage returns what captures take and what is free, in bytes; free < 0 =
	// no bound.
	Storage func(context.Context) (stored, free int64)
	// Captures tells which captures changed, Capture how one is.
	Captures func() *changes.Subscription[ops.CaptureID]
	Capture  func(context.Context, ops.CaptureID) (ops.Capture, error)
	Channels func() []notify.Status
	Version  string
	Logger   *slog.Logger // nil = silent
}

// The bounds of what is remembered. A verdict says nothing of tomorrow: it ends
// after a day, or when its instance is gone.
const (
	scoreFor  = 24 * time.Hour
	maxScores = 5000 // instances
)

// Expected is how many instances of a service there should be, and how many of
// them are not up.
type Expected struct{ Count, Missing int }

// Metrics is a collector and what it remembers.
type Metrics struct {
	c        Config
	registry *prometheus.Registry
	ended    *prometheus.CounterVec

	mu     sync.Mutex // guards all below
	scores map[ops.InstanceID]verdict
}

// verdict is what the latest diagnosis said of an instance.
type verdict struct {
	at       time.Time
	key      ops.ServiceKey
	findings map[ops.RuleID]scored
}

type scored struct {
	score    int
	severity ops.Severity
}

// New makes the metrics; Run counts captures.
func New(c Config) *Metrics {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{c: c, registry: prometheus.NewRegistry(), scores: map[ops.InstanceID]verdict{}}
	m.ended = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "opscenter_captures_total", Help: "Captures that ended while this centre ran, by how: done, partial, failed, cancelled.",
	}, []string{"project", "service", "state"})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "opscenter_build_info", Help: "Always 1; its label says which version runs.", ConstLabels: prometheus.Labels{"version": c.Version},
	})
	build.Set(1)
	m.registry.MustRegister(m, m.ended, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers in the format that Prometheus asks for.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(m.c.Logger.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4})
}

// Run counts the captures that end, until ctx does.
func (m *Metrics) Run(ctx context.Context) error {
	sub := m.c.Captures()
	defer sub.Close()
	running := map[ops.CaptureID]bool{}
	for {
		ids, err := sub.Next(ctx)
		if err != nil {
			return nil //nolint:nilerr // the end of ctx is how Run ends
		}
		for _, id := range ids {
			c, err := m.c.Capture(ctx, id)
			switch {
			case err != nil:
				delete(running, id) // deleted
			case !c.State.Ended():
				running[id] = true
			case running[id]:
				delete(running, id)
				m.ended.WithLabelValues(string(c.Project), string(c.Service), string(c.State)).Inc()
			}
		}
	}
}

// Diagnosed remembers what was said of each instance of a capture.
func (m *Metrics) Diagnosed(c ops.Capture, f ops.Findings) {
	type object struct {
		Instance struct {
			ID ops.InstanceID `json:"id"`
		} `json:"instance"`
		Findings []struct {
			Rule     ops.RuleID   `json:"rule"`
			Severity ops.Severity `json:"severity"`
			Score    int          `json:"score"`
		} `json:"findings"`
	}
	var all struct {
		object
		Instances []object `json:"instances"`
	}
	if err := json.Unmarshal(f.Bodies[ops.English], &all); err != nil {
		m.c.Logger.Warn("findings cannot be shown as metrics", "capture", c.ID, "error", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range append(all.Instances, all.object) {
		if o.Instance.ID == "" {
			continue
		}
		v := verdict{at: c.Finished, key: ops.ServiceKey{Project: c.Project, Service: c.Service}, findings: map[ops.RuleID]scored{}}
		if old, ok := m.scores[o.Instance.ID]; ok && old.at.After(v.at) {
			continue // an older capture was diagnosed later
		}
		for _, x := range o.Findings {
			if x.Score > v.findings[x.Rule].score {
				v.findings[x.Rule] = scored{x.Score, x.Severity}
			}
		}
		m.scores[o.Instance.ID] = v
	}
	m.forget()
}

// forget keeps the newest verdicts. The caller holds m.mu.
func (m *Metrics) forget() {
	for id, v := range m.scores {
		if time.Since(v.at) > scoreFor {
			delete(m.scores, id)
		}
	}
	for len(m.scores) > maxScores {
		var oldest ops.InstanceID
		for id, v := range m.scores {
			if oldest == "" || v.at.Before(m.scores[oldest].at) {
				oldest = id
			}
		}
		delete(m.scores, oldest)
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("opscenter_"+name, help, labels, nil)
}

// Instances are counted by service and what they use summed, for an instance
// each would be a series for every process there ever was. Only verdicts name one.
var (
	instancesDesc  = desc("instances", "Instances that are not gone, by state: up, suspect.", "project", "service", "state")
	healthDesc     = desc("instances_health", "Instances by how they do: ok, warning, critical, unknown.", "project", "service", "level")
	expectedDesc   = desc("instances_expected", "Instances that there should be, where the configuration says so.", "project", "service")
	missingDesc    = desc("instances_missing", "Instances that are expected and not up.", "project", "service")
	failingDesc    = desc("instances_failing", "Instances that fail a check of health, by check and level.", "project", "service", "check", "level")
	cpuDesc        = desc("service_cpu_cores", "Processors that the instances of a service use.", "project", "service")
	rssDesc        = desc("service_rss_bytes", "Resident memory of the instances of a service.", "project", "service")
	heapDesc       = desc("service_live_heap_bytes", "Live heap of the instances of a service, as of their last collections.", "project", "service")
	goroutinesDesc = desc("service_goroutines", "Goroutines of the instances of a service.", "project", "service")
	latencyDesc    = desc("service_sched_latency_p99_seconds", "How long goroutines wait for a processor, 99th percentile of the worst instance.", "project", "service")
	waitersDesc    = desc("service_pool_waiters", "Goroutines that wait for a connection of a pool.", "project", "service")
	scoreDesc      = desc("finding_score", "Score, 0 to 100, of a finding in the latest diagnosed capture of an instance: notice from 25, warning from 50, critical from 75.", "project", "service", "instance_id", "rule", "severity")
	diagnosedDesc  = desc("diagnosed_timestamp_seconds", "When the latest diagnosed capture of an instance ended.", "project", "service", "instance_id")
	storedDesc     = desc("archive_bytes", "What captures take on the disk.")
	freeDesc       = desc("archive_free_bytes", "What is free for captures.")
	sentDesc       = desc("notifications_total", "Notifications by what became of them: sent, failed; dropped counts events.", "channel", "result")
	waitingDesc    = desc("notifications_waiting", "Notifications that are grouped, held for quiet hours or tried again.", "channel")
)

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		instancesDesc, expectedDesc, missingDesc, healthDesc, failingDesc, cpuDesc, rssDesc, heapDesc, goroutinesDesc, latencyDesc, waitersDesc,
		scoreDesc, diagnosedDesc, storedDesc, freeDesc, sentDesc, waitingDesc,
	} {
		ch <- d
	}
}

// service is what is summed over its instances.
type service struct {
	states, levels           map[string]float64
	failing                  map[[2]string]float64
	cpu, rss, heap, routines float64
	latency, waiters         float64
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	alive := m.collectServices(gauge)
	m.collectExpected(gauge)
	m.collectScores(gauge, alive)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stored, free := m.c.Storage(ctx)
	gauge(storedDesc, float64(stored))
	if free >= 0 {
		gauge(freeDesc, float64(free))
	}
	for _, s := range m.c.Channels() {
		counter(sentDesc, float64(s.Sent), s.Channel.Name, "sent")
		counter(sentDesc, float64(s.Failed), s.Channel.Name, "failed")
		counter(sentDesc, float64(s.Dropped), s.Channel.Name, "dropped")
		gauge(waitingDesc, float64(s.Waiting), s.Channel.Name)
	}
}

func (m *Metrics) collectServices(gauge func(*prometheus.Desc, float64, ...string)) map[ops.InstanceID]bool {
	alive := map[ops.InstanceID]bool{}
	services := map[ops.ServiceKey]*service{}
	for _, i := range m.c.Instances() {
		if i.State == ops.InstanceGone {
			continue
		}
		alive[i.ID] = true
		s := services[i.Key()]
		if s == nil {
			s = &service{states: map[string]float64{}, levels: map[string]float64{}, failing: map[[2]string]float64{}}
			services[i.Key()] = s
		}
		s.add(i)
	}
	for k, s := range services {
		p, n := string(k.Project), string(k.Service)
		for _, state := range []ops.InstanceState{ops.InstanceUp, ops.InstanceSuspect} {
			gauge(instancesDesc, s.states[string(state)], p, n, string(state))
		}
		for _, level := range []string{string(ops.HealthOK), string(ops.HealthWarning), string(ops.HealthCritical), "unknown"} {
			gauge(healthDesc, s.levels[level], p, n, level)
		}
		for f, v := range s.failing {
			gauge(failingDesc, v, p, n, f[0], f[1])
		}
		gauge(cpuDesc, s.cpu, p, n)
		gauge(rssDesc, s.rss, p, n)
		gauge(heapDesc, s.heap, p, n)
		gauge(goroutinesDesc, s.routines, p, n)
		gauge(latencyDesc, s.latency, p, n)
		gauge(waitersDesc, s.waiters, p, n)
	}
	return alive
}

func (m *Metrics) collectExpected(gauge func(*prometheus.Desc, float64, ...string)) {
	if m.c.Expected == nil {
		return
	}
	for k, e := range m.c.Expected() {
		gauge(expectedDesc, float64(e.Count), string(k.Project), string(k.Service))
		gauge(missingDesc, float64(e.Missing), string(k.Project), string(k.Service))
	}
}

func (s *service) add(i ops.Instance) {
	hb := i.Heartbeat
	s.states[string(i.State)]++
	level := string(i.Health.Level)
	if level == "" {
		level = "unknown"
	}
	s.levels[level]++
	for _, issue := range i.Health.Issues {
		s.failing[[2]string{string(issue.Check), string(issue.Level)}]++
	}
	s.cpu += hb.CPUCores
	s.rss += float64(hb.RSSBytes)
	s.heap += float64(hb.LiveHeapBytes)
	s.routines += float64(hb.Goroutines)
	s.latency = max(s.latency, hb.SchedLatencyP99Second)
	s.waiters += float64(hb.PoolWaiters)
}

func (m *Metrics) collectScores(gauge func(*prometheus.Desc, float64, ...string), alive map[ops.InstanceID]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	for id, v := range m.scores {
		if !alive[id] {
			continue
		}
		p, s := string(v.key.Project), string(v.key.Service)
		gauge(diagnosedDesc, float64(v.at.UnixMilli())/1e3, p, s, string(id))
		for rule, x := range v.findings {
			gauge(scoreDesc, float64(x.score), p, s, string(id), string(rule), string(x.severity))
		}
	}
}
