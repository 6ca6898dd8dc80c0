package sqlite

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, path string) *Catalogue {
	t.Helper()
	c, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCatalogue(t *testing.T) {
	opstest.TestCatalogue(t, func(t *testing.T) ops.Catalogue { return open(t, filepath.Join(t.TempDir(), "data", "ops.db")) })
}

func TestEverythingIsThereAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd name #1?100%", "ops.db")
	c := open(t, path)
	capture := opstest.SampleCapture("01capture", 1)
	must(t, c.InsertCapture(t.Context(), capture))
	var want []ops.Heartbeat
	for i := range 130 {
		want = append(want, opstest.SampleHeartbeat(noon.Add(time.Duration(i)*10*time.Second), i))
		must(t, c.AppendHistory(t.Context(), []ops.HistoryPoint{{Instance: "boot-0", Heartbeat: want[i]}}, ops.HistoryFineStep))
		if i == 70 {
			must(t, c.Close())
			c = open(t, path)
		}
	}
	must(t, c.Close())
	c = open(t, path)
	defer c.Close()
	got, err := c.Capture(t.Context(), "01capture")
	must(t, err)
	if diff := cmp.Diff(capture, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	points, err := c.History(t.Context(), "boot-0", noon, noon.Add(time.Hour), ops.HistoryFineStep)
	must(t, err)
	if diff := cmp.Diff(want, points, cmpopts.EquateApprox(1e-6, 0)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is not where it was asked to be: %v", err)
	}
}

func TestCommitsSurviveAPowerCut(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "ops.db"))
	defer c.Close()
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		must(t, c.writer.QueryRow(`PRAGMA `+name).Scan(&got))
		if got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if _, err := c.readers.Exec(`DELETE FROM capture`); err == nil {
		t.Error("a reader can write")
	}
}

func TestFullDiskIsExhaustedAndPasses(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "ops.db"))
	defer c.Close()
	pages := func(n int64) {
		t.Helper()
		if _, err := c.writer.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, n)); err != nil {
			t.Fatal(err)
		}
	}
	must(t, c.InsertCapture(t.Context(), opstest.SampleCapture("00capture", 1)))
	pages(1) // SQLite takes the present size: the next page is refused as on a full disk
	big := opstest.SampleCapture("01capture", 1)
	big.Note = strings.Repeat("x", 1<<20)
	err := c.InsertCapture(t.Context(), big)
	if ops.KindOf(err) != ops.Exhausted || !strings.Contains(err.Error(), "is full: free some space") {
		t.Fatalf("got %v", err)
	}
	if _, err := c.Capture(t.Context(), "00capture"); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	err = c.AppendHistory(t.Context(), manyPoints(3000, 1), ops.HistoryFineStep)
	if ops.KindOf(err) != ops.Exhausted {
		t.Errorf("history on a full disk: %v", err)
	}
	pages(math.MaxInt32)
	must(t, c.InsertCapture(t.Context(), big))
	must(t, c.AppendHistory(t.Context(), manyPoints(3000, 1), ops.HistoryFineStep))
	got, err := c.History(t.Context(), "boot-002999", noon, noon.Add(time.Hour), ops.HistoryFineStep)
	if err != nil || len(got) != 1 {
		t.Errorf("history after the disk was full: %v, %v", got, err)
	}
}

func TestDatabaseOfANewerVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ops.db")
	c := open(t, path)
	if _, err := c.writer.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`); err != nil {
		t.Fatal(err)
	}
	must(t, c.Close())
	_, err := Open(t.Context(), path)
	want := path + " was written by a newer version (its tables are at 99, this program knows 3): run that version, or choose another data directory"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFileThatIsNoDatabaseIsNotTouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ops.db")
	text := strings.Repeat("these are my holiday notes\n", 100)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "not a database") {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != text {
		t.Error("the file was changed")
	}
}

// A row that was damaged is an error of that row, not of the database: it must
// not stop the centre.
func TestDamagedRowIsCorrupt(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "ops.db"))
	defer c.Close()
	must(t, c.InsertCapture(t.Context(), opstest.SampleCapture("01capture", 1)))
	must(t, c.AppendHistory(t.Context(), manyPoints(1, 1), ops.HistoryFineStep))
	for _, q := range []string{`UPDATE capture_target SET losses_json = '{'`, `UPDATE history_tail SET points = x'0163'`} {
		if _, err := c.writer.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Capture(t.Context(), "01capture"); ops.KindOf(err) != ops.Corrupt {
		t.Errorf("capture: %v", err)
	}
	if _, err := c.History(t.Context(), "boot-000000", noon, noon.Add(time.Hour), ops.HistoryFineStep); ops.KindOf(err) != ops.Corrupt {
		t.Errorf("history: %v", err)
	}
}

// The rows of instances and specs are JSON under the field names of package
// ops. A renamed field would silently lose what older rows say of it: if this
// test fails, add a migration before you update the golden file.
func TestStoredFormOfInstancesAndSpecs(t *testing.T) {
	instance, err := instanceJSON(opstest.SampleInstance("boot-0"))
	must(t, err)
	spec, err := json.Marshal(opstest.SampleCapture("01capture", 1).Spec)
	must(t, err)
	losses := lossesJSON([]ops.Loss{{Kind: ops.KindTrace, Reason: ops.LossTruncated, Message: "the trace ended at 128 MiB"}})
	got := instance + "\n" + string(spec) + "\n" + losses + "\n"
	golden := filepath.Join("testdata", "stored.golden")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func TestForgottenInstancesOfHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ops.db")
	c := open(t, path)
	numbers := func() (n int) {
		t.Helper()
		must(t, c.writer.QueryRow(`SELECT COUNT(*) FROM history_instance`).Scan(&n))
		return n
	}
	// Ten short lives, one long one; all have fine and coarse points.
	for r := range 200 {
		at := noon.Add(time.Duration(r) * time.Minute)
		points := []ops.HistoryPoint{{Instance: "boot-long", Heartbeat: opstest.SampleHeartbeat(at, r)}}
		if r < 10 {
			points = append(points, ops.HistoryPoint{Instance: ops.InstanceID(fmt.Sprintf("boot-short-%d", r)), Heartbeat: opstest.SampleHeartbeat(at, r)})
		}
		must(t, c.AppendHistory(t.Context(), points, ops.HistoryFineStep))
		must(t, c.AppendHistory(t.Context(), points, ops.HistoryCoarseStep))
	}
	must(t, c.Close())
	c = open(t, path)
	defer func() { c.Close() }()
	must(t, c.DeleteHistory(t.Context(), noon.Add(100*time.Minute), ops.HistoryFineStep))
	if n := numbers(); n != 11 {
		t.Errorf("%d instances known while coarse points of all are left, want 11", n)
	}
	must(t, c.DeleteHistory(t.Context(), noon.Add(100*time.Minute), ops.HistoryCoarseStep))
	if n := numbers(); n != 1 {
		t.Errorf("%d instances known, want the long one alone", n)
	}
	got, err := c.History(t.Context(), "boot-long", noon, noon.Add(24*time.Hour), ops.HistoryCoarseStep)
	if err != nil || len(got) != 100 {
		t.Errorf("the long one has %d points, %v", len(got), err)
	}
}

func TestPointsRoundTrip(t *testing.T) {
	var in []point
	for i := range 100 {
		in = append(in, point{int64(i % 3), opstest.SampleHeartbeat(noon.Add(time.Duration(i)*time.Second), i*i)})
	}
	in = append(in, point{math.MaxInt64, ops.Heartbeat{At: time.UnixMilli(-5).UTC(), Goroutines: math.MinInt64, RSSBytes: math.MaxInt64, CPUCores: math.MaxFloat32, GOMAXPROCS: -1}},
		point{math.MinInt64, ops.Heartbeat{CPUCores: -1e-30}})
	for _, points := range [][]point{nil, in[:1], in} {
		out, err := decodePoints(encodePoints(points))
		must(t, err)
		if diff := cmp.Diff(points, out, cmp.AllowUnexported(point{}), cmpopts.EquateApprox(1e-6, 0)); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzDecodePoints(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{columnsVersion, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add(encodePoints([]point{{1, opstest.SampleHeartbeat(noon, 1)}, {2, opstest.SampleHeartbeat(noon, 2)}}))
	f.Fuzz(func(t *testing.T, in []byte) {
		points, err := decodePoints(in)
		if err != nil {
			if ops.KindOf(err) != ops.Corrupt {
				t.Errorf("kind of %v", err)
			}
			return
		}
		again, err := decodePoints(encodePoints(points))
		if err != nil || len(again) != len(points) {
			t.Errorf("%d points became %d: %v", len(points), len(again), err)
		}
	})
}

// BenchmarkHistory is a fleet of 5,000 instances. bytes/point is what a day of
// 10 s points costs on disk, read-ms what a day of one instance takes to read.
func BenchmarkHistory(b *testing.B) {
	path := filepath.Join(b.TempDir(), "ops.db")
	c := open(b, path)
	defer c.Close()
	rounds := 0
	var slowest time.Duration
	for b.Loop() {
		began := time.Now()
		must(b, c.AppendHistory(b.Context(), manyPoints(5000, rounds), ops.HistoryFineStep))
		slowest = max(slowest, time.Since(began))
		rounds++
	}
	if _, err := c.writer.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		b.Fatal(err)
	}
	st, err := os.Stat(path)
	must(b, err)
	began := time.Now()
	got, err := c.History(b.Context(), "boot-001234", noon, noon.Add(24*time.Hour), ops.HistoryFineStep)
	must(b, err)
	if len(got) != rounds {
		b.Fatalf("%d points, want %d", len(got), rounds)
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "read-ms")
	b.ReportMetric(float64(st.Size())/float64(5000*rounds), "bytes/point")
	b.ReportMetric(float64(slowest.Milliseconds()), "slowest-ms")
}

// manyPoints is a round of heartbeats of n instances whose numbers wander as
// those of real processes do.
func manyPoints(n, round int) []ops.HistoryPoint {
	out := make([]ops.HistoryPoint, n)
	for i := range out {
		wave := math.Sin(float64(round)/40 + float64(i))
		noise := float64((i*7919+round*104729)%1000) / 1000
		out[i] = ops.HistoryPoint{Instance: ops.InstanceID(fmt.Sprintf("boot-%06d", i)), Heartbeat: ops.Heartbeat{
			At: noon.Add(time.Duration(round)*10*time.Second + time.Duration(i%977)*time.Millisecond), CPUCores: 0.5 + wave/3 + noise/10,
			Goroutines: 200 + int64(50*wave) + int64(noise*9), GoroutinesRunning: int64(noise * 4), GoroutinesRunnable: int64(noise * 2),
			GoroutinesWaiting: 190 + int64(50*wave), GoroutinesSyscall: 2, LiveHeapBytes: 100<<20 + int64(wave*1e7) + int64(noise*1e6),
			HeapObjects: 1e6 + int64(wave*1e5) + int64(noise*1e4), RSSBytes: (200<<20 + int64(wave*1e7)) &^ 4095, MemoryLimitBytes: 1 << 30,
			GCCPUFraction: 0.01 + noise/100, GCCycles: int64(round * 3), SchedLatencyP99Second: 1e-5 * (1 + noise), PoolWaiters: int64(noise * 1.2),
			MutexWaitRate: noise / 50, CPUQuotaCores: 2, GOMAXPROCS: 2, Threads: 12,
		}}
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
