package e2e

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// The frames that the brief's engineer looks for.
var (
	hashing    = function("golang.org/x/crypto/bcrypt.CompareHashAndPassword")
	heldInHold = function("gateway.(*Session).hold")
	newSession = function("gateway.newSession")
	roomOrBook = func(f frame) bool {
		return strings.Contains(f.function, "/game.(*Room).") || strings.Contains(f.function, "/game.(*Wallet).")
	}
)

const (
	recordWorker     = "record.(*Recorder).work"
	sessionSizeBytes = 256 << 10
)

// window is how long scenarios are captured.
const window = "10s"

// baseline is what the same load looks like when all is well. Every figure of a
// scenario is held against it.
type baseline struct {
	hashingShare     float64
	recorderIO       float64 // share of the record workers' time in network or pool
	recordGoroutines float64
	sendShare        float64 // of the block delta
	roomShare        float64 // of the mutex delta
	betP99           float64 // ms
	heldGoroutines   float64
	sessions         float64 // objects in use
}

var healthy struct {
	once sync.Once
	baseline
}

// healthyGame captures all four services while nothing is wrong, once.
func healthyGame(t *testing.T) baseline {
	t.Helper()
	s := game(t)
	healthy.once.Do(func() {
		s.until(t, "robot", "sockets_total", atLeast(60)) // everyone is in, and a wave is over
		time.Sleep(5 * time.Second)                       // the logins of the start are out of the way
		calm := s.figure(t, "game-service", "bet_p99_ms")
		captured := map[string]evidence{}
		var mu sync.Mutex
		// The game-service by itself, as in its scenario. Several captures at once
		// preempt those who hold a room, and a healthy room's share of the mutex
		// delta, 0 to 2 % otherwise, is then as much as a third.
		// On a machine that others use a holder is sometimes stopped all the same: a
		// window in which that happened says nothing of the game, and another is taken.
		for range 3 {
			t.Run("capture one", func(t *testing.T) {
				captured["game-service"] = captureOne(t, s.center, "game-service", "-d", window)
			})
			delay, all := weigh(t, captured["game-service"].profile(t, "mutex.pprof"), "delay", roomOrBook)
			t.Logf("rooms and wallets are %.1f %% of %.0f ms of mutex delta", 100*share(delay, all), all/1e6)
			if share(delay, all) < 0.50/5 {
				break
			}
		}
		calm = min(calm, s.figure(t, "game-service", "bet_p99_ms"))
		t.Run("capture the others", func(t *testing.T) {
			for _, service := range []string{"user-service", "gateway-service", "game-record-service"} {
				t.Run(service, func(t *testing.T) {
					t.Parallel()
					e := captureOne(t, s.center, service, "-d", window)
					mu.Lock()
					defer mu.Unlock()
					captured[service] = e
				})
			}
		})
		if len(captured) != 4 {
			t.Fatal("the healthy game could not be captured")
		}
		t.Run("nothing is diagnosed", func(t *testing.T) {
			for _, e := range captured {
				e.isWell(t)
			}
		})
		b := &healthy.baseline
		b.betP99 = calm
		b.hashingShare = share(weigh(t, captured["user-service"].profile(t, "cpu.pprof"), "cpu", hashing))
		w := waitsOf(t, captured["game-record-service"].files["trace.out"], recordWorker)
		b.recorderIO = share(w.io.Seconds(), w.all.Seconds())
		_, b.recordGoroutines = weigh(t, captured["game-record-service"].profile(t, "goroutine.pprof"), "goroutine", hashing)
		b.sendShare = share(weigh(t, captured["gateway-service"].profile(t, "block.pprof"), "delay", sendLine(t)))
		b.roomShare = share(weigh(t, captured["game-service"].profile(t, "mutex.pprof"), "delay", roomOrBook))
		b.heldGoroutines, _ = weigh(t, captured["gateway-service"].profile(t, "goroutine.pprof"), "goroutine", heldInHold)
		b.sessions = sessionsIn(t, captured["gateway-service"].profile(t, "heap.pprof"))
		t.Logf("healthy: %+v", *b)
	})
	if healthy.recordGoroutines == 0 {
		t.Fatal("the healthy game could not be captured")
	}
	return healthy.baseline
}

// sendLine matches the line on which the hub sends to a client's channel.
func sendLine(t *testing.T) func(frame) bool {
	line := sourceLine(t, "ws/ws.go", "c.sendCh <- msg")
	return func(f frame) bool {
		return strings.HasSuffix(f.function, "ws.(*Hub).Broadcast") && strings.HasSuffix(f.file, "ws/ws.go") && f.line == line
	}
}

func TestHealthyGameHasNoScenario(t *testing.T) {
	h := healthyGame(t)
	// A fifth of what each scenario must show.
	if h.hashingShare >= 0.60/5 {
		t.Errorf("hashing is %.0f %% of the CPU", 100*h.hashingShare)
	}
	if h.recorderIO >= 0.80/5 {
		t.Errorf("record workers spend %.0f %% of their time in network or pool", 100*h.recorderIO)
	}
	if h.sendShare >= 0.50/5 {
		t.Errorf("the send line is %.0f %% of the block delta", 100*h.sendShare)
	}
	if h.roomShare >= 0.50/5 {
		t.Errorf("rooms and wallets are %.0f %% of the mutex delta", 100*h.roomShare)
	}
	if h.heldGoroutines != 0 {
		t.Errorf("%v sessions wait to be resumed", h.heldGoroutines)
	}
}

func TestScenario1LoginStorm(t *testing.T) {
	h, s := healthyGame(t), game(t)
	s.fault(t, "1")
	s.until(t, "user-service", "login_p99_ms", atLeast(1000))
	e := captureOne(t, s.center, "user-service", "-d", window)
	cpu := e.profile(t, "cpu.pprof")
	got := share(weigh(t, cpu, "cpu", hashing))
	t.Logf("hashing is %.1f %% of the CPU (healthy %.1f %%)", 100*got, 100*h.hashingShare)
	if got < 0.60 {
		t.Errorf("hashing is %.0f %% of the CPU, want at least 60 %%", 100*got)
	}
	if h.hashingShare >= got/5 {
		t.Errorf("hashing is %.0f %% of the CPU when all is well", 100*h.hashingShare)
	}
	if who, _ := weigh(t, cpu, "cpu", function("user.(*Service).Login")); who == 0 {
		t.Error("the profile does not say who hashes")
	}
	e.saysFirst(t, "user.(*Service).Login", sourceLine(t, "user/user.go", "if err := bcrypt.CompareHashAndPassword(a.hash, []byte(c.Password)); err != nil {"), "cpu-password-hashing")
}

func TestScenario2SlowRecords(t *testing.T) {
	h, s := healthyGame(t), game(t)
	s.fault(t, "2")
	s.until(t, "game-service", "records_in_flight", atLeast(250))
	e := captureOne(t, s.center, "game-record-service", "-d", window)

	w := waitsOf(t, e.files["trace.out"], recordWorker)
	got := share(w.io.Seconds(), w.all.Seconds())
	_, goroutines := weigh(t, e.profile(t, "goroutine.pprof"), "goroutine", hashing)
	cpu := e.profile(t, "cpu.pprof")
	_, cpuNanos := weigh(t, cpu, "cpu", hashing)
	cores := cpuNanos / float64(cpu.DurationNanos)
	t.Logf("%d workers waited %.1f %% of %.1f s for network or pool (healthy %.1f %%); %.0f goroutines (healthy %.0f); %.1f %% of a core; %v",
		w.goroutines, 100*got, w.windowSeconds, 100*h.recorderIO, goroutines, h.recordGoroutines, 100*cores, w.reasons)
	if w.goroutines < 32 {
		t.Errorf("the trace shows %d record workers, want 32", w.goroutines)
	}
	if got < 0.80 {
		t.Errorf("record workers spend %.0f %% of their time in network or pool, want at least 80 %%", 100*got)
	}
	if h.recorderIO >= got/5 {
		t.Errorf("record workers spend %.0f %% of their time in network or pool when all is well", 100*h.recorderIO)
	}
	// Three times would be enough to be seen; five is what holds for every figure.
	if h.recordGoroutines >= goroutines/5 {
		t.Errorf("%.0f goroutines, want more than five times the healthy %.0f", goroutines, h.recordGoroutines)
	}
	if cores >= 0.10 {
		t.Errorf("%.0f %% of a core is used, want less than 10 %%", 100*cores)
	}
	e.saysFirst(t, "record.(*Recorder).write", sourceLine(t, "record/record.go", "if _, err := r.cfg.Pool.Exec(ctx, keep, rec.Room, rec.Round, rec.Player, rec.Color, rec.Stake, rec.Payout); err != nil {"), "downstream-wait", "pool-exhausted")
	s.batch(t, e)
}

func TestScenario3SlowConsumers(t *testing.T) {
	h, s := healthyGame(t), game(t)
	s.fault(t, "3")
	s.until(t, "gateway-service", "broadcasts_pending", atLeast(140))
	e := captureOne(t, s.center, "gateway-service", "-d", window)
	block := e.profile(t, "block.pprof")
	got := share(weigh(t, block, "delay", sendLine(t)))
	t.Logf("the send line is %.1f %% of the block delta (healthy %.1f %%)", 100*got, 100*h.sendShare)
	if got < 0.50 {
		t.Errorf("the send line is %.0f %% of the block delta, want at least 50 %%", 100*got)
	}
	if h.sendShare >= got/5 {
		t.Errorf("the send line is %.0f %% of the block delta when all is well", 100*h.sendShare)
	}
	line := sendLine(t)
	for _, s := range block.Sample {
		if hasFrame(s, line) && !strings.HasPrefix(s.Location[0].Line[0].Function.Name, "runtime.chansend") {
			t.Errorf("the wait at the send line ends in %s, not runtime.chansend", s.Location[0].Line[0].Function.Name)
		}
	}
	e.saysFirst(t, "ws.(*Hub).Broadcast", sourceLine(t, "ws/ws.go", "c.sendCh <- msg"), "channel-backpressure")
	s.kickSlow(t, e, 10) // the length of window
	s.off(t, "3")
	s.until(t, "gateway-service", "broadcasts_pending", atMost(20))
}

func TestScenario4LockAcrossQuery(t *testing.T) {
	h, s := healthyGame(t), game(t)
	s.fault(t, "4")
	time.Sleep(2 * time.Second) // two rounds
	e := captureOne(t, s.center, "game-service", "-d", window)
	p99 := s.figure(t, "game-service", "bet_p99_ms")
	delay, total := weigh(t, e.profile(t, "mutex.pprof"), "delay", roomOrBook)
	got := share(delay, total)
	t.Logf("rooms and wallets are %.1f %% of %.1f s of mutex delta (healthy %.1f %%); p99 of a bet %.1f ms (healthy %.1f ms)", 100*got, total/1e9, 100*h.roomShare, p99, h.betP99)
	if got < 0.50 {
		t.Errorf("rooms and wallets are %.0f %% of the mutex delta, want at least 50 %%", 100*got)
	}
	if h.roomShare >= got/5 {
		t.Errorf("rooms and wallets are %.0f %% of the mutex delta when all is well", 100*h.roomShare)
	}
	if p99 < 5*h.betP99 {
		t.Errorf("p99 of a bet is %.1f ms, want five times the healthy %.1f ms", p99, h.betP99)
	}
	// Who holds it, and what they do there.
	if held, _ := weigh(t, e.profile(t, "mutex.pprof"), "delay", function("game.(*Room).placeStrict")); share(held, total) < 0.50 {
		t.Errorf("the holder is named for %.0f %% of the mutex delta", 100*share(held, total))
	}
	e.saysFirst(t, "game.(*Room).placeStrict", strictQuery(t), "lock-held-across-io")
}

// sessionsIn is how many sessions a heap profile holds, by their size: what is
// small beside it is sampled so seldom that one sample stands for thousands.
func sessionsIn(t *testing.T, heap *profile.Profile) float64 {
	t.Helper()
	bytes, _ := weigh(t, heap, "inuse_space", newSession)
	return bytes / sessionSizeBytes
}

func TestScenario5SessionLeak(t *testing.T) {
	h, s := healthyGame(t), game(t)
	t.Parallel() // with the killed game-service, which the gateway does not need
	gateway := s.member(t, "gateway-service")
	before, err := gateway.state(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.fault(t, "5")
	s.until(t, "gateway-service", "sessions_held", atLeast(280))

	watch := watchDisconnects(t, gateway)
	e := captureOne(t, s.center, "gateway-service", "-d", window)
	counts := watch()

	leaked, _ := weigh(t, e.profile(t, "goroutine.pprof"), "goroutine", heldInHold)
	at := e.takenAt(t, "goroutine.pprof")
	low, high := around(t, counts, at, "disconnects_total")
	low, high = low-before.Figures["disconnects_total"], high-before.Figures["disconnects_total"]
	t.Logf("%.0f goroutines leaked, %.0f to %.0f disconnects", leaked, low, high)
	if leaked < 0.95*low || leaked > 1.05*high {
		t.Errorf("%.0f goroutines leaked for %.0f to %.0f disconnects, want one each ± 5 %%", leaked, low, high)
	}
	if h.heldGoroutines >= leaked/5 {
		t.Errorf("%.0f goroutines are leaked when all is well", h.heldGoroutines)
	}

	heap := e.profile(t, "heap.pprof")
	objects := sessionsIn(t, heap)
	// The heap is as of the last collection, which may be a wave of players ago.
	heapAt := e.takenAt(t, "heap.pprof")
	least, _ := around(t, counts, heapAt.Add(-3*time.Second), "sessions")
	_, most := around(t, counts, heapAt, "sessions")
	// Three standard deviations: all but one in 370 heaps of just so many objects.
	tolerance := 3 * sampledCount(most, sessionSizeBytes, float64(heap.Period))
	t.Logf("%.0f session objects in use ± %.0f %%, %.0f to %.0f sessions (healthy %.0f objects)", objects, 100*tolerance, least, most, h.sessions)
	if objects < least*(1-tolerance) || objects > most*(1+tolerance) {
		t.Errorf("%.0f session objects are in use, want %.0f to %.0f ± %.0f %%", objects, least, most, 100*tolerance)
	}
	if h.sessions >= objects/5 {
		t.Errorf("%.0f session objects are in use when all is well, %.0f now", h.sessions, objects)
	}
	e.saysFirst(t, "gateway.(*Session).hold", sourceLine(t, "gateway/session.go", "select {"), "goroutine-leak")
	e.namesType(t, "gateway.Session")
	s.off(t, "5")
	s.until(t, "gateway-service", "sessions_held", atMost(0))
}

// off switches a scenario off before its test has ended, to see the game recover.
func (s *stack) off(t *testing.T, scenario string) {
	t.Helper()
	t.Run("off", func(t *testing.T) { s.fault(t, scenario) }) // on again is no change; its end is off
}

// watchDisconnects notes the gateway's figures until the returned function is
// called.
func watchDisconnects(t *testing.T, gateway member) func() []state {
	ctx, cancel := context.WithCancel(t.Context())
	var seen []state
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if st, err := gateway.state(ctx); err == nil {
				seen = append(seen, st)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return func() []state {
		cancel()
		<-done
		return seen
	}
}

// around returns a figure just before and just after a time.
func around(t *testing.T, seen []state, at time.Time, figure string) (low, high float64) {
	t.Helper()
	value := func(s state) float64 {
		if figure == "sessions" { // open and held
			return s.Figures["sessions"] + s.Figures["sessions_held"]
		}
		return s.Figures[figure]
	}
	// The agent's stop of the world, and the way of the answer, take a moment.
	const slack = 250 * time.Millisecond
	low, high = math.Inf(1), math.Inf(-1)
	for i, st := range seen {
		last := i+1 == len(seen)
		if !last && seen[i+1].At.Before(at.Add(-slack)) {
			continue
		}
		low, high = min(low, value(st)), max(high, value(st))
		if st.At.After(at.Add(slack)) {
			break
		}
	}
	if math.IsInf(low, 0) {
		t.Fatalf("nothing was seen around %v", at)
	}
	return low, high
}
