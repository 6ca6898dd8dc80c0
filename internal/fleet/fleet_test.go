package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// process is a link whose process the test plays.
type process struct {
	ops.Link // Collect and Stop are not the fleet's business
	mu       sync.Mutex
	hb       ops.Heartbeat
	mute     bool
	watches  int // running now
	full     int // full watches ever begun
	end      chan error
}

func newProcess() *process { return &process{end: make(chan error)} }

func (p *process) Watch(ctx context.Context, interval time.Duration, full bool, fn func(ops.Sample)) error {
	p.mu.Lock()
	p.watches++
	if full {
		p.full++
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.watches--
		p.mu.Unlock()
	}()
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		p.mu.Lock()
		hb, mute := p.hb, p.mute
		p.mu.Unlock()
		if !mute {
			hb.At = time.Now()
			fn(ops.Sample{Heartbeat: hb})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-p.end:
			return err
		case <-t.C:
		}
	}
}

func (p *process) set(change func(*process)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *process) running() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watches
}

var errCut = ops.Errorf(ops.Unavailable, "connection reset")

type world struct {
	t    *testing.T
	f    *Fleet
	ctx  context.Context
	stop func()
	ran  chan error
}

func start(t *testing.T, cfg Config) *world {
	t.Helper()
	w := &world{t: t, f: New(cfg), ran: make(chan error, 1)}
	w.ctx, w.stop = context.WithCancel(context.Background())
	go func() { w.ran <- w.f.Run(w.ctx) }()
	synctest.Wait()
	return w
}

func (w *world) end() {
	w.t.Helper()
	w.stop()
	if err := <-w.ran; err != nil {
		w.t.Errorf("Run: %v", err)
	}
	synctest.Wait()
}

func instance(id ops.InstanceID) ops.Instance {
	return ops.Instance{
		ID: id, Project: "color-game", Service: "user-service", Source: "agent",
		Process: ops.Process{PID: 4711, Hostname: "host-a", StartTime: time.Now()},
	}
}

// join runs Join until the test's world ends and waits until it has begun.
func (w *world) join(inst ops.Instance, p ops.Link) <-chan error {
	w.t.Helper()
	out := make(chan error, 1)
	go func() { out <- w.f.Join(w.ctx, inst, p) }()
	synctest.Wait()
	return out
}

func (w *world) expect(id ops.InstanceID, state ops.InstanceState, reason string) ops.Instance {
	w.t.Helper()
	synctest.Wait()
	i, err := w.f.Instance(id)
	if err != nil {
		w.t.Fatal(err)
	}
	if i.State != state || i.StateReason != reason {
		w.t.Errorf("instance %s is %s (%q), want %s (%q)", id, i.State, i.StateReason, state, reason)
	}
	return i
}

func TestSilenceMakesSuspectThenGoneThenForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		p := newProcess()
		joined := w.join(instance("boot-1"), p)
		time.Sleep(12 * time.Second)
		w.expect("boot-1", ops.InstanceUp, "")
		p.set(func(p *process) { p.mute = true }) // the last heartbeat was at 10 s
		time.Sleep(12 * time.Second)              // 24 s: 14 s of silence
		w.expect("boot-1", ops.InstanceUp, "")
		time.Sleep(2 * time.Second) // 26 s
		w.expect("boot-1", ops.InstanceSuspect, "no heartbeat for 15s")
		time.Sleep(13 * time.Second) // 39 s: 29 s of silence
		w.expect("boot-1", ops.InstanceSuspect, "no heartbeat for 15s")
		time.Sleep(2 * time.Second)
		i := w.expect("boot-1", ops.InstanceGone, "vanished")
		if err := <-joined; err == nil || err.Error() != "no heartbeat for 30s" {
			t.Errorf("Join: %v, want that no heartbeat came", err)
		}
		if p.running() != 0 {
			t.Error("the silent link is still watched")
		}
		if got := time.Since(i.LastSeen); got < 30*time.Second || got > 32*time.Second {
			t.Errorf("LastSeen is %v ago", got)
		}
		if n := len(w.f.Instances(Filter{})); n != 0 {
			t.Errorf("%d instances without the gone, want 0", n)
		}
		if n := len(w.f.Instances(Filter{IncludeGone: true})); n != 1 {
			t.Errorf("%d instances with the gone, want 1", n)
		}
		time.Sleep(24*time.Hour - 10*time.Second)
		w.expect("boot-1", ops.InstanceGone, "vanished")
		time.Sleep(20 * time.Second)
		if _, err := w.f.Instance("boot-1"); ops.KindOf(err) != ops.NotFound {
			t.Errorf("the tombstone after a day: %v, want NotFound", err)
		}
		w.end()
	})
}

func TestAHeartbeatBringsASuspectBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		p := newProcess()
		p.mute = true
		w.join(instance("boot-1"), p)
		time.Sleep(16 * time.Second)
		w.expect("boot-1", ops.InstanceSuspect, "no heartbeat for 15s")
		p.set(func(p *process) { p.mute = false })
		time.Sleep(5 * time.Second)
		w.expect("boot-1", ops.InstanceUp, "")
		w.end()
	})
}

func TestALostLinkIsSuspectAtOnceAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		p := newProcess()
		joined := w.join(instance("boot-1"), p)
		first := w.expect("boot-1", ops.InstanceUp, "")
		time.Sleep(7 * time.Second)
		p.end <- errCut
		if err := <-joined; !errors.Is(err, errCut) {
			t.Errorf("Join: %v, want why the link was lost", err)
		}
		w.expect("boot-1", ops.InstanceSuspect, "connection lost")
		if _, err := w.f.Link("boot-1"); err == nil || err.Error() !=
			"instance boot-1 of color-game/user-service is not connected (connection lost): try again when it is back" {
			t.Errorf("Link: %v", err)
		}
		time.Sleep(20 * time.Second)
		again := newProcess()
		w.join(instance("boot-1"), again)
		i := w.expect("boot-1", ops.InstanceUp, "")
		if !i.Joined.Equal(first.Joined) {
			t.Error("coming back changed Joined")
		}
		if l, err := w.f.Link("boot-1"); err != nil || l != ops.Link(again) {
			t.Errorf("Link: %v, %v; want the new one", l, err)
		}
		again.end <- errCut
		time.Sleep(31 * time.Second)
		w.expect("boot-1", ops.InstanceGone, "vanished")
		if _, err := w.f.Link("boot-1"); err == nil || err.Error() !=
			"instance boot-1 of color-game/user-service is gone (vanished): choose one that is up with `ops instances`" {
			t.Errorf("Link: %v", err)
		}
		w.join(instance("boot-1"), newProcess()) // it was only very far away
		w.expect("boot-1", ops.InstanceUp, "")
		w.end()
	})
}

func TestGoodbyeIsGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		p := newProcess()
		joined := w.join(instance("boot-1"), p)
		p.end <- nil
		if err := <-joined; err != nil {
			t.Errorf("Join: %v", err)
		}
		w.expect("boot-1", ops.InstanceGone, "clean exit")
		w.end()
	})
}

func TestANewerLinkTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		old, young := newProcess(), newProcess()
		joined := w.join(instance("boot-1"), old)
		w.join(instance("boot-1"), young)
		if err := <-joined; ops.KindOf(err) != ops.Conflict {
			t.Errorf("the older Join: %v, want Conflict", err)
		}
		w.expect("boot-1", ops.InstanceUp, "")
		time.Sleep(time.Minute)
		w.expect("boot-1", ops.InstanceUp, "")
		if old.running() != 0 || young.running() != 1 {
			t.Errorf("watches: %d of the old link, %d of the new", old.running(), young.running())
		}
		w.end()
	})
}

func TestATargetThatIsWantedNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		ctx, drop := context.WithCancelCause(w.ctx)
		done := make(chan error, 1)
		go func() { done <- w.f.Join(ctx, instance("boot-1"), newProcess()) }()
		synctest.Wait()
		drop(ops.Errorf(ops.NotFound, "no longer listed by static"))
		if err := <-done; ops.KindOf(err) != ops.NotFound {
			t.Errorf("Join: %v", err)
		}
		w.expect("boot-1", ops.InstanceGone, "no longer listed by static")
		w.end()
	})
}

func TestJoinRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{Bounds: Bounds{Instances: 2}})
		w.join(instance("boot-1"), newProcess())
		bad := instance("boot-2")
		bad.ID = "../etc"
		noService := instance("boot-2")
		noService.Service = ""
		noProject := instance("boot-2")
		noProject.Project = "a b"
		thief := instance("boot-1")
		thief.Service = "gateway-service"
		for _, c := range []struct {
			inst ops.Instance
			want string
		}{
			{bad, `instance id "../etc" is not valid: use 4 to 40 of a-z, 0-9 and hyphen`},
			{noService, `service "" is not a valid name: use letters, digits, dot, underscore and hyphen`},
			{noProject, `project "a b" is not a valid name: use letters, digits, dot, underscore and hyphen`},
			{thief, `instance boot-1 is known as color-game/user-service and cannot join as color-game/gateway-service`},
		} {
			if err := w.f.Join(w.ctx, c.inst, newProcess()); err == nil || err.Error() != c.want {
				t.Errorf("Join: %v\nwant: %s", err, c.want)
			}
		}
		w.join(instance("boot-2"), newProcess())
		if err := w.f.Join(w.ctx, instance("boot-3"), newProcess()); err == nil || err.Error() != "the centre has 2 instances, the most it takes: run another centre for some services, or raise limits.fleet.instances" {
			t.Errorf("Join over the limit: %v", err)
		}
		w.end()
	})
}

func TestDefaultBounds(t *testing.T) {
	if b := New(Config{}).bounds; b != (Bounds{Agents: 5_000, Services: 2_000, Instances: 20_000}) {
		t.Errorf("%+v: docs/operations.md says otherwise", b)
	}
	for want, b := range map[string]Bounds{
		"agents: -1 is less than nothing: use 1 or more, or 0 for the default":    {Agents: -1},
		"services: -1 is less than nothing: use 1 or more, or 0 for the default":  {Services: -1},
		"instances: -1 is less than nothing: use 1 or more, or 0 for the default": {Instances: -1},
	} {
		if err := b.Validate(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestBoundsOfAgentsAndServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{Bounds: Bounds{Agents: 2, Services: 2, Instances: 4}})
		refused := func(inst ops.Instance, want string) {
			t.Helper()
			if err := w.f.Join(w.ctx, inst, newProcess()); ops.KindOf(err) != ops.Exhausted || err.Error() != want {
				t.Errorf("Join: %v\nwant: %s", err, want)
			}
		}
		of := func(id ops.InstanceID, service ops.ServiceName, agentless bool) ops.Instance {
			i := instance(id)
			i.Service, i.Agentless = service, agentless
			return i
		}
		first := newProcess()
		joined := w.join(of("boot-1", "lobby", false), first)
		w.join(of("boot-2", "wallet", false), newProcess())
		refused(of("boot-3", "lobby", false), "the centre has 2 agents, the most it takes: run another centre for some services, or raise limits.fleet.agents")
		refused(of("list-1", "chat", true), "the centre has 2 services, the most it takes: is OPS_SERVICE made of something that differs from process to process? Else run another centre for some of them, or raise limits.fleet.services")
		w.join(of("list-1", "lobby", true), newProcess())
		w.join(of("list-2", "lobby", true), newProcess())
		refused(of("list-3", "lobby", true), "the centre has 4 instances, the most it takes: run another centre for some services, or raise limits.fleet.instances")
		// Who comes again is no more than before; who is gone leaves a place.
		w.join(of("boot-2", "wallet", false), newProcess())
		first.end <- nil
		<-joined
		w.join(of("boot-3", "lobby", false), newProcess())
		w.expect("boot-3", ops.InstanceUp, "")
		w.end()
	})
}

func TestSelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{Self: "boot-self"})
		own := instance("boot-1")
		own.Process.PID, own.Process.Hostname = w.f.pid, w.f.hostname
		w.join(own, newProcess())
		w.join(instance("boot-self"), newProcess())
		w.join(instance("boot-2"), newProcess())
		for id, want := range map[ops.InstanceID]bool{"boot-1": true, "boot-self": true, "boot-2": false} {
			if i := w.expect(id, ops.InstanceUp, ""); i.Self != want {
				t.Errorf("%s: Self is %v, want %v", id, i.Self, want)
			}
		}
		w.end()
	})
}

func TestInstancesAreFilteredAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		for _, key := range []string{"b/y/inst-1", "a/x/inst-2", "b/x/inst-3", "a/x/inst-0"} {
			var p, s, id string
			if _, err := fmt.Sscanf(key, "%1s/%1s/%s", &p, &s, &id); err != nil {
				t.Fatal(err)
			}
			i := instance(ops.InstanceID(id))
			i.Project, i.Service = ops.ProjectName(p), ops.ServiceName(s)
			w.join(i, newProcess())
		}
		ids := func(f Filter) (out []ops.InstanceID) {
			for _, i := range w.f.Instances(f) {
				out = append(out, i.ID)
			}
			return out
		}
		if got, want := ids(Filter{}), []ops.InstanceID{"inst-0", "inst-2", "inst-3", "inst-1"}; !slices.Equal(got, want) {
			t.Errorf("all: %v, want %v", got, want)
		}
		if got, want := ids(Filter{Project: "b"}), []ops.InstanceID{"inst-3", "inst-1"}; !slices.Equal(got, want) {
			t.Errorf("project b: %v, want %v", got, want)
		}
		if got, want := ids(Filter{Project: "b", Service: "y"}), []ops.InstanceID{"inst-1"}; !slices.Equal(got, want) {
			t.Errorf("service b/y: %v, want %v", got, want)
		}
		w.end()
	})
}

func TestSubscribersLearnOfEachChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		sub := w.f.Subscribe()
		defer sub.Close()
		p := newProcess()
		w.join(instance("boot-1"), p)
		w.join(instance("boot-2"), newProcess())
		got, err := sub.Next(t.Context())
		slices.Sort(got)
		if err != nil || !slices.Equal(got, []ops.InstanceID{"boot-1", "boot-2"}) {
			t.Errorf("after two joins: %v, %v", got, err)
		}
		p.end <- errCut
		if got, err := sub.Next(t.Context()); err != nil || !slices.Equal(got, []ops.InstanceID{"boot-1"}) {
			t.Errorf("after a lost link: %v, %v", got, err)
		}
		w.end()
	})
}

func TestHowAProcessEnded(t *testing.T) {
	const gib = 1 << 30
	cases := []struct {
		name    string
		limit   int64 // of the cgroup
		memory  []int64
		heap    bool // memory is live heap, RSS unknown
		goodbye bool
		want    string
	}{
		{"RSS at 90 % of the limit", gib, []int64{gib * 91 / 100}, false, false, "likely OOM"},
		{"RSS well below the limit", gib, []int64{gib / 2, gib / 2, gib / 2}, false, false, "vanished"},
		{"climbing to the limit", gib, []int64{gib * 4 / 10, gib * 5 / 10, gib * 6 / 10, gib * 7 / 10, gib * 8 / 10}, false, false, "likely OOM"},
		{"heap climbing to the limit", gib, []int64{gib * 4 / 10, gib * 5 / 10, gib * 6 / 10, gib * 7 / 10, gib * 8 / 10}, true, false, "likely OOM"},
		{"climbing slowly", gib, []int64{gib * 60 / 100, gib * 61 / 100, gib * 62 / 100, gib * 63 / 100}, false, false, "vanished"},
		{"climbing far below the limit", 100 * gib, []int64{gib, 2 * gib, 4 * gib, 8 * gib}, false, false, "vanished"},
		{"no limit", 0, []int64{gib, 2 * gib, 4 * gib, 8 * gib}, false, false, "vanished"},
		{"goodbye at the limit", gib, []int64{gib * 95 / 100}, false, true, "clean exit"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, Config{})
				first := instance("boot-1")
				first.Process.MemoryLimitBytes = c.limit
				p := newProcess()
				began := time.Now()
				for n, bytes := range c.memory {
					p.set(func(p *process) {
						p.hb.RSSBytes = bytes
						if c.heap {
							p.hb.RSSBytes, p.hb.LiveHeapBytes = 0, bytes
						}
					})
					if n == 0 {
						w.join(first, p)
						time.Sleep(time.Second) // between heartbeats
					} else {
						time.Sleep(5 * time.Second)
					}
				}
				uptime := time.Since(began).Truncate(5 * time.Second)
				if c.goodbye {
					p.end <- nil
				} else {
					p.end <- errCut
				}
				synctest.Wait()
				time.Sleep(2 * time.Second)
				w.join(instance("boot-2"), newProcess())
				pre := w.expect("boot-2", ops.InstanceUp, "").Predecessor
				if pre == nil {
					t.Fatal("no predecessor")
				}
				last := c.memory[len(c.memory)-1]
				if c.heap {
					last = 0
				}
				want := ops.Predecessor{ID: "boot-1", Ended: pre.Ended, Uptime: uptime, LastRSSBytes: last, MemoryLimitBytes: c.limit, Verdict: c.want}
				if *pre != want {
					t.Errorf("predecessor\n got %+v\nwant %+v", *pre, want)
				}
				time.Sleep(31 * time.Second)
				w.expect("boot-1", ops.InstanceGone, c.want)
				if again := w.expect("boot-2", ops.InstanceUp, "").Predecessor; *again != want {
					t.Errorf("predecessor once it is gone\n got %+v\nwant %+v", *again, want)
				}
				w.end()
			})
		})
	}
}

func TestWhoReplacedWhom(t *testing.T) {
	later := func(id ops.InstanceID, change func(*ops.Instance)) ops.Instance {
		i := instance(id)
		if change != nil {
			change(&i)
		}
		return i
	}
	cases := []struct {
		name string
		next func() ops.Instance
		want bool
	}{
		{"same service and host", func() ops.Instance { return later("boot-2", nil) }, true},
		{"other host", func() ops.Instance {
			return later("boot-2", func(i *ops.Instance) { i.Process.Hostname = "host-b" })
		}, false},
		{"other host, same pod", func() ops.Instance {
			return later("boot-2", func(i *ops.Instance) {
				i.Process.Hostname = "host-b"
				i.Labels = map[string]string{"pod": "user-0"}
			})
		}, true},
		{"other service", func() ops.Instance {
			return later("boot-2", func(i *ops.Instance) { i.Service = "game-service" })
		}, false},
		{"started long before the other ended", func() ops.Instance {
			return later("boot-2", func(i *ops.Instance) { i.Process.StartTime = time.Now().Add(-time.Minute) })
		}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, Config{})
				first := instance("boot-1")
				first.Labels = map[string]string{"pod": "user-0"}
				p := newProcess()
				w.join(first, p)
				time.Sleep(2 * time.Minute)
				p.end <- errCut
				synctest.Wait()
				w.join(c.next(), newProcess())
				if got := w.expect("boot-2", ops.InstanceUp, "").Predecessor != nil; got != c.want {
					t.Errorf("boot-2 has a predecessor: %v, want %v", got, c.want)
				}
				w.end()
			})
		})
	}
}

func TestAPredecessorThatComesBackWasNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		a := newProcess()
		w.join(instance("boot-a"), a)
		time.Sleep(time.Second)
		w.join(instance("boot-b"), newProcess()) // quicker than the news of the loss
		a.end <- errCut
		if w.expect("boot-b", ops.InstanceUp, "").Predecessor == nil {
			t.Fatal("no predecessor while boot-a is lost")
		}
		w.join(instance("boot-a"), newProcess())
		if p := w.expect("boot-b", ops.InstanceUp, "").Predecessor; p != nil {
			t.Errorf("boot-a lives, but is boot-b's predecessor: %+v", p)
		}
		w.end()
	})
}

func TestEachPredecessorHasOneSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		a, b := newProcess(), newProcess()
		w.join(instance("boot-a"), a)
		w.join(instance("boot-b"), b)
		time.Sleep(time.Second)
		a.end <- errCut
		b.end <- errCut
		synctest.Wait()
		w.join(instance("boot-c"), newProcess())
		w.join(instance("boot-d"), newProcess())
		c := w.expect("boot-c", ops.InstanceUp, "").Predecessor
		d := w.expect("boot-d", ops.InstanceUp, "").Predecessor
		if c == nil || d == nil || c.ID == d.ID {
			t.Errorf("predecessors %+v and %+v, want one each", c, d)
		}
		w.end()
	})
}

func TestASuccessorLearnsLateOfAHostThatWentDark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		a := newProcess()
		w.join(instance("boot-a"), a)
		time.Sleep(time.Minute)
		a.set(func(p *process) { p.mute = true }) // power cut: no reset is ever sent
		time.Sleep(10 * time.Second)
		w.join(instance("boot-b"), newProcess())
		if p := w.expect("boot-b", ops.InstanceUp, "").Predecessor; p != nil {
			t.Errorf("boot-a is not known to be lost, but already is the predecessor: %+v", p)
		}
		time.Sleep(30 * time.Second)
		w.expect("boot-a", ops.InstanceGone, "vanished")
		if p := w.expect("boot-b", ops.InstanceUp, "").Predecessor; p == nil || p.ID != "boot-a" {
			t.Errorf("predecessor %+v, want boot-a", p)
		}
		w.end()
	})
}

func TestViewersShareOneWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		p := newProcess()
		w.join(instance("boot-1"), p)
		type viewer struct {
			n    int
			stop context.CancelFunc
			done chan error
		}
		watch := func(slow time.Duration) *viewer {
			v := &viewer{done: make(chan error, 1)}
			var ctx context.Context
			ctx, v.stop = context.WithCancel(w.ctx)
			go func() {
				v.done <- w.f.WatchMetrics(ctx, "boot-1", func(ops.Sample) {
					v.n++
					time.Sleep(slow)
				})
			}()
			synctest.Wait()
			return v
		}
		quick, slow := watch(0), watch(10*time.Second)
		time.Sleep(20*time.Second + time.Millisecond)
		late := watch(0)
		if p.full != 1 || p.running() != 2 { // the lease and the viewers
			t.Errorf("%d full watches begun, %d watches running; want 1 and 2", p.full, p.running())
		}
		if late.n != 1 {
			t.Errorf("a late viewer got %d samples at once, want the last one", late.n)
		}
		for _, v := range []*viewer{quick, slow, late} {
			v.stop()
			if err := <-v.done; !errors.Is(err, context.Canceled) {
				t.Errorf("WatchMetrics: %v", err)
			}
		}
		if quick.n != 21 || slow.n > 4 {
			t.Errorf("the quick viewer got %d samples (want 21), the slow one %d (want at most 4)", quick.n, slow.n)
		}
		if p.running() != 1 {
			t.Errorf("%d watches run without viewers, want only the lease's", p.running())
		}
		again := watch(0)
		p.end <- errCut
		p.end <- errCut
		if err := <-again.done; ops.KindOf(err) != ops.Unavailable {
			t.Errorf("WatchMetrics when the link is lost: %v, want Unavailable", err)
		}
		synctest.Wait()
		if err := w.f.WatchMetrics(w.ctx, "boot-1", nil); ops.KindOf(err) != ops.Unavailable {
			t.Errorf("WatchMetrics of a lost instance: %v, want Unavailable", err)
		}
		if err := w.f.WatchMetrics(w.ctx, "boot-9", nil); ops.KindOf(err) != ops.NotFound {
			t.Errorf("WatchMetrics of an unknown instance: %v, want NotFound", err)
		}
		w.end()
	})
}

func TestTombstonesOfACrashLoopAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		for n := range tombstonesPerService + 50 {
			p := newProcess()
			done := w.join(instance(ops.InstanceID(fmt.Sprintf("boot-%04d", n))), p)
			p.end <- nil
			<-done
			time.Sleep(time.Second)
		}
		got := w.f.Instances(Filter{IncludeGone: true})
		if len(got) > tombstonesPerService+1 || got[len(got)-1].ID != "boot-0249" {
			t.Errorf("%d tombstones, the last %s; want %d with the newest", len(got), got[len(got)-1].ID, tombstonesPerService)
		}
		w.end()
	})
}

// TestTombstonesOfManyServicesAreBounded is a peer that joins and leaves under
// ever new names.
func TestTombstonesOfManyServicesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = tombstonesPerService + 100
		w := start(t, Config{Bounds: Bounds{Instances: most, Agents: most}})
		for n := range most + 50 {
			p := newProcess()
			i := instance(ops.InstanceID(fmt.Sprintf("boot-%04d", n)))
			i.Service = ops.ServiceName(fmt.Sprintf("service-%04d", n))
			done := w.join(i, p)
			p.end <- nil
			<-done
			time.Sleep(time.Second)
		}
		got := w.f.Instances(Filter{IncludeGone: true})
		if last := ops.InstanceID(fmt.Sprintf("boot-%04d", most+49)); len(got) > most+1 || got[len(got)-1].ID != last {
			t.Errorf("%d tombstones, the last %s; want %d with the newest", len(got), got[len(got)-1].ID, most)
		}
		w.end()
	})
}

func BenchmarkJudge10000(b *testing.B) {
	f := New(Config{})
	for n := range 10_000 {
		i := instance(ops.InstanceID(fmt.Sprintf("boot-%05d", n)))
		i.State = ops.InstanceUp
		f.add(&member{inst: i, renewed: time.Now()})
	}
	now := time.Now()
	for b.Loop() {
		f.judgeOnce(now)
	}
}

// wrongClock is a process whose clock is off.
type wrongClock struct {
	*process
	off time.Duration
}

func (p wrongClock) Watch(ctx context.Context, interval time.Duration, full bool, fn func(ops.Sample)) error {
	return p.process.Watch(ctx, interval, full, func(s ops.Sample) {
		s.Heartbeat.At = s.Heartbeat.At.Add(p.off)
		fn(s)
	})
}

func TestAHeartbeatIsKeptUnderTheTimeItArrived(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, Config{})
			w.join(instance("boot-1"), wrongClock{newProcess(), off})
			time.Sleep(time.Minute)
			i := w.expect("boot-1", ops.InstanceUp, "")
			if age := time.Since(i.Heartbeat.At); age < 0 || age > ops.HeartbeatEvery {
				t.Errorf("a clock that is off by %v: the last heartbeat is %v old", off, age)
			}
			w.end()
		})
	}
}

// TestWhoSaysThatItIsDown: a goodbye is the process's own word, silence the centre's,
// and a list that leaves it out the source's.
func TestWhoSaysThatItIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		check := func(id ops.InstanceID, want string) {
			t.Helper()
			synctest.Wait()
			i, err := w.f.Instance(id)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%s, says %s", i.State, i.StateSays); got != want || i.StateSince.IsZero() {
				t.Errorf("%s since %v, want %s", got, i.StateSince, want)
			}
		}
		leaves, cut, mute := newProcess(), newProcess(), newProcess()
		w.join(instance("boot-1"), leaves)
		w.join(instance("boot-2"), cut)
		w.join(instance("boot-3"), mute)
		check("boot-1", "up, says ")
		leaves.end <- nil
		check("boot-1", "gone, says process")
		cut.end <- errCut
		check("boot-2", "suspect, says centre")
		w.join(instance("boot-2"), cut)
		check("boot-2", "up, says ")
		mute.set(func(p *process) { p.mute = true })
		time.Sleep(20 * time.Second)
		check("boot-3", "suspect, says centre")
		time.Sleep(20 * time.Second)
		check("boot-3", "gone, says centre")

		ctx, unlist := context.WithCancelCause(w.ctx)
		found := seenFromOutside("static-1", "etcd")
		ended := make(chan error, 1)
		go func() { ended <- w.f.Join(ctx, found, newProcess()) }()
		check("static-1", "up, says ")
		unlist(ops.Errorf(ops.NotFound, "no longer listed by etcd"))
		<-ended
		check("static-1", "gone, says etcd")
		w.end()
	})
}
