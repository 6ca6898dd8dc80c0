// Account login: a few logins a second against a local database.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/crypto/bcrypt"
	_ "modernc.org/sqlite"
)

type accounts struct {
	db     *sql.DB
	logins atomic.Int64
	reads  atomic.Int64
}

func (a *accounts) login(ctx context.Context, name, password string) error {
	var hash []byte
	if err := a.db.QueryRowContext(ctx, `select hash from accounts where name = ?`, name).Scan(&hash); err != nil {
		return err
	}
	a.logins.Add(1)
	return bcrypt.CompareHashAndPassword(hash, []byte(password))
}

func (a *accounts) level(ctx context.Context, name string) (n int, err error) {
	err = a.db.QueryRowContext(ctx, `select level from accounts where name = ?`, name).Scan(&n)
	a.reads.Add(1)
	return n, err
}

func open(dir string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "accounts.db")+"?_pragma=busy_timeout(2000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(6)
	db.SetMaxIdleConns(6)
	if _, err := db.Exec(`create table accounts (name text primary key, hash blob, level integer)`); err != nil {
		return nil, err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("hunter2"), 10)
	if err != nil {
		return nil, err
	}
	for i := range 100 {
		if _, err := db.Exec(`insert into accounts values (?, ?, ?)`, fmt.Sprintf("p%d", i), hash, i%60); err != nil {
			return nil, err
		}
	}
	return db, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	dir, err := os.MkdirTemp("", "accounts")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	a := &accounts{db: db}
	go func() {
		for range time.Tick(700 * time.Millisecond) {
			a.login(ctx, fmt.Sprintf("p%d", rand.IntN(100)), "hunter2")
		}
	}()
	for range 5 {
		go func() {
			for range time.Tick(8 * time.Millisecond) {
				a.level(ctx, fmt.Sprintf("p%d", rand.IntN(100)))
			}
		}()
	}
	<-ctx.Done()
}
