package toolui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// spawner starts processes from one operating-system thread that lives until it
// is stopped: the kernel kills our children when the thread that started them
// ends, and other threads may end at any time.
type spawner struct {
	jobs chan func()
}

func newSpawner() *spawner { return &spawner{jobs: make(chan func())} }

func (s *spawner) run(stop <-chan struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case job := <-s.jobs:
			job()
		case <-stop:
			return
		}
	}
}

func (s *spawner) start(ctx context.Context, cmd *exec.Cmd) error {
	done := make(chan error, 1)
	select {
	case s.jobs <- func() { done <- cmd.Start() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// command is a child to start.
type command struct {
	name   string // in words: "the reader of profiles"
	argv   []string
	env    []string
	stdin  io.Reader // nil = none
	stdout io.Writer // nil = none
	stderr io.Writer // nil = kept for the log alone
	// memory is the most that it may take.
	memory int64
}

// process is a running child. It and what it started is killed when ctx ends.
type process struct {
	name   string
	memory int64
	cmd    *exec.Cmd
	stderr *tail
	done   chan struct{} // closed when it has ended

	mu     sync.Mutex // guards killed
	killed error      // why we ended it
	err    error      // set before done is closed
}

// errClosed is why children end that are no longer needed.
var errClosed = errors.New("closed")

// start starts a child that lives no longer than ctx, which is Run's or within it.
func (u *UI) start(ctx context.Context, c command) (*process, error) {
	if os.Getenv(childEnv) != "" {
		return nil, errors.New("a child of the tool UIs may not start another: call ChildMain for " + ChildVerb)
	}
	p := &process{name: c.name, memory: c.memory, stderr: &tail{}, done: make(chan struct{})}
	p.cmd = exec.Command(c.argv[0], c.argv[1:]...)
	p.cmd.Env = append([]string{childEnv + "=1"}, c.env...)
	p.cmd.Stdin, p.cmd.Stdout = c.stdin, c.stdout
	p.cmd.Stderr = p.stderr
	if c.stderr != nil {
		p.cmd.Stderr = io.MultiWriter(p.stderr, c.stderr)
	}
	p.cmd.WaitDelay = time.Second // for pipes that a grandchild holds
	p.cmd.SysProcAttr = childAttributes()
	if err := u.spawner.start(ctx, p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	if err := limitMemory(p.cmd.Process.Pid, c.memory); err != nil {
		u.log.Warn("a child's memory is not limited", "child", c.name, "err", err)
	}
	if !u.goRun(func(context.Context) {
		p.err = p.cmd.Wait()
		close(p.done)
	}) {
		p.kill(errClosed)
		p.err = p.cmd.Wait()
		close(p.done)
	}
	u.goRun(func(context.Context) { p.watch(ctx) })
	return p, nil
}

// watch kills the child when ctx ends or it takes too much memory.
func (p *process) watch(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-ctx.Done():
			p.kill(context.Cause(ctx))
			return
		case <-tick.C:
			if residentBytes(p.cmd.Process.Pid) > p.memory {
				p.kill(p.outOfMemory())
				return
			}
		}
	}
}

func (p *process) kill(why error) {
	p.mu.Lock()
	if p.killed == nil {
		p.killed = why
	}
	p.mu.Unlock()
	killGroup(p.cmd.Process)
}

func (p *process) outOfMemory() error {
	return ops.Errorf(ops.Exhausted, "%s needed more than %d MiB of memory and was stopped: download the file and open it with go tool", p.name, p.memory>>20)
}

// failure says in words why the child ended; call it after done.
func (p *process) failure() error {
	p.mu.Lock()
	killed := p.killed
	p.mu.Unlock()
	said := p.stderr.String()
	switch {
	case killed != nil && !errors.Is(killed, errClosed):
		return killed
	case strings.Contains(said, "out of memory"), strings.Contains(said, "cannot allocate memory"), strings.Contains(said, "failed to allocate"):
		return p.outOfMemory()
	case p.err == nil && killed == nil:
		return ops.Errorf(ops.Unavailable, "%s ended: reload the page", p.name)
	}
	return ops.Errorf(ops.Corrupt, "%s ended by itself (%w) and this file may be why: reload the page, and if it happens again, download the file and open it with go tool", p.name, errors.Join(p.err, killed))
}

// tail keeps the first and the last of what is written to it.
type tail struct {
	mu    sync.Mutex // guards what follows
	first []byte
	last  []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	room := min(tailBytes-len(t.first), n)
	t.first, b = append(t.first, b[:room]...), b[room:]
	t.last = append(t.last, b...)
	if over := len(t.last) - tailBytes; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.first) + string(t.last)
}
