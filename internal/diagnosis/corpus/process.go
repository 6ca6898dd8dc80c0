package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that this one started and waits for.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu    sync.Mutex
	said  bytes.Buffer  // of both outputs, up to saidMost
	lines chan struct{} // a token after each write
}

const saidMost = 64 << 10

// start runs a program with these variables added to a clean environment.
func start(env []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), ended: make(chan struct{}), lines: make(chan struct{}, 1)}
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	leash(p.cmd)
	p.cmd.WaitDelay = time.Second // for a grandchild that keeps the output open
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it went is in what it said
		close(p.ended)
	}()
	return p, nil
}

// Write keeps what the process says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	if room := saidMost - p.said.Len(); room > 0 {
		p.said.Write(b[:min(room, len(b))])
	}
	p.mu.Unlock()
	select {
	case p.lines <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// await returns the rest of the first line that begins so.
func (p *process) await(ctx context.Context, prefix string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		out := p.output()
		for line := range strings.Lines(out) {
			if rest, ok := strings.CutPrefix(line, prefix); ok && strings.HasSuffix(line, "\n") {
				return strings.TrimSpace(rest), nil
			}
		}
		select {
		case <-p.lines:
		case <-p.ended:
			return "", fmt.Errorf("%s ended at once, and said:\n%s", filepath.Base(p.cmd.Path), p.output())
		case <-ctx.Done():
			return "", fmt.Errorf("%s did not say %q, but:\n%s", filepath.Base(p.cmd.Path), prefix, out)
		}
	}
}

// end asks the process to end, waits for it, and kills it if it does not.
func (p *process) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	select {
	case <-p.ended:
	case <-time.After(8 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// cleanEnv is the environment without what would lead programs elsewhere.
func cleanEnv() (env []string) {
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); {
		case strings.HasPrefix(name, "OPS_"), name == "GOGC", name == "GOMEMLIMIT", name == "GOMAXPROCS", name == "GODEBUG", name == "PPROF_ADDR":
		default:
			env = append(env, kv)
		}
	}
	return env
}

// errNoCgroup says why no cgroup can be made.
var errNoCgroup = errors.New("no cgroup can be made here")

// limit puts the process into a cgroup that gives it so many cores. undo is
// called when the process has ended.
func (p *process) limit(cores float64) (undo func(), err error) {
	const period = 100_000 // µs, the kernel's default
	quota := int(cores * period)
	name := "corpus-" + strconv.Itoa(p.cmd.Process.Pid)
	for _, way := range []struct{ dir, file, value string }{
		{"/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", strconv.Itoa(quota)},
		{"/sys/fs/cgroup", "cpu.max", fmt.Sprintf("%d %d", quota, period)},
	} {
		dir := filepath.Join(way.dir, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		undo := func() { _ = os.Remove(dir) } // fails while it has a process: nothing to do about it
		if set(dir, way.file, way.value) == nil && set(dir, "cgroup.procs", strconv.Itoa(p.cmd.Process.Pid)) == nil {
			return undo, nil
		}
		undo()
	}
	return nil, errNoCgroup
}

func set(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0) // never to be created: the kernel's files are there
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
