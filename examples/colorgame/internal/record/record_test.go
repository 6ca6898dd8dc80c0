package record

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/examples/colorgame/internal/postgres"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run starts a recorder on a throwaway database.
func run(t *testing.T) (*Recorder, string) {
	t.Helper()
	cluster, err := postgres.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := postgres.Migrate(t.Context(), cluster.URL); err != nil {
		t.Fatal(err)
	}
	cfg, err := pgxpool.ParseConfig(cluster.URL)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r := New(Config{Pool: pool})
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r, cluster.URL
}

func record(i int) wire.Record {
	return wire.Record{Bet: wire.Bet{Player: "player-001", Color: "red", Stake: 10}, Round: int64(i), Payout: 4}
}

func TestRecordsMoveTheHousesBalance(t *testing.T) {
	r, url := run(t)
	srv := httptest.NewServer(r.Handler())
	defer srv.Close()
	c := wire.NewClient(srv.URL, 20*time.Second, 10)
	defer c.Close()
	const records = 50
	var wg sync.WaitGroup
	for i := range records {
		wg.Go(func() {
			if err := c.Post(t.Context(), "/records", "", record(i), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var kept, balance int64
	err = conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM colorgame.bet_records), balance FROM colorgame.house`).Scan(&kept, &balance)
	if err != nil || kept != records || balance != records*6 {
		t.Errorf("%d records, balance %d, %v", kept, balance, err)
	}
}

// This is scenario 2: whoever holds the house's row makes every writer wait, the
// pool runs dry, and requests pile up.
func TestALockedBalanceStopsEveryWriter(t *testing.T) {
	r, url := run(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	report, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Exec(t.Context(), `SELECT balance FROM colorgame.house FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := r.Record(t.Context(), record(i)); err != nil {
				t.Error(err)
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); r.Figures()["pool_in_use"] != 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("figures: %v", r.Figures())
		}
	}
	hurried, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Record(hurried, record(99)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a record while the row is locked: %v", err)
	}
	if n := r.Figures()["records_total"]; n != 0 {
		t.Errorf("%v records were kept while the row was locked", n)
	}
	if err := report.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

// The remedy of scenario 2: what waits while the row is locked is kept in one
// transaction when it is free.
func TestBatchesKeepEverythingWithOneLock(t *testing.T) {
	r, url := run(t)
	if before := r.SetBatch(1000); before != 1 || r.Figures()["batch"] != maxBatch {
		t.Errorf("before %d, figures %v", before, r.Figures())
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	report, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Exec(t.Context(), `SELECT balance FROM colorgame.house FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	const records = 60
	var wg sync.WaitGroup
	keep := func(from, to int) {
		for i := from; i < to; i++ {
			wg.Go(func() {
				if err := r.Record(t.Context(), record(i)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	keep(0, 1)
	for deadline := time.Now().Add(time.Minute); r.Figures()["pool_in_use"] != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("figures: %v", r.Figures())
		}
	}
	keep(1, records)
	time.Sleep(5 * linger)
	if f := r.Figures(); f["pool_in_use"] != 1 || f["records_total"] != 0 {
		t.Errorf("while the row is locked: %v", f)
	}
	if err := report.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	var kept, balance, transactions int64
	err = conn.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT xmin::text), (SELECT balance FROM colorgame.house) FROM colorgame.bet_records`).Scan(&kept, &transactions, &balance)
	if err != nil || kept != records || balance != records*6 || transactions > 10 {
		t.Errorf("%d records in %d transactions, balance %d, %v", kept, transactions, balance, err)
	}
	if n := r.Flush(t.Context()); n != 0 {
		t.Errorf("%d were flushed of none", n)
	}
}

func TestFlushDoesNotWaitForMore(t *testing.T) {
	r := New(Config{})
	r.waiting = []job{{}, {}}
	lingered := make(chan struct{})
	go func() {
		r.linger(t.Context())
		close(lingered)
	}()
	n := r.Flush(t.Context())
	<-lingered
	if n != 2 && n != 0 { // it may have been enough by itself
		t.Errorf("%d flushed", n)
	}
}

func TestARecordThatIsNoneIsRefused(t *testing.T) {
	r := New(Config{})
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/records", nil))
	if w.Code != http.StatusBadRequest {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
