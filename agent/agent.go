package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

const (
	// protocolVersion is the agent's version of the protocol. A centre that is
	// one version older is served as well.
	protocolVersion = 1
	// agentVersion is told to people, never compared.
	agentVersion = "1.0.0"
	// goodbyeWithin bounds how long the tunnel lets calls end on their own, and
	// closeWithin the whole of Close.
	goodbyeWithin = 2 * time.Second
	closeWithin   = 10 * time.Second
)

// Agent is the process's side of OPS Center. A nil *Agent is off.
type Agent struct {
	cfg   settings
	log   *slog.Logger
	self  identity
	pools poolRegistry
	tune  tuning

	types   typeNamer
	setters collectorSetters

	join     joinState
	captures captureRegistry
	controls controlRegistry
	chunks   chunkPool
	flight   *flightDeck
	saying   sync.Mutex // held while last words are said; guards said
	said     time.Time  // when they were
	rules    *ruleEngine
	// unchained says that chains do not work with this process's gRPC.
	unchained atomic.Bool

	// ctx ends when Close is called; closing at the same time.
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex     // guards closed, and Add of both groups against it
	closed bool           // no new work after it
	work   sync.WaitGroup // the agent's own goroutines
	calls  sync.WaitGroup // gRPC calls in progress

	// first is where a watch that has no heartbeat before it counts from.
	first firstReading
}

// tuning holds the times that tests shorten.
type tuning struct {
	grace       time.Duration // a running window without its stream
	keep        time.Duration // a finished capture that is not acknowledged
	transfer    time.Duration // sending after the window has ended
	cpuSegment  time.Duration // longest CPU segment
	idleTunnel  time.Duration // a tunnel on which the centre asks nothing
	backoffBase time.Duration
	backoffMax  time.Duration
	cpuShareMax float64 // of its cores in use: no forced garbage collection
	// onActivity is called with what a window does next; tests break things there.
	onActivity func(captureID, activity string)
}

func defaultTuning() tuning {
	return tuning{
		grace:       30 * time.Second,
		keep:        10 * time.Minute,
		transfer:    15 * time.Minute,
		cpuSegment:  8 * time.Second,
		idleTunnel:  90 * time.Second,
		backoffBase: 500 * time.Millisecond,
		backoffMax:  30 * time.Second,
		cpuShareMax: cpuShareMax,
		onActivity:  func(string, string) {},
	}
}

// Start makes the process an instance and returns at once; the centre need not
// be there. It returns nil and no error when OPS_AGENT is "off", and an error
// only for a configuration that cannot be right.
func Start(c Config) (*Agent, error) { return start(c, os.Getenv, defaultTuning()) }

func start(c Config, getenv func(string) string, tune tuning) (*Agent, error) {
	cfg, off, err := c.resolve(getenv)
	if err != nil {
		return nil, err
	}
	if off {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Agent{cfg: cfg, log: cfg.log, self: readIdentity(), tune: tune, ctx: ctx, cancel: cancel}
	a.self.show()
	a.captures.init()
	a.join.init()
	a.flight = newFlightDeck(a)
	a.rules = a.newRuleEngine()
	a.controls.builtin = a.builtins()
	a.first.set(newMeter(heartbeatMetrics(), a.self.cgroup, &a.pools).read())
	if cfg.lastWords {
		a.setRules(nil, nil)
	}
	if cfg.onSignal {
		a.spawn("signals", a.watchSignals)
	}
	if cfg.flight > 0 {
		if err := a.flight.want("the configuration", cfg.flight); err != nil {
			a.log.Warn("the flight recorder is off", slog.Any("error", err))
		}
	}
	if cfg.center != nil {
		a.spawn("tunnel", a.runTunnel)
	}
	return a, nil
}

// Register serves the agent on the service's own gRPC server; call it before
// the server starts. Calls that do not come from loopback need the ListenToken
// or a verified client certificate.
func Register(s grpc.ServiceRegistrar, a *Agent) {
	if a == nil || s == nil {
		return
	}
	all := &service{agent: a}
	agentv1.RegisterAgentServiceServer(s, all)
	agentv1.RegisterRuleServiceServer(s, &ruleService{service: all})
}

// BootID is the identity of this process, made when the agent started.
func (a *Agent) BootID() string {
	if a == nil {
		return ""
	}
	return a.self.bootID
}

// Close says goodbye to the centre, ends running captures, puts every setting
// back and waits until the agent's goroutines have ended. With last words it sends
// these before, for which it waits a few seconds. It takes at most fifteen
// seconds and may be called again.
func (a *Agent) Close() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	closed := a.closed
	a.mu.Unlock()
	if a.cfg.lastWords && !closed {
		a.sayLast(because(whyEnds, nil, nil))
	}
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel() // watchers return OK, windows end, the tunnel drains

	// A call on a foreign server may hang in a send that only its client can
	// end, and the runtime's profilers in a stranger's writer.
	ended := make(chan struct{})
	go func() {
		a.calls.Wait()
		a.work.Wait()
		close(ended)
	}()
	defer a.flight.close()
	defer a.controls.close()
	defer a.captures.close()
	patience := time.NewTimer(closeWithin)
	defer patience.Stop()
	select {
	case <-ended:
		return nil
	case <-patience.C:
		return errors.New("agent: something did not end in time; it will when its connection or its profiler lets it")
	}
}

// spawn runs fn as a goroutine of the agent; Close waits for it. A panic ends
// fn, never the process.
func (a *Agent) spawn(name string, fn func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.work.Add(1)
	go func() {
		defer a.work.Done()
		defer a.survive(name)
		fn()
	}()
	return true
}

// enter notes a call in progress. It is false when the agent is closing.
func (a *Agent) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.calls.Add(1)
	return true
}

// survive recovers from a panic and logs it.
func (a *Agent) survive(name string) {
	if r := recover(); r != nil {
		a.log.Error("agent recovered from a panic", slog.String("in", name), slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
	}
}
