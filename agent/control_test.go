package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// invoke runs a control over the tunnel: "gogc", "percent=50", "ttl=1s".
func invoke(t *testing.T, client agentv1.AgentServiceClient, name string, words ...string) (*agentv1.InvokeControlResponse, error) {
	t.Helper()
	req := &agentv1.InvokeControlRequest{Name: name, Args: map[string]string{}, Actor: "local:ann"}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "ttl":
			d, err := time.ParseDuration(v)
			if err != nil {
				t.Fatal(err)
			}
			req.Ttl = durationpb.New(d)
		case "revert":
			req.Revert = true
		case "dry":
			req.DryRun = true
		default:
			req.Args[k] = v
		}
	}
	return client.InvokeControl(t.Context(), req)
}

// told is the answer in one line.
func told(resp *agentv1.InvokeControlResponse, err error) string {
	if err != nil {
		return status.Code(err).String() + ": " + status.Convert(err).Message()
	}
	if resp.GetError() != "" {
		return "error: " + resp.GetError()
	}
	return strings.TrimSpace(resp.GetMessage() + " " + resp.GetResultJson())
}

// settings describes a setting: "gogc=50 (was 100)".
func settingNow(t *testing.T, client agentv1.AgentServiceClient, name string) *agentv1.Control {
	t.Helper()
	resp, err := client.ListControls(t.Context(), &agentv1.ListControlsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range resp.GetControls() {
		if c.GetName() == name {
			return c
		}
	}
	t.Fatalf("there is no control %s", name)
	return nil
}

// ownSettings keeps a test's changes of the process from the next test, and
// gives it known values to begin with.
func ownSettings(t *testing.T) {
	t.Helper()
	gogc, limit, procs := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64), runtime.GOMAXPROCS(0)
	t.Cleanup(func() {
		debug.SetGCPercent(gogc)
		debug.SetMemoryLimit(limit)
		if runtime.GOMAXPROCS(0) != procs {
			runtime.GOMAXPROCS(procs)
		}
	})
}

func TestSettingsAreSetShownAndReverted(t *testing.T) {
	ownSettings(t)
	level := &slog.LevelVar{}
	var drained atomic.Bool
	_, client := joined(t, func(c *Config, _ *tuning) {
		c.LogLevel = level
		c.Drain = func(_ context.Context, on bool) error { drained.Store(on); return nil }
		c.FixedGOMAXPROCS = true
	})
	procs := fmt.Sprint(runtime.GOMAXPROCS(0))
	for _, tt := range []struct {
		name, arg, value, original string
		now                        func() bool // what the process says itself
	}{
		{"gogc", "percent=50", "50", "100", func() bool { p, _ := gcSettings(); return p == 50 }},
		{"memory-limit", "limit=2GiB", "2GiB", "off", func() bool { return debug.SetMemoryLimit(-1) == 2<<30 }},
		{"gomaxprocs", "procs=3", "3", procs, func() bool { return runtime.GOMAXPROCS(0) == 3 }},
		{"log-level", "level=debug", "debug", "info", func() bool { return level.Level() == slog.LevelDebug }},
		{"mutex-fraction", "fraction=9", "9", "off", func() bool { return runtime.SetMutexProfileFraction(-1) == 9 }},
		{"block-rate", "rate=10µs", "10µs", "off", func() bool { return !findBlockRate().known() || findBlockRate().ticks() > 1 }},
		{"drain", "state=on", "on", "off", drained.Load},
	} {
		t.Run(tt.name, func(t *testing.T) {
			was := settingNow(t, client, tt.name)
			if was.GetValue() != tt.original || was.GetSetTo() != "" || !was.GetSetting() || !was.GetMutating() {
				t.Errorf("before: %v", was)
			}
			if got := told(invoke(t, client, tt.name, tt.arg, "dry")); got != fmt.Sprintf("would set %s from %s to %s", tt.name, tt.original, tt.value) || settingNow(t, client, tt.name).GetValue() != tt.original {
				t.Errorf("dry run: %s", got)
			}
			if got, want := told(invoke(t, client, tt.name, tt.arg)), fmt.Sprintf("%s is %s now; it was %s", tt.name, tt.value, tt.original); got != want || !tt.now() {
				t.Errorf("set: %s; want %s; the process agrees: %v", got, want, tt.now())
			}
			is := settingNow(t, client, tt.name)
			if is.GetValue() != tt.value || is.GetSetTo() != tt.value || is.GetOriginal() != tt.original || is.GetRevertsAt() != nil {
				t.Errorf("after: %v", is)
			}
			if got, want := told(invoke(t, client, tt.name, "revert")), fmt.Sprintf("%s is %s again; it was %s", tt.name, tt.original, tt.value); got != want || tt.now() && tt.name != "block-rate" {
				t.Errorf("revert: %s; want %s", got, want)
			}
			if got, want := told(invoke(t, client, tt.name, "revert")), fmt.Sprintf("no control has changed %s: it is %s", tt.name, tt.original); got != want {
				t.Errorf("second revert: %s; want %s", got, want)
			}
		})
	}
	if got := findBlockRate().ticks(); got != 0 {
		t.Errorf("the block rate is left at %d ticks", got)
	}
}

// A time to live ends in the process: there need be no centre any more.
func TestTimeToLiveEndsWithTheCentreGone(t *testing.T) {
	ownSettings(t)
	c := newCentre(t, "127.0.0.1:0", "")
	a := startTest(t, func(cfg *Config, _ *tuning) { cfg.Center = c.addr })
	tunnel := c.accept()
	began := time.Now()
	resp, err := invoke(t, tunnel, "gogc", "percent=50", "ttl=1s")
	if err != nil || resp.GetRevertsAt() == nil || resp.GetMessage() != "gogc is 50 for 1s; it was 100" {
		t.Fatal(resp, err)
	}
	c.close() // for good
	tunnel.close()
	if p, _ := gcSettings(); p != 50 && time.Since(began) < time.Second {
		t.Fatalf("GOGC is %d after the centre has gone", p)
	}
	eventually(t, "GOGC is back", func() bool { p, _ := gcSettings(); return p == 100 })
	if took := time.Since(began); took < time.Second {
		t.Errorf("it went back after %v", took)
	}
	_ = a
}

func TestTimeToLiveOutlivesAReconnection(t *testing.T) {
	ownSettings(t)
	c := newCentre(t, "127.0.0.1:0", "")
	startTest(t, func(cfg *Config, _ *tuning) { cfg.Center = c.addr })
	tunnel := c.accept()
	began := time.Now()
	if _, err := invoke(t, tunnel, "gogc", "percent=50", "ttl=2s"); err != nil {
		t.Fatal(err)
	}
	tunnel.close()
	again := c.accept()
	is := settingNow(t, again, "gogc")
	if inTime := time.Since(began) < 2*time.Second; inTime && (is.GetValue() != "50" || is.GetOriginal() != "100" || is.GetRevertsAt() == nil) {
		t.Errorf("over the new connection: %v", is)
	}
	eventually(t, "GOGC is back", func() bool { return settingNow(t, again, "gogc").GetValue() == "100" })
}

// A time to live on top of a change without one goes back to that change, and a
// later change takes the earlier timer away.
func TestTimeToLiveOnTopOfAChange(t *testing.T) {
	ownSettings(t)
	_, client := joined(t, nil)
	for _, words := range [][]string{{"percent=80"}, {"percent=60", "ttl=1h"}, {"percent=50", "ttl=1s"}} {
		if _, err := invoke(t, client, "gogc", words...); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "GOGC is what was set for good", func() bool { return settingNow(t, client, "gogc").GetValue() == "80" })
	if is := settingNow(t, client, "gogc"); is.GetSetTo() != "80" || is.GetOriginal() != "100" || is.GetRevertsAt() != nil {
		t.Errorf("after the time to live: %v", is)
	}
	if got := told(invoke(t, client, "gogc", "revert")); got != "gogc is 100 again; it was 80" {
		t.Error(got)
	}
}

func TestTimeToLiveLeavesWhatTheProgramChanged(t *testing.T) {
	ownSettings(t)
	_, client := joined(t, nil)
	if _, err := invoke(t, client, "gogc", "percent=50", "ttl=1s"); err != nil {
		t.Fatal(err)
	}
	debug.SetGCPercent(333)
	eventually(t, "the time is over", func() bool { return settingNow(t, client, "gogc").GetSetTo() == "" })
	if p, _ := gcSettings(); p != 333 {
		t.Errorf("GOGC is %d, and the program had set 333", p)
	}
}

func TestCloseLeavesTheProcessAsItWas(t *testing.T) {
	ownSettings(t)
	var drained atomic.Bool
	a, client := joined(t, func(c *Config, _ *tuning) {
		c.Drain = func(_ context.Context, on bool) error { drained.Store(on); return nil }
	})
	for name, arg := range map[string]string{"gogc": "percent=50", "memory-limit": "limit=2GiB", "mutex-fraction": "fraction=9", "drain": "state=on"} {
		if _, err := invoke(t, client, name, arg, "ttl=1h"); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if p, limit := gcSettings(); p != 100 || limit != 0 || runtime.SetMutexProfileFraction(-1) != 0 {
		t.Errorf("GOGC is %d, the limit %d, the mutex fraction %d", p, limit, runtime.SetMutexProfileFraction(-1))
	}
	if !drained.Load() {
		t.Error("a process that ends took itself back into service")
	}
}

func TestGOMAXPROCSGoesBackToAutomatic(t *testing.T) {
	ownSettings(t)
	t.Setenv("GOMAXPROCS", "")
	runtime.SetDefaultGOMAXPROCS()
	automatic := runtime.GOMAXPROCS(0)
	_, client := joined(t, nil)
	if is := settingNow(t, client, "gomaxprocs"); is.GetValue() != "auto" {
		t.Fatalf("it is %v, and the runtime chose %d of %d CPUs", is, automatic, runtime.NumCPU())
	}
	if got, want := told(invoke(t, client, "gomaxprocs", fmt.Sprintf("procs=%d", automatic+1), "ttl=1s")), fmt.Sprintf("gomaxprocs is %d for 1s; it was auto", automatic+1); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	eventually(t, "GOMAXPROCS is automatic", func() bool { return settingNow(t, client, "gomaxprocs").GetValue() == "auto" })
	if got := runtime.GOMAXPROCS(0); got != automatic {
		t.Errorf("GOMAXPROCS is %d, the runtime's choice was %d", got, automatic)
	}
	for _, tt := range []struct {
		cpus  int
		quota float64
		want  int
	}{{8, 0, 8}, {8, 3.2, 4}, {8, 0.5, 2}, {1, 0.5, 1}, {4, 16, 4}} {
		if got := defaultProcs(tt.cpus, tt.quota); got != tt.want {
			t.Errorf("%d CPUs, quota %v: %d, want %d", tt.cpus, tt.quota, got, tt.want)
		}
	}
}

// A capture's restore returns to the control's rate, and a time to live that ends
// within the window waits for its end.
func TestRatesGoThroughTheArbiter(t *testing.T) {
	if !findBlockRate().known() {
		t.Skip("the block rate of this build cannot be read")
	}
	own := ownRates(t)
	_, client := joined(t, nil)
	if _, err := invoke(t, client, "mutex-fraction", "fraction=50"); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke(t, client, "block-rate", "rate=1ms"); err != nil {
		t.Fatal(err)
	}
	controlled := findBlockRate().ticks()
	if controlled <= own {
		t.Fatalf("the control's rate is %d ticks, the program's %d", controlled, own)
	}
	// The window lasts as long as this takes.
	req := request("rates-arbiter", time.Minute, agentv1.Kind_KIND_BLOCK, agentv1.Kind_KIND_MUTEX, agentv1.Kind_KIND_RUNTIME)
	seen, stopped := false, false
	_, err := collect(t, t.Context(), client, req, func(r *received) {
		if seen {
			if is := settingNow(t, client, "block-rate"); !stopped && is.GetValue() == "1ms" && is.GetRevertsAt() == nil { // the time is over
				stopped = true
				if got := findBlockRate().ticks(); got != 1 {
					t.Errorf("the end of a control took the window's rate away: %d ticks", got)
				}
				if _, err := client.StopCapture(t.Context(), &agentv1.StopCaptureRequest{CaptureId: "rates-arbiter"}); err != nil {
					t.Error(err)
				}
			}
			return
		}
		if !recording(r) {
			return
		}
		seen = true
		if got := findBlockRate().ticks(); got != 1 || runtime.SetMutexProfileFraction(-1) != 1 {
			t.Errorf("in the window: block %d ticks, mutex %d", got, runtime.SetMutexProfileFraction(-1))
		}
		if b, m := settingNow(t, client, "block-rate").GetValue(), settingNow(t, client, "mutex-fraction").GetValue(); b != "1ms" || m != "50" {
			t.Errorf("in the window the settings say %s and %s", b, m)
		}
		// This one's time is over within the window.
		if _, err := invoke(t, client, "block-rate", "rate=2ms", "ttl=1s"); err != nil {
			t.Error(err)
		}
		if _, err := invoke(t, client, "mutex-fraction", "revert"); err != nil {
			t.Error(err)
		}
		if got := findBlockRate().ticks(); got != 1 {
			t.Errorf("a control took the window's rate away: %d ticks", got)
		}
	})
	if err != nil || !seen {
		t.Fatal(err, seen)
	}
	eventually(t, "the mutex fraction is the program's", func() bool { return runtime.SetMutexProfileFraction(-1) == ownMutex })
	eventually(t, "the block rate is what was set for good", func() bool { return findBlockRate().ticks() == controlled })
	if _, err := invoke(t, client, "block-rate", "revert"); err != nil {
		t.Fatal(err)
	}
	wantRates(t, own, ownMutex)
}

func TestControlRateWaitsForTheWindowsEnd(t *testing.T) {
	r := &rates{}
	t.Cleanup(func() { runtime.SetMutexProfileFraction(0) })
	runtime.SetMutexProfileFraction(7)
	if err := r.controlMutex(3); err != nil {
		t.Fatal(err)
	}
	l := r.acquire(0, 10, time.Minute)
	if got := runtime.SetMutexProfileFraction(-1); got != 3 {
		t.Errorf("the control's finer fraction gave way to %d", got)
	}
	r.endControl(&r.ctlMutex)
	if got := runtime.SetMutexProfileFraction(-1); got != 3 {
		t.Errorf("the fraction changed to %d within the window", got)
	}
	l.release()
	if got := runtime.SetMutexProfileFraction(-1); got != 7 {
		t.Errorf("after the window it is %d, the program had 7", got)
	}
}

func TestControlsThatShow(t *testing.T) {
	t.Setenv("DB_PASSWORD", "hunter2abc")
	t.Setenv("DATABASE_URL", "postgres://game:hunter2abc@db:5432/wallet")
	t.Setenv("COLOR", "red")
	_, client := joined(t, nil)
	env, err := invoke(t, client, "environment")
	if err != nil || strings.Contains(env.GetResultJson(), "hunter2abc") ||
		!strings.Contains(env.GetResultJson(), `{"name":"DB_PASSWORD","value":"[masked]"}`) ||
		!strings.Contains(env.GetResultJson(), `{"name":"DATABASE_URL","value":"postgres://game:[masked]@db:5432/wallet"}`) ||
		!strings.Contains(env.GetResultJson(), `{"name":"COLOR","value":"red"}`) {
		t.Errorf("environment: %v, %v", env, err)
	}
	build, err := invoke(t, client, "build-info")
	if err != nil || !strings.Contains(build.GetResultJson(), runtime.Version()) || !strings.Contains(build.GetResultJson(), `"GOARCH":"`+runtime.GOARCH) {
		t.Errorf("build-info: %v, %v", build, err)
	}
	flags, err := invoke(t, client, "flags")
	if err != nil || !strings.Contains(flags.GetResultJson(), `"name":"test.run"`) {
		t.Errorf("flags: %.300v, %v", flags, err)
	}
	if c := settingNow(t, client, "environment"); c.GetMutating() || c.GetSetting() {
		t.Errorf("environment: %v", c)
	}
	for name, want := range map[string]string{"gc": `{"heap_before_bytes":`, "free-os-memory": `{"heap_before_bytes":`} {
		if got := told(invoke(t, client, name)); !strings.HasPrefix(got, want) {
			t.Errorf("%s says %s", name, got)
		}
	}
	got := maskArgs([]string{"game", "-token", "abc", "--db-password=x", "-v", "--url=http://u:p@h/", "rest"})
	if want := "game -token [masked] --db-password=[masked] -v --url=http://u:[masked]@h/ rest"; strings.Join(got, " ") != want {
		t.Errorf("the command line is shown as %q", got)
	}
}

func TestWhatAControlRefuses(t *testing.T) {
	ownSettings(t)
	a, client := joined(t, nil)
	if err := a.AddControl(Control{Name: "kick", Params: []Param{
		{Name: "pending", Type: Int, Default: "100", Min: "1"}, {Name: "room", Required: true}, {Name: "why", Type: Enum, Choices: []string{"slow", "idle"}, Default: "slow"},
		{Name: "code", Secret: true, Type: Int},
	}, Func: func(context.Context, Args) (any, error) { return nil, nil }}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		words []string
		want  string
	}{
		{[]string{"nothing"}, `NotFound: this instance has no control "nothing": list what it has`},
		{[]string{"gc", "x=1"}, `InvalidArgument: gc: there is no parameter "x": it takes none`},
		{[]string{"gc", "ttl=1m"}, "InvalidArgument: gc is not a setting: it takes no time to live and cannot be reverted"},
		{[]string{"gc", "dry"}, "FailedPrecondition: gc cannot say what it would do: it offers no dry run"},
		{[]string{"gogc"}, "InvalidArgument: gogc: percent is missing: use a whole number from 10 to 100000, or off"},
		{[]string{"gogc", "percent=5"}, `InvalidArgument: gogc: percent "5" is not valid: use a whole number from 10 to 100000, or off`},
		{[]string{"gogc", "percent=many"}, `InvalidArgument: gogc: percent "many" is not valid: use a whole number from 10 to 100000, or off`},
		{[]string{"gogc", "percent=off"}, "FailedPrecondition: gogc: without a memory limit nothing would bound the heap: set memory-limit first"},
		{[]string{"gogc", "percent=50", "ttl=25h"}, "InvalidArgument: gogc: a time to live of 25h0m0s is out of range: use 1s to 24h0m0s"},
		{[]string{"gogc", "revert", "ttl=1m"}, "InvalidArgument: gogc: to revert it takes no time to live"},
		{[]string{"gogc", "revert", "percent=5"}, "InvalidArgument: gogc: to revert it takes no arguments"},
		{[]string{"memory-limit", "limit=1MiB"}, `InvalidArgument: memory-limit: limit "1MiB" is not valid: use a size such as 512MiB, at least 16MiB, or off`},
		{[]string{"log-level", "level=debug"}, "FailedPrecondition: log-level cannot be used here: the service has given its agent no log level: set agent.Config.LogLevel, for example to its slog.LevelVar"},
		{[]string{"drain"}, "FailedPrecondition: drain cannot be used here: the service has not said how it drains: set agent.Config.Drain"},
		{[]string{"kick"}, "InvalidArgument: kick: room is missing: use a text of at most 4096 bytes"},
		{[]string{"kick", "room=1", "why=rude"}, `InvalidArgument: kick: why "rude" is not valid: use one of slow, idle`},
		{[]string{"kick", "room=1", "pending=0"}, `InvalidArgument: kick: pending "0" is not valid: use a whole number, at least 1`},
		{[]string{"kick", "room=1", "code=hunter2"}, "InvalidArgument: kick: code is not valid: use a whole number"},
	} {
		if got := told(invoke(t, client, tt.words[0], tt.words[1:]...)); got != tt.want {
			t.Errorf("%v\n got %s\nwant %s", tt.words, got, tt.want)
		}
	}
	// A limit below what is live would collect without end.
	keep := make([]byte, 64<<20)
	runtime.GC()
	if got := told(invoke(t, client, "memory-limit", "limit=32MiB")); !strings.HasPrefix(got, "FailedPrecondition: memory-limit: 32MiB is less than the ") || !strings.HasSuffix(got, " that were live at the last collection: the collector would run without end. Use more") {
		t.Error(got)
	}
	runtime.KeepAlive(keep)
}

func TestControlsOfTheService(t *testing.T) {
	a, client := joined(t, nil)
	release := make(chan struct{})
	var runs atomic.Int32
	controls := []Control{
		{Name: "sum", ReadOnly: true, Params: []Param{{Name: "a", Type: Int}, {Name: "b", Type: Float}, {Name: "c", Type: Bool, Default: "true"}, {Name: "d", Type: Duration}, {Name: "e", Type: Size}, {Name: "f"}},
			Func: func(_ context.Context, args Args) (any, error) {
				return []any{args.Int("a"), args.Float("b"), args.Bool("c"), args.Duration("d").Seconds(), args.Int("e"), args.String("f"), args.Has("f"), args.Int("nothing")}, nil
			}},
		{Name: "panics", Func: func(context.Context, Args) (any, error) { panic("no such room") }},
		{Name: "panics-in-json", Func: func(context.Context, Args) (any, error) { return explosive{}, nil }},
		{Name: "fails", Func: func(context.Context, Args) (any, error) {
			return map[string]int{"done": 2}, status.Error(codes.NotFound, "no such room")
		}},
		{Name: "fails-silently", Func: func(context.Context, Args) (any, error) { return nil, errors.New("") }},
		{Name: "too-much", Func: func(context.Context, Args) (any, error) { return strings.Repeat("x", maxControlResult), nil }},
		{Name: "no-json", Func: func(context.Context, Args) (any, error) { return func() {}, nil }},
		{Name: "hangs", Timeout: 100 * time.Millisecond, Func: func(context.Context, Args) (any, error) { runs.Add(1); <-release; return nil, nil }},
		{Name: "ends-with-its-time", Timeout: 50 * time.Millisecond, Func: func(ctx context.Context, _ Args) (any, error) { <-ctx.Done(); return nil, ctx.Err() }},
		{Name: "tries", Func: func(context.Context, Args) (any, error) { return "did", nil }, DryRun: func(context.Context, Args) (any, error) { return "would", nil }},
	}
	for _, c := range controls {
		if err := a.AddControl(c); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		words []string
		want  string
	}{
		{[]string{"sum", "a=7", "b=1.5", "d=1m", "e=2KiB", "f=x"}, `[7,1.5,true,60,2048,"x",true,0]`},
		{[]string{"sum"}, `[0,0,true,0,0,"",false,0]`},
		{[]string{"panics"}, "error: the control panicked: no such room"},
		{[]string{"panics-in-json"}, "error: the control panicked: boom"},
		{[]string{"fails"}, "error: rpc error: code = NotFound desc = no such room"},
		{[]string{"fails-silently"}, "error: fails-silently failed and does not say why"},
		{[]string{"too-much"}, "error: it worked, but its result is 65538 bytes long, and more than 65536 are not sent"},
		{[]string{"no-json"}, "error: its result cannot be shown as JSON: json: unsupported type: func()"},
		{[]string{"hangs"}, "DeadlineExceeded: hangs did not end within 100ms and was given up: it may still go on"},
		{[]string{"hangs"}, "FailedPrecondition: hangs is still running from before: wait until it has ended"},
		{[]string{"tries"}, `"did"`},
		{[]string{"tries", "dry"}, `"would"`},
	} {
		if got := told(invoke(t, client, tt.words[0], tt.words[1:]...)); got != tt.want {
			t.Errorf("%v\n got %s\nwant %s", tt.words, got, tt.want)
		}
	}
	if got := told(invoke(t, client, "ends-with-its-time")); got != "error: context deadline exceeded" && !strings.HasPrefix(got, "DeadlineExceeded: ends-with-its-time did not end") {
		t.Error(got)
	}
	if n := runs.Load(); n != 1 {
		t.Errorf("what hangs was run %d times", n)
	}
	close(release)
	eventually(t, "what hung can be run again", func() bool { return told(invoke(t, client, "hangs")) == "" })
	// The process lives, and so does everything else.
	if got := told(invoke(t, client, "sum", "a=1")); got != `[1,0,true,0,0,"",false,0]` {
		t.Error(got)
	}
}

type explosive struct{}

func (explosive) MarshalJSON() ([]byte, error) { panic("boom") }

func TestControlsThatCannotBeRight(t *testing.T) {
	a := startTest(t, func(c *Config, _ *tuning) { c.Center = "off" })
	fn := func(context.Context, Args) (any, error) { return nil, nil }
	for _, tt := range []struct {
		c    Control
		want string
	}{
		{Control{Name: "Kick", Func: fn}, `agent: control "Kick": the name is not valid: use up to 64 lower-case letters, digits, dots, underscores and hyphens`},
		{Control{Name: "kick"}, `agent: control "kick": it has no Func`},
		{Control{Name: "gc", Func: fn}, `agent: control "gc" is built in: use another name`},
		{Control{Name: "kick", Func: fn, Timeout: time.Hour}, `agent: control "kick": the timeout 1h0m0s is out of range: use up to 5m0s`},
		{Control{Name: "kick", Func: fn, Params: []Param{{Name: "n", Type: Int, Default: "x"}}}, `agent: control "kick": parameter "n": the default "x" is not valid: use a whole number`},
		{Control{Name: "kick", Func: fn, Params: []Param{{Name: "n"}, {Name: "n"}}}, `agent: control "kick": parameter "n": there are two of that name`},
		{Control{Name: "kick", Func: fn, Params: []Param{{Name: "n", Type: Enum}}}, `agent: control "kick": parameter "n": an enum needs choices`},
		{Control{Name: "kick", Func: fn, Params: []Param{{Name: "n", Type: Int, Min: "many"}}}, `agent: control "kick": parameter "n": the bound "many" is not valid: use a whole number`},
	} {
		if err := a.AddControl(tt.c); err == nil || err.Error() != tt.want {
			t.Errorf("got %v\nwant %s", err, tt.want)
		}
	}
	for i := range maxControls {
		if err := a.AddControl(Control{Name: fmt.Sprintf("c%d", i), Func: fn}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.AddControl(Control{Name: "one-more", Func: fn}); err == nil || err.Error() != `agent: control "one-more": 64 are offered already, which is the most` {
		t.Error(err)
	}
	var none *Agent
	if err := none.AddControl(Control{Name: "kick", Func: fn}); err != nil {
		t.Error(err)
	}
}

// Whoever reaches the service's own port is not yet the centre that the service
// dialled.
func TestControlsAreOffUnlessWanted(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"on a port":          {func(*Config) {}, "PermissionDenied: controls are off on the port of this service: set agent.Config.AllowControls, or let the agent dial the centre"},
		"on a port, allowed": {func(c *Config) { c.AllowControls = true }, ""},
		"off altogether":     {func(c *Config) { c.AllowControls, c.Controls = true, "off" }, "PermissionDenied: controls are off in this process (OPS_CONTROLS or agent.Config.Controls)"},
	} {
		t.Run(name, func(t *testing.T) {
			a := startTest(t, func(c *Config, _ *tuning) { c.Center = "off"; tt.change(c) })
			client, _ := serve(t, a)
			_, err := client.ListControls(t.Context(), &agentv1.ListControlsRequest{})
			if got := told(nil, err); tt.want == "" && err != nil || tt.want != "" && got != tt.want {
				t.Errorf("list says %s", got)
			}
			_, err = client.InvokeControl(t.Context(), &agentv1.InvokeControlRequest{Name: "build-info"})
			if got := told(nil, err); tt.want == "" && err != nil || tt.want != "" && got != tt.want {
				t.Errorf("invoke says %s", got)
			}
		})
	}
}

func TestOneRunAtATime(t *testing.T) {
	a, client := joined(t, nil)
	var now, most atomic.Int32
	if err := a.AddControl(Control{Name: "slow", Func: func(context.Context, Args) (any, error) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
		return nil, nil
	}}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got := told(client.InvokeControl(context.Background(), &agentv1.InvokeControlRequest{Name: "slow"})); got != "" {
				t.Error(got)
			}
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d ran at once", most.Load())
	}
}

func FuzzParseArgs(f *testing.F) {
	for _, s := range []string{"", "1", "off", "512MiB", "1m30s", "true", "1e400", "-1", "9223372036854775808", "NaN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for typ := String; typ <= Enum; typ++ {
			p := Param{Name: "p", Type: typ, Min: "1", Max: "100", Choices: []string{"off"}}
			args, err := parseArgs([]Param{p}, map[string]string{"p": s})
			if err != nil {
				continue
			}
			if n := args.Int("p"); typ == Int && args.Word("p") == "" && (n < 1 || n > 100) {
				t.Errorf("%q is %d, out of bounds", s, n)
			}
			if typ == Size {
				if again, err := parseSize(sizeText(args.Int("p"))); err != nil || again != args.Int("p") {
					t.Errorf("%q is %d and then %d, %v", s, args.Int("p"), again, err)
				}
			}
		}
	})
}
