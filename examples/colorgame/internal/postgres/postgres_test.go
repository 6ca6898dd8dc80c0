package postgres

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAThrowawayClusterWorksAndLeavesNothing(t *testing.T) {
	c, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second time is no trouble
		if err := Migrate(t.Context(), c.URL); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), c.URL)
	if err != nil {
		t.Fatal(err)
	}
	var accounts int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM colorgame.house`).Scan(&accounts); err != nil || accounts != 1 {
		t.Errorf("%d accounts of the house, %v", accounts, err)
	}
	// Its end does not wait for who is connected.
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case <-c.Ended():
	default:
		t.Error("the server is still running")
	}
	if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", c.dir, err)
	}
}

func TestTheNewestServerIsFoundByItsFolder(t *testing.T) {
	for dir, want := range map[string]int{
		"/usr/lib/postgresql/15/bin":          15,
		"/usr/lib/postgresql/9/bin":           9,
		"/usr/pgsql-16/bin":                   16,
		"/opt/homebrew/opt/postgresql@17/bin": 17,
		"/opt/homebrew/opt/postgresql/bin":    0,
		"/usr/local/pgsql/bin":                0,
	} {
		if got := version(dir); got != want {
			t.Errorf("%s is version %d, want %d", dir, got, want)
		}
	}
}

func TestAnUnreachableDatabaseIsSaid(t *testing.T) {
	err := Migrate(t.Context(), "postgres://127.0.0.1:1/none")
	if err == nil || !strings.HasPrefix(err.Error(), "connecting to the game's database: ") {
		t.Errorf("Migrate: %v", err)
	}
}
