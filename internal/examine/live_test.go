package examine

import (
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// A program that serves the stock endpoints: this one.
func program(t *testing.T, refuse ...string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, p := range refuse {
			if strings.HasPrefix(r.URL.Path, "/debug/pprof/"+p) {
				http.Error(w, "forbidden", http.StatusForbidden)
				return
			}
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/debug/pprof"
}

func TestARunningProgramIsDiagnosed(t *testing.T) {
	keep := t.TempDir()
	var told []string
	res, err := Live(t.Context(), program(t), Options{Duration: time.Second, Keep: keep, TempDir: t.TempDir(), Progress: func(activity string, _, _ time.Duration) { told = append(told, activity) }})
	if err != nil {
		t.Fatal(err)
	}
	d := res.Diagnoses[0]
	if d.Window < time.Second/2 || d.Instance.Process.GOMAXPROCS == 0 || len(d.Checks) == 0 || len(told) == 0 {
		t.Errorf("%+v, told %v", d, told)
	}
	kept, err := os.ReadDir(keep)
	if err != nil || len(kept) < 5 {
		t.Errorf("kept %v, %v", kept, err)
	}
	again, err := Paths(t.Context(), []string{keep}, Options{})
	if err != nil || len(again.Diagnoses) != 1 || again.Diagnoses[0].Instance.Process.GOMAXPROCS != d.Instance.Process.GOMAXPROCS {
		t.Errorf("what was kept says %+v, %v", again, err)
	}
}

func TestWhatIsRefusedIsALoss(t *testing.T) {
	res, err := Live(t.Context(), program(t, "trace", "profile"), Options{Duration: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	lost := map[ops.Kind]bool{}
	for _, l := range res.Diagnoses[0].Losses {
		lost[l.Kind] = true
	}
	if !lost[ops.KindTrace] || !lost[ops.KindCPU] {
		t.Errorf("losses %+v", res.Diagnoses[0].Losses)
	}
	for _, c := range res.Diagnoses[0].Checks {
		if c.Rule == "cpu-password-hashing" && c.Verdict != ops.VerdictCouldNotCheck {
			t.Errorf("without a CPU profile it says %s", c.Verdict)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	url := srv.URL
	srv.Close()
	if _, err := Live(t.Context(), url+"/debug/pprof", Options{Duration: time.Second}); ops.KindOf(err) != ops.Unavailable {
		t.Errorf("%v", err)
	}
	if _, err := Live(t.Context(), url, Options{Duration: time.Hour}); ops.KindOf(err) != ops.Invalid {
		t.Errorf("%v", err)
	}
}

// The types that a program without an agent cannot tell are in its executable.
func TestTheExecutableNamesTypes(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lostTypes := func(o Options) bool {
		o.Duration = time.Second
		res, err := Live(t.Context(), program(t), o)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(res.Diagnoses[0].Losses, func(l ops.Loss) bool { return l.Kind == ops.KindHeapTypes })
	}
	if !lostTypes(Options{}) {
		t.Error("without an agent or its executable no types are known: that is a loss")
	}
	if runtime.GOOS == "linux" && lostTypes(Options{Binary: exe}) {
		t.Error("the executable tells the types, and they are stated as lost")
	}
	if _, err := Paths(t.Context(), []string{"live_test.go"}, Options{Binary: "live_test.go"}); err == nil || err.Error() != `"live_test.go" is no executable for Linux: give the program's own file` {
		t.Errorf("source code as an executable: %v", err)
	}
	if _, err := Live(t.Context(), "http://127.0.0.1:1", Options{Binary: filepath.Join(t.TempDir(), "none")}); ops.KindOf(err) != ops.NotFound {
		t.Errorf("no such executable: %v", err)
	}
}

func TestAnyEndpointStandsForAll(t *testing.T) {
	for given, want := range map[string]string{
		"http://h:6060/debug/pprof/heap":                   "http://h:6060/debug/pprof",
		"http://h:6060/debug/pprof/profile?seconds=30":     "http://h:6060/debug/pprof",
		"https://u:p@h/game/debug/pprof/goroutine?debug=2": "https://u:p@h/game/debug/pprof",
		"http://h:6060/debug/pprof/":                       "http://h:6060/debug/pprof",
		"http://h:6060":                                    "http://h:6060",
		"http://h:6060/debug/pprof":                        "http://h:6060/debug/pprof",
	} {
		if got := base(given); got != want {
			t.Errorf("%s: got %s, want %s", given, got, want)
		}
	}
}
