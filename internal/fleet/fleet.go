// Package fleet knows which instances are alive, how to reach each, and what
// became of those that are not. An instance holds a lease that its heartbeats
// renew: suspect after a while without one, or at once when its link is lost,
// then gone, and remembered for a day with its last words.
//
// It must not know what links are made of, how instances are discovered, or
// what is captured from them.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/ops"
)

// Store is what the fleet needs of the archive's catalogue. Its contract is
// ops.Catalogue's.
type Store interface {
	PutInstance(ctx context.Context, i ops.Instance) error
	Instances(ctx context.Context, since time.Time) ([]ops.Instance, error)
	DeleteInstances(ctx context.Context, before time.Time) error
	AppendHistory(ctx context.Context, points []ops.HistoryPoint, step time.Duration) error
	History(ctx context.Context, id ops.InstanceID, from, to time.Time, step time.Duration) ([]ops.Heartbeat, error)
	DeleteHistory(ctx context.Context, before time.Time, step time.Duration) error
}

// Config makes a Fleet. Its zero value works and remembers nothing across a restart.
type Config struct {
	// Store keeps instances and history; nil = instances are forgotten with the
	// process and history is not kept.
	Store Store
	// Logger tells of joins and deaths; nil = silent.
	Logger *slog.Logger
	// Self is the boot id of the agent in the centre's own process; empty = the
	// centre is recognised by its host name and pid alone.
	Self ops.InstanceID
	// Bounds are how many there may be at once.
	Bounds Bounds
	// HeartbeatEvery is how often instances are asked to beat; 0 = ops.HeartbeatEvery.
	// It must stay well below ops.SuspectAfter.
	HeartbeatEvery time.Duration
	// Health says when an instance is in trouble; its zero value is the defaults.
	Health HealthRules
	// Admit is asked before an instance joins, and may add to its labels; an error
	// keeps it out and is what it is told. It must not call the fleet. nil = all may.
	Admit func(ops.Instance) (ops.Instance, error)
	// Expected is asked once a second what the sources say there should be; it must
	// not block. What Expect was told counts for more. nil = they say nothing.
	Expected func() map[ops.ServiceKey]ops.Expectation
	// Short is told once of each shortage that has lasted; it must not block. nil =
	// nobody is told.
	Short func(Shortage)
}

// Fleet is the register of instances. All methods may be called concurrently.
type Fleet struct {
	store    Store
	log      *slog.Logger
	self     ops.InstanceID
	pid      int
	hostname string
	bounds   Bounds
	rules    HealthRules
	admit    func(ops.Instance) (ops.Instance, error)
	every    time.Duration // between heartbeats
	short    func(Shortage)
	expects  func() map[ops.ServiceKey]ops.Expectation
	topic    changes.Topic[ops.InstanceID]
	wake     chan struct{} // holds a token when there are rows to write
	loaded   atomic.Bool   // who was known before is known again

	// mu guards everything below and every field of every member. Nothing under
	// it blocks: store, links and subscribers are called without it.
	mu      sync.Mutex
	members map[ops.InstanceID]*member
	places  map[place]map[*member]struct{} // the same, by where they run
	alive   population                     // of the members that are not gone
	epoch   uint64
	dirty   map[ops.InstanceID]struct{} // rows to write
	history history
	// declared and said are what the operator and the sources say there should be;
	// expected is what counts of both.
	declared, said map[ops.ServiceKey]ops.Expectation
	expected       map[ops.ServiceKey]*watched
}

// member is an instance and what the fleet remembers to judge it.
type member struct {
	inst ops.Instance
	// renewed is when the lease was last renewed: the last heartbeat, or the
	// centre's start for an instance it knows from before.
	renewed time.Time
	link    ops.Link                // nil = none
	leave   context.CancelCauseFunc // ends the membership that link belongs to
	ctx     context.Context         // of that membership
	epoch   uint64                  // of that membership
	trend   trend
	fine    bucket
	coarse  bucket
	metrics *metricsWatch
	stored  time.Time // when its row was last written
	// thresholds are its service's, as long as it is of that service.
	thresholds Thresholds
	vigil      vigil
	flaps      flaps
	recalled   bool // its usual numbers were asked of the store, or there are none
}

// New makes a fleet that knows nobody. Run keeps the leases.
func New(cfg Config) *Fleet {
	f := &Fleet{
		store: cfg.Store, log: cfg.Logger, self: cfg.Self,
		pid: os.Getpid(), bounds: cfg.Bounds.withDefaults(), rules: cfg.Health, admit: cfg.Admit, short: cfg.Short, expects: cfg.Expected, every: cfg.HeartbeatEvery,
		wake:    make(chan struct{}, 1),
		members: map[ops.InstanceID]*member{},
		places:  map[place]map[*member]struct{}{},
		dirty:   map[ops.InstanceID]struct{}{},
	}
	f.hostname, _ = os.Hostname() // unknown = recognised by Self alone
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.every == 0 {
		f.every = ops.HeartbeatEvery
	}
	return f
}

// Run loads what the store remembers, then judges leases and writes rows and
// history until ctx ends. It returns what the store failed with, after which
// nothing is written any more; a full disk is waited out.
func (f *Fleet) Run(ctx context.Context) error {
	if err := f.Load(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.judge(gctx) })
	if f.store != nil {
		g.Go(func() error { return f.write(gctx) })
		g.Go(func() error { return f.recall(gctx) })
	}
	err := g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
		return f.writeLast()
	}
	return err
}

// Join makes an instance a member and renews its lease with the heartbeats of
// its link until the membership ends. It blocks for as long and returns nil if
// the instance said goodbye, or else why the membership ended: the link was
// lost, no heartbeat came, a newer link of the same instance took over, or ctx
// ended. A member that joins again is the same instance, up again.
//
// An agentless instance with the id of one that is connected through its agent is
// the same process, found twice: the agent's link stays, and Join says for as long
// as it blocks that the other source sees it too.
//
// A ctx that ends with a cause of its own (context.WithCancelCause) says that
// the instance is wanted no longer: it is gone, with that reason.
func (f *Fleet) Join(ctx context.Context, inst ops.Instance, link ops.Link) error {
	if vouched, err := f.vouch(ctx, inst); vouched {
		return err
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	m, epoch, err := f.enter(ctx, leave, inst, link)
	if err != nil {
		return err
	}
	err = link.Watch(ctx, f.every, false, func(s ops.Sample) { f.beat(m, epoch, s.Heartbeat) })
	return f.left(ctx, m, epoch, err)
}

var errReplaced = ops.Errorf(ops.Conflict, "a newer connection of the same instance took over")

func (f *Fleet) enter(ctx context.Context, leave context.CancelCauseFunc, inst ops.Instance, link ops.Link) (*member, uint64, error) {
	switch {
	case !inst.ID.Valid():
		return nil, 0, ops.Errorf(ops.Invalid, "instance id %q is not valid: use 4 to 40 of a-z, 0-9 and hyphen", inst.ID)
	case !ops.ValidName(string(inst.Project)):
		return nil, 0, ops.Errorf(ops.Invalid, "project %q is not a valid name: use letters, digits, dot, underscore and hyphen", inst.Project)
	case !ops.ValidName(string(inst.Service)):
		return nil, 0, ops.Errorf(ops.Invalid, "service %q is not a valid name: use letters, digits, dot, underscore and hyphen", inst.Service)
	}
	if f.admit != nil {
		var err error
		if inst, err = f.admit(inst); err != nil {
			return nil, 0, err
		}
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[inst.ID]
	// What a process's own agent says of it counts for more than a list.
	corrected := m != nil && m.inst.Agentless && !inst.Agentless
	if m != nil && m.inst.Key() != inst.Key() && !corrected {
		return nil, 0, ops.Errorf(ops.Conflict, "instance %s is known as %s and cannot join as %s", inst.ID, m.inst.Key(), inst.Key())
	}
	if m == nil || m.inst.State == ops.InstanceGone {
		if err := f.bounds.room(f.alive, inst); err != nil {
			return nil, 0, err
		}
	}
	isNew := m == nil
	if isNew {
		m = &member{inst: inst, thresholds: f.rules.Of(inst.Key()), recalled: true}
		m.inst.State, m.inst.Joined = ops.InstanceGone, now // counted as alive below
		f.add(m)
	} else {
		if m.leave != nil {
			m.leave(errReplaced)
			if m.inst.State == ops.InstanceUp { // it lost its link before we did
				m.flaps.lost(now)
			}
		}
		// What the instance says of itself may have changed; what the fleet knows of it stays.
		old := m.inst
		inst.Seen = old.Seen
		f.remove(m)
		if old.State != ops.InstanceGone { // it may be listed no longer but connected
			f.alive.count(old, -1)
			f.alive.count(inst, 1)
		}
		m.inst, m.thresholds = inst, f.rules.Of(inst.Key())
		f.add(m)
		m.inst.State, m.inst.StateSince, m.inst.StateReason, m.inst.StateSays = old.State, old.StateSince, old.StateReason, old.StateSays
		m.inst.Joined, m.inst.Heartbeat, m.inst.Predecessor = old.Joined, old.Heartbeat, old.Predecessor
		m.inst.Revision = old.Revision
		f.disclaim(m)
	}
	m.inst.Self = inst.ID == f.self || (f.hostname != "" && inst.Process.PID == f.pid && inst.Process.Hostname == f.hostname)
	m.inst.LastSeen, m.renewed = now, now
	f.epoch++
	m.link, m.leave, m.ctx, m.epoch, m.metrics = link, leave, ctx, f.epoch, nil
	f.setState(m, ops.InstanceUp, "", "", now)
	if isNew {
		f.adopt(m)
		f.log.Info("instance joined", "instance", inst.ID, "service", inst.Key().String(), "source", inst.Source)
	}
	return m, m.epoch, nil
}

// beat renews the lease. A heartbeat is kept under the time it arrived, so that
// no instance's clock can reorder its history.
func (f *Fleet) beat(m *member, epoch uint64, hb ops.Heartbeat) {
	now := time.Now()
	f.mu.Lock()
	if m.epoch != epoch || m.link == nil {
		f.mu.Unlock()
		return
	}
	hb.At = now.UTC().Truncate(time.Millisecond)
	m.inst.LastSeen, m.renewed, m.inst.Heartbeat = now, now, hb
	m.trend.add(hb)
	f.record(m, hb)
	if m.inst.State != ops.InstanceUp {
		f.setState(m, ops.InstanceUp, "", "", now)
	}
	f.listen(m, now)
	id := m.inst.ID // the same for ever, but written anew by whoever joins again
	f.mu.Unlock()
	f.topic.Publish(id)
}

func (f *Fleet) left(ctx context.Context, m *member, epoch uint64, err error) error {
	now := time.Now()
	cause := context.Cause(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.epoch != epoch {
		return errReplaced
	}
	m.link, m.leave, m.ctx, m.metrics = nil, nil, nil, nil
	var given *ops.Error
	switch {
	case err == nil && cause == nil:
		f.bury(m, ops.VerdictCleanExit, ops.SaysProcess, ops.VerdictCleanExit, now)
		return nil
	case m.inst.State == ops.InstanceGone: // its lease ran out, which ended the membership
		return cause
	case cause == nil:
		if m.inst.State == ops.InstanceUp {
			m.flaps.lost(now)
		}
		f.setState(m, ops.InstanceSuspect, "connection lost", ops.SaysCentre, now)
		f.tellSuccessor(m, m.verdict()) // who replaced it may have joined before the loss was noticed
		return err
	case errors.As(cause, &given):
		f.bury(m, given.Message, m.inst.Source, ops.VerdictVanished, now)
		return cause
	default:
		// The centre itself is ending: no verdict on the instance.
		return cause
	}
}

// Filter selects instances; zero fields match all.
type Filter struct {
	Project ops.ProjectName
	Service ops.ServiceName
	// IncludeGone also selects the tombstones.
	IncludeGone bool
}

// Instances returns the matching ones by project, service and id. Labels and
// other references are shared: do not change them.
func (f *Fleet) Instances(filter Filter) []ops.Instance {
	f.mu.Lock()
	out := make([]ops.Instance, 0, min(len(f.members), 1024))
	for _, m := range f.members {
		if (filter.Project == "" || filter.Project == m.inst.Project) &&
			(filter.Service == "" || filter.Service == m.inst.Service) &&
			(filter.IncludeGone || m.inst.State != ops.InstanceGone) {
			out = append(out, m.inst)
		}
	}
	f.mu.Unlock()
	slices.SortFunc(out, func(a, b ops.Instance) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Instance returns one, or a NotFound error.
func (f *Fleet) Instance(id ops.InstanceID) (ops.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.members[id]; m != nil {
		return m.inst, nil
	}
	return ops.Instance{}, notFound(id)
}

// Link returns the way to an instance: NotFound if it is unknown, Unavailable
// if it is not connected now.
func (f *Fleet) Link(id ops.InstanceID) (ops.Link, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[id]
	if m == nil {
		return nil, notFound(id)
	}
	if m.link == nil {
		return nil, m.notConnected()
	}
	return m.link, nil
}

func notFound(id ops.InstanceID) error {
	return ops.Errorf(ops.NotFound, "no instance %s: list those there are with `ops instances`", id)
}

func (m *member) notConnected() error {
	if m.inst.State == ops.InstanceGone {
		return ops.Errorf(ops.Unavailable, "instance %s of %s is gone (%s): choose one that is up with `ops instances`", m.inst.ID, m.inst.Key(), m.inst.StateReason)
	}
	return ops.Errorf(ops.Unavailable, "instance %s of %s is not connected (%s): try again when it is back", m.inst.ID, m.inst.Key(), m.inst.StateReason)
}

// Subscribe tells which instances changed: joined, beat, or changed state. A
// slow reader learns of each once.
func (f *Fleet) Subscribe() *changes.Subscription[ops.InstanceID] { return f.topic.Subscribe() }

// add and remove keep the indexes; the caller holds f.mu.
func (f *Fleet) add(m *member) {
	f.members[m.inst.ID] = m
	for _, p := range placesOf(m.inst) {
		if f.places[p] == nil {
			f.places[p] = map[*member]struct{}{}
		}
		f.places[p][m] = struct{}{}
	}
}

func (f *Fleet) remove(m *member) {
	delete(f.members, m.inst.ID)
	for _, p := range placesOf(m.inst) {
		if delete(f.places[p], m); len(f.places[p]) == 0 {
			delete(f.places, p)
		}
	}
}

// setState changes the state, which somebody says has a reason, and marks the row and
// the instance as changed. The caller holds f.mu.
func (f *Fleet) setState(m *member, s ops.InstanceState, reason, says string, now time.Time) {
	wasGone, isGone := m.inst.State == ops.InstanceGone, s == ops.InstanceGone
	switch {
	case wasGone && !isGone:
		f.alive.count(m.inst, 1)
	case !wasGone && isGone:
		f.alive.count(m.inst, -1)
	}
	if m.inst.State != s {
		m.inst.StateSince = now
	}
	m.inst.State, m.inst.StateReason, m.inst.StateSays = s, reason, says
	m.assess(now)
	f.changed(m)
}

// changed marks a row to be written, and told whole. The caller holds f.mu.
func (f *Fleet) changed(m *member) {
	m.inst.Revision++
	if f.store != nil {
		f.dirty[m.inst.ID] = struct{}{}
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
	f.topic.Publish(m.inst.ID)
}

// bury makes a member a tombstone, for a reason that somebody gives, and tells its
// successor. The caller holds f.mu.
func (f *Fleet) bury(m *member, reason, says, verdict string, now time.Time) {
	f.setState(m, ops.InstanceGone, reason, says, now)
	f.settle(m)
	f.tellSuccessor(m, verdict)
	f.log.Info("instance gone", "instance", m.inst.ID, "service", m.inst.Key().String(), "reason", reason)
}

func silent(d time.Duration) string { return fmt.Sprintf("no heartbeat for %v", d) }
