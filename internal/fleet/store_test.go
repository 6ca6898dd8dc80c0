package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// memoryStore is a Store that can be full or broken.
type memoryStore struct {
	mu        sync.Mutex
	err       error
	instances map[ops.InstanceID]ops.Instance
	history   map[time.Duration][]ops.HistoryPoint
	puts      int
	appends   int
}

func newStore() *memoryStore {
	return &memoryStore{instances: map[ops.InstanceID]ops.Instance{}, history: map[time.Duration][]ops.HistoryPoint{}}
}

func (s *memoryStore) breakWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *memoryStore) PutInstance(_ context.Context, i ops.Instance) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.puts++
	s.instances[i.ID] = i
	return nil
}

func (s *memoryStore) Instances(_ context.Context, since time.Time) (out []ops.Instance, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.instances {
		if !i.LastSeen.Before(since) {
			out = append(out, i)
		}
	}
	return out, s.err
}

func (s *memoryStore) DeleteInstances(_ context.Context, before time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, i := range s.instances {
		if i.LastSeen.Before(before) {
			delete(s.instances, id)
		}
	}
	return s.err
}

func (s *memoryStore) AppendHistory(_ context.Context, points []ops.HistoryPoint, step time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.appends++
	s.history[step] = append(s.history[step], points...)
	return nil
}

func (s *memoryStore) History(_ context.Context, id ops.InstanceID, from, to time.Time, step time.Duration) (out []ops.Heartbeat, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.history[step] {
		if p.Instance == id && !p.Heartbeat.At.Before(from) && p.Heartbeat.At.Before(to) {
			out = append(out, p.Heartbeat)
		}
	}
	return out, s.err
}

func (s *memoryStore) DeleteHistory(_ context.Context, before time.Time, step time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history[step] = slices.DeleteFunc(s.history[step], func(p ops.HistoryPoint) bool { return p.Heartbeat.At.Before(before) })
	return s.err
}

func (s *memoryStore) row(id ops.InstanceID) (ops.Instance, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.instances[id]
	return i, ok
}

func TestARestartOfTheCentre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		w := start(t, Config{Store: store})
		dead, oom, alive := newProcess(), newProcess(), newProcess()
		w.join(instance("boot-dead"), dead)
		limited := instance("boot-oom")
		limited.Process.Hostname, limited.Process.MemoryLimitBytes = "host-b", 1000
		oom.hb.RSSBytes = 950
		w.join(limited, oom)
		away := instance("boot-away")
		away.Process.Hostname = "host-c"
		w.join(away, alive)
		dead.end <- nil
		time.Sleep(time.Minute)
		w.end() // the centre goes down; boot-oom dies meanwhile, boot-away comes back

		time.Sleep(5 * time.Minute)
		w = start(t, Config{Store: store})
		w.expect("boot-dead", ops.InstanceGone, "clean exit")
		w.expect("boot-oom", ops.InstanceSuspect, "not heard of since the centre restarted")
		w.join(away, newProcess())
		w.expect("boot-away", ops.InstanceUp, "")
		time.Sleep(29 * time.Second)
		w.expect("boot-oom", ops.InstanceSuspect, "not heard of since the centre restarted")
		time.Sleep(2 * time.Second)
		w.expect("boot-oom", ops.InstanceGone, "likely OOM")
		w.expect("boot-away", ops.InstanceUp, "")

		reborn := instance("boot-reborn")
		reborn.Process.Hostname = "host-b"
		w.join(reborn, newProcess())
		if p := w.expect("boot-reborn", ops.InstanceUp, "").Predecessor; p == nil || p.ID != "boot-oom" || p.Verdict != ops.VerdictLikelyOOM || p.LastRSSBytes != 950 {
			t.Errorf("predecessor across the restart: %+v", p)
		}
		w.end()
		if i, ok := store.row("boot-oom"); !ok || i.State != ops.InstanceGone {
			t.Errorf("the row of boot-oom: %+v", i)
		}
	})
}

func TestWhoJoinedBeforeTheStoreWasLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		old := instance("boot-old")
		old.State, old.StateReason, old.LastSeen = ops.InstanceGone, ops.VerdictCleanExit, time.Now()
		store.instances[old.ID] = old
		f := New(Config{Store: store})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- f.Join(ctx, instance("boot-new"), newProcess()) }()
		synctest.Wait()
		go func() { ended <- f.Run(ctx) }()
		synctest.Wait()
		if i, err := f.Instance("boot-new"); err != nil || i.Predecessor == nil || i.Predecessor.Verdict != ops.VerdictCleanExit {
			t.Errorf("%+v, %v; want boot-old as the predecessor", i.Predecessor, err)
		}
		stop()
		<-ended
		<-ended
	})
}

func TestRowsAreNotWrittenForHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		w := start(t, Config{Store: store})
		w.join(instance("boot-1"), newProcess())
		time.Sleep(time.Hour)
		store.mu.Lock()
		puts := store.puts
		store.mu.Unlock()
		if puts > 8 { // one for joining, one every ten minutes so that the row does not look forgotten
			t.Errorf("%d rows written in an hour of heartbeats", puts)
		}
		time.Sleep(40 * time.Hour)
		if i, ok := store.row("boot-1"); !ok || time.Since(i.LastSeen) > 11*time.Minute {
			t.Errorf("the row of a long-lived instance was last seen at %v (exists: %v)", i.LastSeen, ok)
		}
		w.end()
	})
}

func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		w := start(t, Config{Store: store})
		p := newProcess()
		began := time.Now()
		p.hb = ops.Heartbeat{CPUCores: 1, PoolWaiters: 7, RSSBytes: 100}
		w.join(instance("boot-1"), p)
		time.Sleep(time.Second)
		p.set(func(p *process) { p.hb = ops.Heartbeat{CPUCores: 3, PoolWaiters: 2, RSSBytes: 50} })
		time.Sleep(59*time.Second + time.Millisecond) // 13 heartbeats, 6 whole slots and one begun

		got, step, err := w.f.History(t.Context(), "boot-1", began, time.Now())
		if err != nil || step != 10*time.Second || len(got) != 7 {
			t.Fatalf("history: %d points at %v, %v; want 7 at 10s", len(got), step, err)
		}
		if hb := got[0]; hb.CPUCores != 2 || hb.PoolWaiters != 7 || hb.RSSBytes != 50 {
			t.Errorf("the first point: CPU %v (want the mean, 2), waiters %d (want the worst, 7), RSS %d (want the last, 50)", hb.CPUCores, hb.PoolWaiters, hb.RSSBytes)
		}
		if got, _, _ := w.f.History(t.Context(), "boot-1", began.Add(20*time.Second), began.Add(40*time.Second)); len(got) != 2 {
			t.Errorf("20 s to 40 s: %d points, want 2", len(got))
		}
		if _, _, err := w.f.History(t.Context(), "boot-9", began, time.Now()); ops.KindOf(err) != ops.NotFound {
			t.Errorf("history of an unknown instance: %v, want NotFound", err)
		}

		time.Sleep(25 * time.Hour)
		got, step, err = w.f.History(t.Context(), "boot-1", began, time.Now())
		if err != nil || step != 5*time.Minute || len(got) != 301 {
			t.Errorf("history of 25 h: %d points at %v, %v; want 301 at 5m", len(got), step, err)
		}
		store.mu.Lock()
		fine, appends := len(store.history[ops.HistoryFineStep]), store.appends
		store.mu.Unlock()
		if fine > 25*360+10 || fine < 24*360-10 {
			t.Errorf("%d fine points are kept, want those of 24 h to 25 h", fine)
		}
		if appends > 25*360+400 {
			t.Errorf("%d batches for 25 h: history was not written in batches", appends)
		}
		w.end()
	})
}

func TestLastWordsReachTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		w := start(t, Config{Store: store})
		p := newProcess()
		w.join(instance("boot-1"), p)
		p.set(func(p *process) { p.hb.RSSBytes = 42 })
		time.Sleep(6 * time.Second)
		p.end <- nil
		time.Sleep(11 * time.Second)
		got, _, err := w.f.History(t.Context(), "boot-1", time.Now().Add(-time.Minute), time.Now())
		if err != nil || len(got) != 1 || got[0].RSSBytes != 42 {
			t.Errorf("history: %+v, %v; want the last words", got, err)
		}
		store.mu.Lock()
		n := len(store.history[ops.HistoryFineStep])
		store.mu.Unlock()
		if n != 1 {
			t.Errorf("%d points written, want 1", n)
		}
		w.end()
	})
}

func TestAFullDiskIsWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		w := start(t, Config{Store: store})
		store.breakWith(ops.Errorf(ops.Exhausted, "the disk is full"))
		began := time.Now()
		w.join(instance("boot-1"), newProcess())
		time.Sleep(time.Minute)
		if _, ok := store.row("boot-1"); ok {
			t.Fatal("a row was written to a full disk")
		}
		store.breakWith(nil)
		time.Sleep(20 * time.Second)
		if _, ok := store.row("boot-1"); !ok {
			t.Error("the row was not written once there was room again")
		}
		store.mu.Lock()
		points := slices.Clone(store.history[ops.HistoryFineStep])
		store.mu.Unlock()
		if len(points) < 6 || points[0].Heartbeat.At.Sub(began) > 10*time.Second {
			t.Errorf("%d points survived the full disk", len(points))
		}
		w.end()
	})
}

func TestABrokenStoreEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		w := start(t, Config{Store: store})
		broken := errors.New("malformed database")
		store.breakWith(broken)
		done := w.join(instance("boot-1"), newProcess())
		if err := <-w.ran; !errors.Is(err, broken) {
			t.Errorf("Run: %v, want the store's error", err)
		}
		w.stop()
		<-done
	})
}
