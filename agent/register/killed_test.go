package register_test

import (
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/agent/register"
	registeretcd "github.com/opscenter/opscenter/agent/register/etcd"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
	"github.com/opscenter/opscenter/internal/discovery/etcd"
)

// selfRegistering names the registry in the environment of the process that
// TestAServiceThatIsKilled starts.
const selfRegistering = "REGISTER_TEST_ETCD"

// A service that registers itself is found; killed, it is listed no longer once its
// lease has ended; started again, it is found as another instance.
func TestAServiceThatIsKilled(t *testing.T) {
	if endpoint := os.Getenv(selfRegistering); endpoint != "" {
		serve(t, endpoint)
		return
	}
	t.Parallel()
	e := discoverytest.StartEtcd(t)
	lists := read(t, backend{source: func() (discovery.Source, error) {
		return etcd.New(etcd.Config{Endpoints: []string{e.Client}, Prefix: "/services/"})
	}})
	expect(t, lists, 0)

	kill := startService(t, e.Client)
	first := expect(t, lists, 1)[0]
	kill()
	expect(t, lists, 0)

	startService(t, e.Client)
	second := expect(t, lists, 1)[0]
	for second.Instance == first.Instance { // on a slow machine it may have lost its lease, and come back, before it was killed
		second = expect(t, lists, 1)[0]
	}
	if first.Service != "user-service" || first.Instance == "" || second.Service != first.Service {
		t.Errorf("at first %+v, then %+v", first, second)
	}
}

// serve is the service: it is registered until it is killed, or its parent ended.
func serve(t *testing.T, endpoint string) {
	a, err := agent.Start(agent.Config{Center: "off", Project: "color-game", Service: "user-service", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := registeretcd.New(registeretcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := register.Start(a, register.Config{Registry: registry, Address: ":6060", TTL: 2 * time.Second, Scheme: "http"}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startService runs serve in a process of its own. kill ends it without a word
// (SIGKILL) and waits for it.
func startService(t *testing.T, endpoint string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestAServiceThatIsKilled$")
	cmd.Env = append(os.Environ(), selfRegistering+"="+endpoint)
	stdin, err := cmd.StdinPipe() // ends with this process, and with it the service
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
		_ = stdin.Close()
	}
	t.Cleanup(kill)
	return kill
}
