package discoverytest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// RealConsul is a Consul of one server, in a process of its own, that keeps what it
// is told over a restart.
type RealConsul struct {
	// Address is that of its HTTP API, host:port.
	Address string

	dir    string
	binary string
	args   []string
	token  string // once it is guarded
	cmd    *exec.Cmd
	log    bytes.Buffer
}

// ConsulToken may do everything at a RealConsul that is guarded.
const ConsulToken = "c0ffee00-0000-4000-8000-000000000001"

// StartRealConsul starts the one that scripts/backends.sh built; the test is
// skipped where OPS_BACKENDS does not say where that is.
func StartRealConsul(t testing.TB) *RealConsul {
	t.Helper()
	dir := os.Getenv("OPS_BACKENDS")
	if dir == "" {
		t.Skip("OPS_BACKENDS names no folder of scripts/backends.sh")
	}
	c := &RealConsul{Address: FreeAddress(t), binary: filepath.Join(dir, "consul"), dir: filepath.Join(t.TempDir(), "consul")}
	_, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		t.Fatal(err)
	}
	c.args = []string{"agent", "-server", "-bootstrap", "-bind=127.0.0.1", "-client=127.0.0.1", "-node=test", "-log-level=error",
		"-data-dir=" + c.dir, "-http-port=" + port, "-grpc-port=-1", "-dns-port=-1"}
	for _, f := range []string{"-server-port=", "-serf-lan-port=", "-serf-wan-port="} {
		_, p, err := net.SplitHostPort(FreeAddress(t))
		if err != nil {
			t.Fatal(err)
		}
		c.args = append(c.args, f+p)
	}
	// Elections within a second.
	c.args = append(c.args, "-hcl=performance { raft_multiplier = 1 }", "-hcl=limits { http_max_conns_per_client = 1000 }")
	c.Start(t)
	t.Cleanup(func() { c.Kill(t) })
	return c
}

// Start starts it, or starts it again with what it held, and waits for its leader.
func (c *RealConsul) Start(t testing.TB) {
	t.Helper()
	c.log.Reset()
	c.cmd = exec.Command(c.binary, c.args...)
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if b, err := c.call(http.MethodGet, "/v1/catalog/nodes", nil); err == nil && bytes.Contains(b, []byte(`"Node":"test"`)) {
			return
		} else if time.Now().After(deadline) {
			c.Kill(t)
			t.Fatalf("consul does not answer: %v\n%s", err, c.log.String())
		}
	}
}

// Kill ends it without a warning.
func (c *RealConsul) Kill(testing.TB) {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.cmd = nil
}

// Guard starts it again with an ACL that lets nobody read who is not granted it.
func (c *RealConsul) Guard(t testing.TB) {
	t.Helper()
	c.Kill(t)
	c.token = ConsulToken
	c.args = append(c.args, fmt.Sprintf(`-hcl=acl { enabled = true, default_policy = "deny", tokens { initial_management = %q, agent = %q } }`, c.token, c.token))
	c.Start(t)
}

// Original is it, for a Tape.
func (c *RealConsul) Original() Original {
	return Original{URL: "http://" + c.Address, Binary: c.binary, Module: "github.com/hashicorp/consul"}
}

// Forget makes it begin without data at the next start.
func (c *RealConsul) Forget(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(c.dir); err != nil {
		t.Fatal(err)
	}
}

// Call calls its API, which has to take it.
func (c *RealConsul) Call(t testing.TB, method, path string, body any) {
	t.Helper()
	if _, err := c.call(method, path, body); err != nil {
		t.Fatal(err)
	}
}

func (c *RealConsul) call(method, path string, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+c.Address+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("X-Consul-Token", c.token)
	}
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, b)
	}
	return b, err
}

// Set makes it hold these targets and no other, on a node of their own, in
// transactions of as much as Consul takes.
func (c *RealConsul) Set(t testing.TB, targets []ops.Target) {
	t.Helper()
	if _, err := c.call(http.MethodPut, "/v1/catalog/deregister", map[string]any{"Node": games}); err != nil {
		t.Fatal(err)
	}
	if len(targets) == 0 {
		return
	}
	if _, err := c.call(http.MethodPut, "/v1/catalog/register", map[string]any{"Node": games, "Address": "192.168.0.1"}); err != nil {
		t.Fatal(err)
	}
	var all []any
	for i, tg := range targets {
		all = append(all, consulService(t, i, tg))
	}
	for batch := range slices.Chunk(all, 64) {
		if _, err := c.call(http.MethodPut, "/v1/txn", batch); err != nil {
			t.Fatal(err)
		}
	}
}

// Want makes it hold these targets, and instances of the same service that fail
// their checks, n of them all together.
func (c *RealConsul) Want(t testing.TB, targets []ops.Target, n int) {
	t.Helper()
	c.Set(t, targets)
	for i := len(targets); i < n; i++ {
		id := fmt.Sprint(i)
		c.Call(t, http.MethodPut, "/v1/catalog/register", map[string]any{
			"Node": games, "Address": "192.168.0.1",
			"Service": map[string]any{"ID": id, "Service": targets[0].Service, "Address": "10.9.0.1", "Port": 1000 + i, "Meta": map[string]string{"ops_project": string(targets[0].Project)}},
			"Check":   map[string]any{"Node": games, "CheckID": "service:" + id, "Name": "fails", "ServiceID": id, "Status": "critical"},
		})
	}
}

// Move makes the n-th of the targets that were Set another.
func (c *RealConsul) Move(t testing.TB, n int, to ops.Target) {
	t.Helper()
	if _, err := c.call(http.MethodPut, "/v1/txn", []any{consulService(t, n, to)}); err != nil {
		t.Fatal(err)
	}
}

// games is the node that targets are on.
const games = "games"

// consulService is a step of a transaction that enters a target.
func consulService(t testing.TB, n int, tg ops.Target) any {
	t.Helper()
	u, err := url.Parse(tg.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	meta := map[string]string{"ops_project": string(tg.Project)}
	for k, v := range tg.Labels {
		meta[k] = v
	}
	return map[string]any{"Service": map[string]any{"Verb": "set", "Node": games,
		"Service": map[string]any{"ID": fmt.Sprint(n), "Service": tg.Service, "Address": u.Hostname(), "Port": port, "Meta": meta}}}
}
