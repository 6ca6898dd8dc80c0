package chassis

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/examples/colorgame/internal/scenario"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type part struct{ err error }

func (part) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "played") })
}

func (p part) Run(ctx context.Context) error {
	if p.err != nil {
		return p.err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (part) Figures() Figures { return Figures{"bets_total": 3} }

// run starts the part and returns its addresses and how to end it.
func run(t *testing.T, switches *scenario.Switches) (api, admin string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan [2]string, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{Service: "game-service", Switches: switches, Ready: func(api, admin string) { ready <- [2]string{api, admin} }}, part{})
	}()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case a := <-ready:
		return a[0], a[1]
	case err := <-ended:
		ended <- err
		t.Fatalf("Run ended at once: %v", err)
		return
	}
}

func do(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestOperatorsSeeFiguresAndSwitchScenarios(t *testing.T) {
	switches := &scenario.Switches{}
	api, admin := run(t, switches)
	if code, body := do(t, "GET", api+"/anything"); code != 200 || body != "played" {
		t.Errorf("API: %d %s", code, body)
	}
	if code, body := do(t, "PUT", admin+"/admin/faults/4/on"); code != 200 || !switches.On(scenario.LockAcrossQuery) {
		t.Errorf("switching 4 on: %d %s", code, body)
	}
	_, body := do(t, "GET", admin+"/admin/state")
	var st State
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatal(err)
	}
	if st.Service != "game-service" || st.Figures["bets_total"] != 3 || !st.Faults["4"] || st.Faults["1"] || st.PID == 0 {
		t.Errorf("state: %+v", st)
	}
	do(t, "PUT", admin+"/admin/faults/4/off")
	if switches.On(scenario.LockAcrossQuery) {
		t.Error("4 is still on")
	}
	if code, _ := do(t, "GET", admin+"/debug/pprof/goroutine"); code != 200 {
		t.Errorf("pprof: %d", code)
	}
}

func TestSwitchingWhatIsNotThereIsRefused(t *testing.T) {
	_, admin := run(t, &scenario.Switches{})
	for path, want := range map[string]string{
		"/admin/faults/8/on":    `unknown scenario "8": use 1 to 7`,
		"/admin/faults/1/maybe": "a fault is switched on or off",
	} {
		if code, body := do(t, "PUT", admin+path); code != 404 || body != want {
			t.Errorf("%s: %d %s, want %s", path, code, body, want)
		}
	}
}

func TestAPageElsewhereCannotSwitch(t *testing.T) {
	switches := &scenario.Switches{}
	_, admin := run(t, switches)
	req, err := http.NewRequestWithContext(t.Context(), "PUT", admin+"/admin/faults/1/on", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://elsewhere.example")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden || switches.On(scenario.LoginStorm) {
		t.Errorf("%s, switched: %t", resp.Status, switches.On(scenario.LoginStorm))
	}
}

func TestTheProcessEndsWithItsPart(t *testing.T) {
	broken := errors.New("out of cards")
	err := Run(t.Context(), Config{Service: "game-service", Switches: &scenario.Switches{}}, part{err: broken})
	if !errors.Is(err, broken) || err.Error() != "game-service: out of cards" {
		t.Errorf("Run: %v", err)
	}
}

func TestATakenAddressIsSaid(t *testing.T) {
	api, _ := run(t, &scenario.Switches{})
	err := Run(t.Context(), Config{Service: "game-service", Listen: strings.TrimPrefix(api, "http://"), Switches: &scenario.Switches{}}, part{})
	if err == nil || !strings.HasPrefix(err.Error(), "API address: ") {
		t.Errorf("Run: %v", err)
	}
}

func TestLatencyForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Latency
		for i := range 100 {
			l.Since(time.Now().Add(-time.Duration(i+1) * time.Millisecond))
		}
		f := Figures{}
		l.Into(f, "bet")
		if f["bet_count"] != 100 || f["bet_p50_ms"] != 51 || f["bet_p99_ms"] != 100 {
			t.Errorf("figures: %v", f)
		}
		time.Sleep(latencyWindow + time.Second)
		l.Since(time.Now().Add(-time.Second))
		f = Figures{}
		l.Into(f, "bet")
		if f["bet_count"] != 1 || f["bet_p50_ms"] != 1000 {
			t.Errorf("figures later: %v", f)
		}
		for range 3 * latencySamples {
			l.Since(time.Now())
		}
		if len(l.ring) != latencySamples {
			t.Errorf("%d samples are kept", len(l.ring))
		}
	})
}
