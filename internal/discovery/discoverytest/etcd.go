// Package discoverytest runs the real systems that discovery sources read and
// agents register in, for tests.
package discoverytest

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Etcd is an etcd of one member, in a process of its own.
type Etcd struct {
	// Client is its address, host:port.
	Client string

	dir   string
	peer  string
	extra []string
	cmd   *exec.Cmd
	log   bytes.Buffer
}

// StartEtcd starts Debian's etcd and waits until it answers. The test is skipped
// where it is not installed; with OPS_TEST_FULL it fails.
func StartEtcd(t testing.TB, extra ...string) *Etcd {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		if os.Getenv("OPS_TEST_FULL") != "" || os.Getenv("CI") != "" {
			t.Fatal("etcd is not installed: run scripts/setup.sh system")
		}
		t.Skip("etcd is not installed: run scripts/setup.sh system")
	}
	e := &Etcd{Client: FreeAddress(t), peer: FreeAddress(t), dir: filepath.Join(t.TempDir(), "etcd"), extra: extra}
	e.Start(t)
	t.Cleanup(func() { e.Kill(t) })
	return e
}

// FreeAddress is a port of loopback that nobody listens on now.
func FreeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// Start starts it, or starts it again with what it held.
func (e *Etcd) Start(t testing.TB) {
	t.Helper()
	client, peer := "http://"+e.Client, "http://"+e.peer
	if len(e.extra) > 0 {
		client = "https://" + e.Client
	}
	e.log.Reset()
	e.cmd = exec.Command("etcd", append([]string{
		"--name=test", "--data-dir=" + e.dir, "--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=test=" + peer,
		"--heartbeat-interval=20", "--election-timeout=200", "--log-level=error",
	}, e.extra...)...)
	e.cmd.Stdout, e.cmd.Stderr = &e.log, &e.log
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); !e.healthy(t.Context()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.Kill(t)
			t.Fatalf("etcd does not answer:\n%s", e.log.String())
		}
	}
}

func (e *Etcd) healthy(ctx context.Context) bool {
	if len(e.extra) > 0 { // TLS: who connects finds out
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", e.Client)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.Client+"/health", nil)
	if err != nil {
		return false
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Do(req)
	if err != nil {
		return false
	}
	defer r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// Kill ends it without a warning.
func (e *Etcd) Kill(testing.TB) {
	if e.cmd == nil {
		return
	}
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
	e.cmd = nil
}

// Forget makes it begin without data at the next start.
func (e *Etcd) Forget(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(e.dir); err != nil {
		t.Fatal(err)
	}
}
