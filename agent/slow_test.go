package agent

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// stream is a call that lasts.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

// The interceptors tell what took long, under the names that rules know it by, and
// nothing of conversations.
func TestInterceptorsTellHowLongCallsTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		r := crowd()
		r.Trigger = &agentv1.Trigger{Signal: "*", Longer: durationpb.New(40 * time.Millisecond)}
		r.Bounds.Cooldown, r.Bounds.Budget = durationpb.New(10*time.Second), 100
		b.set(mustRules(t, r), nil)
		a := &Agent{rules: b.ruleEngine}

		mux := http.NewServeMux()
		for _, pattern := range []string{"POST /rooms/{room}/bets", "GET /ws"} {
			mux.HandleFunc(pattern, func(http.ResponseWriter, *http.Request) { time.Sleep(50 * time.Millisecond) })
		}
		ask := func(h http.Handler, method, path string, header http.Header) {
			req := httptest.NewRequest(method, path, nil)
			req.Header = header
			h.ServeHTTP(httptest.NewRecorder(), req)
		}
		bare := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(60 * time.Millisecond) })
		for _, call := range []func(){
			func() { ask(a.Middleware(mux), "POST", "/rooms/7/bets", nil) },
			func() { ask(a.Middleware(mux), "GET", "/ws", http.Header{"Upgrade": {"websocket"}}) },
			func() { ask(a.Middleware(bare), "GET", "/reports/1", nil) },
			func() {
				_, _ = a.UnaryServerInterceptor()(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/game.v1.Game/PlaceBet"},
					func(context.Context, any) (any, error) { time.Sleep(70 * time.Millisecond); return nil, nil })
			},
			func() {
				_ = a.StreamServerInterceptor()(nil, stream{ctx: t.Context()}, &grpc.StreamServerInfo{FullMethod: "/game.v1.Game/Replay"},
					func(any, grpc.ServerStream) error { time.Sleep(80 * time.Millisecond); return nil })
			},
			func() {
				defer func() { _ = recover() }()
				ask(a.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(90 * time.Millisecond); panic("out of dice") })), "GET", "/dice", nil)
			},
		} {
			call()
			b.is(61, goroutines(1)) // the minute in which it counts, and the cooldown
		}
		want := []string{
			"crowd: http:POST /rooms/{room}/bets took 50ms, 40ms or longer",
			"crowd: http:GET /reports/1 took 60ms, 40ms or longer",
			"crowd: grpc:/game.v1.Game/PlaceBet took 70ms, 40ms or longer",
			"crowd: grpc:/game.v1.Game/Replay took 80ms, 40ms or longer",
			"crowd: http:GET /dice took 90ms, 40ms or longer",
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if got := slices.Compact(slices.Clone(b.fired)); !slices.Equal(got, want) {
			t.Errorf("fired\n%q\nwant\n%q", got, want)
		}
	})
}

// A service without an agent keeps its interceptors.
func TestInterceptorsOfNoAgentLetThrough(t *testing.T) {
	var none *Agent
	called := 0
	count := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ })
	none.Middleware(count).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	_, _ = none.UnaryServerInterceptor()(t.Context(), nil, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { called++; return nil, nil })
	_ = none.StreamServerInterceptor()(nil, stream{ctx: t.Context()}, &grpc.StreamServerInfo{}, func(any, grpc.ServerStream) error { called++; return nil })
	if called != 3 {
		t.Errorf("%d of 3 calls came through", called)
	}
}
