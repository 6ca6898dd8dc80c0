package pod

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const testLimit = 96 << 20

var hoard [][]byte

// TestMain is also the process that is limited: it grows until it is killed.
func TestMain(m *testing.M) {
	if os.Getenv("POD_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	if err := Enter(context.Background()); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	for range 1000 { // 1 GiB: far beyond the limit
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		hoard = append(hoard, b)
		time.Sleep(time.Millisecond)
	}
	fmt.Println("nobody killed it")
	os.Exit(4)
}

func grow(t *testing.T, p Pod) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "POD_TEST_CHILD=1"), p.Env()...)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Errorf("it ended with %v and said %q, want killed by a signal", err, out)
	}
}

func TestAProcessEndsAtItsLimit(t *testing.T) {
	t.Run("by itself", func(t *testing.T) { grow(t, Pod{bytes: testLimit}) })
	t.Run("by the kernel", func(t *testing.T) {
		p := New(fmt.Sprintf("colorgame-test-%d", os.Getpid()), testLimit)
		if !p.Real() {
			t.Skip("no control group with a memory limit can be made here")
		}
		grow(t, p)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWithoutALimitNothingIsEntered(t *testing.T) {
	if env := (Pod{}).Env(); env != nil {
		t.Errorf("the environment of no limit is %q", env)
	}
	if err := Enter(t.Context()); err != nil {
		t.Error(err)
	}
	t.Setenv(envBytes, "lots")
	if err := Enter(t.Context()); err == nil || err.Error() != `COLORGAME_MEMORY_LIMIT is a number of bytes, not "lots"` {
		t.Errorf("%v", err)
	}
}

// Groups are made where they can have a limit, and left nowhere else.
func TestWhereGroupsAreMade(t *testing.T) {
	for _, tc := range []struct{ name, cgroup, mounts, want string }{
		{
			"version 1, hybrid", "4:memory:/docker/abc\n0::/system\n",
			"35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n41 1 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"/sys/fs/cgroup/memory/docker/abc /sys/fs/cgroup/memory/docker /sys/fs/cgroup/memory /sys/fs/cgroup/unified/system /sys/fs/cgroup/unified",
		},
		{
			"version 2 in a session", "0::/user.slice/app.slice/shell.scope\n",
			"30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			"/sys/fs/cgroup/user.slice/app.slice/shell.scope /sys/fs/cgroup/user.slice/app.slice /sys/fs/cgroup/user.slice /sys/fs/cgroup",
		},
		{
			"version 2 in a container", "0::/\n",
			"30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
			"/sys/fs/cgroup",
		},
		{"none", "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			proc := filepath.Join(root, "proc", "self")
			if err := os.MkdirAll(proc, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"cgroup": tc.cgroup, "mountinfo": tc.mounts} {
				if err := os.WriteFile(filepath.Join(proc, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := strings.ReplaceAll(strings.Join(parents(root), " "), root, "")
			if got != tc.want {
				t.Errorf("groups would be made in\n%s\nwant\n%s", got, tc.want)
			}
			if dir := makeGroup(root, "x", 1); dir != "" {
				t.Errorf("a group was made in %s, which is no control group", dir)
			}
		})
	}
}
