package join_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/ops"
)

// withTunnels makes the centre one that agents stay connected to.
func withTunnels(t *testing.T, change func(*join.Config)) (*centre, *roster) {
	c := newCentre(t, change)
	r := &roster{joined: make(chan ops.Instance, 16)}
	links := agentlink.New(agentlink.Config{Fleet: r})
	c.tunnel = links
	t.Cleanup(func() {
		if err := links.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, r
}

// start runs a real agent of color-game/user-service.
func start(t *testing.T, c *centre, token string, change func(*agent.Config)) (*agent.Agent, *centre) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &centre{} // for its Write
	cfg := agent.Config{
		Center: c.server.URL, Project: "color-game", Service: "user-service", TokenFile: file, CAPin: c.pin(),
		SpoolDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	a, err := agent.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a, log
}

func (c *centre) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.String()
}

func expect(t *testing.T, from chan ops.Instance) ops.Instance {
	t.Helper()
	select {
	case i := <-from:
		return i
	case <-time.After(time.Minute):
		t.Fatal("no agent came or went")
	}
	return ops.Instance{}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within a minute: " + what)
		}
	}
}

func TestAnAgentRenewsWithoutLosingItsTunnel(t *testing.T) {
	c, fleet := withTunnels(t, func(cfg *join.Config) { cfg.Life = 2 * time.Second })
	secret, _ := c.token(forUsers)
	a, log := start(t, c, secret, nil)
	if got := expect(t, fleet.joined); string(got.ID) != a.BootID() || got.Service != "user-service" {
		t.Fatalf("joined: %+v", got)
	}
	eventually(t, "two renewals", func() bool { return strings.Count(c.text(), "renewal=true") >= 2 })
	select {
	case i := <-fleet.joined:
		t.Errorf("%s connected again", i.ID)
	default:
	}
	if strings.Contains(log.text(), secret) {
		t.Error("the token is in the agent's log")
	}
}

func TestAProcessThatStartsAgainNeedsNoSecondToken(t *testing.T) {
	c, fleet := withTunnels(t, nil)
	once, _ := c.token(join.TokenRequest{Project: "*", Service: "*"})
	state := filepath.Join(t.TempDir(), "state")
	keep := func(cfg *agent.Config) { cfg.StateDir = state }
	first, _ := start(t, c, once, keep)
	expect(t, fleet.joined)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(state, "*.pem"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if i, err := os.Stat(files[0]); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", i.Mode(), err)
	}
	second, _ := start(t, c, once, keep)
	if got := expect(t, fleet.joined); string(got.ID) != second.BootID() {
		t.Errorf("joined: %v", got.ID)
	}
}

func TestAWrongPinSeesNoToken(t *testing.T) {
	c := newCentre(t, nil)
	secret, _ := c.token(forUsers)
	_, log := start(t, c, secret, func(cfg *agent.Config) { cfg.CAPin = strings.Repeat("ab", 32) })
	eventually(t, "the agent says why", func() bool { return strings.Contains(log.text(), "no certificate of the centre has the pinned key") })
	if c.gate.Tokens()[0].Uses != 0 || c.text() != "" {
		t.Errorf("the centre was told something: %s", c.text())
	}
}

func TestAnAgentReadsWhyItWasRefused(t *testing.T) {
	c := newCentre(t, nil)
	secret, token := c.token(join.TokenRequest{Project: "color-game", Service: "wallet"})
	_, log := start(t, c, secret, nil)
	want := "the join token " + token.ID + " is for color-game/wallet and not for color-game/user-service"
	eventually(t, "the agent says why", func() bool { return strings.Contains(log.text(), want) })
	if !c.ledger.has("agent.join.refused") {
		t.Error("not on record")
	}
}

func TestAnAgentSaysThatItsClockIsOff(t *testing.T) {
	c, fleet := withTunnels(t, func(cfg *join.Config) {
		now := cfg.Now
		cfg.Now = func() time.Time { return now().Add(time.Hour) }
	})
	secret, _ := c.token(forUsers)
	_, log := start(t, c, secret, nil)
	expect(t, fleet.joined)
	eventually(t, "a word about the clock", func() bool { return strings.Contains(log.text(), "behind the centre's: set it by NTP") })
}

func TestAnAgentComesBackWhenTheCentreForgotIt(t *testing.T) {
	c, fleet := withTunnels(t, nil)
	secret, _ := c.token(forUsers)
	start(t, c, secret, nil)
	expect(t, fleet.joined)
	// The authority is lost with the disk; the tokens were put back from a copy.
	files, err := filepath.Glob(filepath.Join(c.dir, "agents-ca-*.pem"))
	if err != nil || len(files) != 1 || os.Remove(files[0]) != nil {
		t.Fatal(files, err)
	}
	c.open(nil)
	links := agentlink.New(agentlink.Config{Fleet: fleet})
	t.Cleanup(func() { _ = links.Close() })
	c.mu.Lock()
	before := c.tunnel.(*agentlink.Server)
	c.tunnel = links
	c.mu.Unlock()
	_ = before.Close() // as a centre that ends
	expect(t, fleet.joined)
}

// An agent without its centre costs its host nothing: not the start, not the end.
func TestNoCentreNoHarm(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("opsj_a_b"), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a, err := agent.Start(agent.Config{Center: "https://" + address, Project: "p", Service: "s", TokenFile: file, CAPin: strings.Repeat("ab", 32)})
	if err != nil || time.Since(began) > 30*time.Second {
		t.Fatal(err, time.Since(began))
	}
	if err := a.Close(); err != nil || time.Since(began) > time.Minute {
		t.Error(err, time.Since(began))
	}
}
