// Package postgres runs a throwaway Postgres cluster for the game, where the
// server's programs are installed, and creates the game's tables in whatever
// database it is given. It knows nothing of what the tables are for.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNotInstalled says that no server programs were found, and how to get them.
var ErrNotInstalled = errors.New(`no PostgreSQL server programs found (initdb and postgres). Install them:
    Debian, Ubuntu   apt-get install postgresql
    Fedora           dnf install postgresql-server
    macOS            brew install postgresql
or give a database of your own: COLORGAME_DATABASE_URL=postgres://user:password@host:5432/name
(the game keeps to a schema named colorgame in it)`)

// Cluster is a running throwaway server.
type Cluster struct {
	// URL of its database, over a Unix socket that only its owner reaches.
	URL string

	dir    string
	server *exec.Cmd
	ended  chan struct{} // closed when the server has ended
	log    *os.File
}

// Start makes a cluster in a new temporary directory and starts it. It is fast
// and careless: nothing is synced to disk.
func Start(ctx context.Context) (_ *Cluster, err error) {
	bin, err := findPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "colorgame-pg-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	own, err := owner(dir)
	if err != nil {
		return nil, err
	}

	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"),
		"-D", data, "-U", "colorgame", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	own(initdb)
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("making a throwaway database in %s: %w\n%s", dir, err, bytes.TrimSpace(out))
	}

	c := &Cluster{
		dir:   dir,
		ended: make(chan struct{}),
		URL:   "postgres:///postgres?" + url.Values{"host": {dir}, "user": {"colorgame"}}.Encode(),
	}
	if c.log, err = os.Create(filepath.Join(dir, "postgres.log")); err != nil {
		return nil, err
	}
	c.server = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
		"-c", "max_connections=100", "-c", "shared_buffers=32MB")
	own(c.server)
	dieWithParent(c.server)
	c.server.Dir = dir
	c.server.Stdout, c.server.Stderr = c.log, c.log
	if err := c.server.Start(); err != nil {
		c.log.Close()
		return nil, fmt.Errorf("starting the throwaway database: %w", err)
	}
	go func() {
		_ = c.server.Wait() // how it ended is in its log
		close(c.ended)
	}()
	if err := c.ready(ctx); err != nil {
		said, _ := os.ReadFile(c.log.Name())
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, bytes.TrimSpace(said)), c.Close())
	}
	return c, nil
}

// ready returns when the server answers.
func (c *Cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.URL)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-c.ended:
			return errors.New("the throwaway database ended while it started")
		case <-ctx.Done():
			return fmt.Errorf("the throwaway database does not answer: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Ended is closed when the server has ended, asked or not.
func (c *Cluster) Ended() <-chan struct{} { return c.ended }

// Close ends the server and removes all it had.
func (c *Cluster) Close() error {
	// Interrupt is its fast shutdown: connections are cut, not waited for.
	if err := c.server.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = c.server.Process.Kill()
	}
	select {
	case <-c.ended:
	case <-time.After(10 * time.Second):
		_ = c.server.Process.Kill()
		<-c.ended
	}
	return errors.Join(c.log.Close(), os.RemoveAll(c.dir))
}

// findPrograms returns the folder of the newest installed server.
func findPrograms() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		if dir := filepath.Dir(p); isProgram(dir, "postgres") {
			return dir, nil
		}
	}
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		dirs = append(dirs, found...)
	}
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range dirs {
		if isProgram(dir, "initdb") && isProgram(dir, "postgres") {
			return dir, nil
		}
	}
	return "", ErrNotInstalled
}

func isProgram(dir, name string) bool {
	st, err := os.Stat(filepath.Join(dir, name))
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// version is the number in a folder like /usr/lib/postgresql/15/bin; 0 = none.
func version(dir string) int {
	for _, part := range strings.Split(dir, string(filepath.Separator)) {
		part = strings.TrimLeft(part, "abcdefghijklmnopqrstuvwxyz-@")
		if n, err := strconv.Atoi(part); err == nil {
			return n
		}
	}
	return 0
}
