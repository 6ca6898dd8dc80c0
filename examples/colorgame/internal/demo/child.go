package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/opscenter/opscenter/examples/colorgame/internal/pod"
)

// child is a program of the demo that is started again when it ends by itself,
// as a cluster would.
type child struct {
	Process
	args []string // with the program first
	env  []string // added to ours
	// stdin tells it to end by closing its standard input, which also happens
	// when we die; otherwise it is interrupted.
	stdin  bool
	health string // URL that answers once the child is up
	pod    pod.Pod

	mu      sync.Mutex // guards logFrom
	logFrom int64      // where this start's part of the log begins

	failed chan struct{} // closed when it has ended for the first time
}

const (
	restartAfter    = 2 * time.Second
	endPatience     = 12 * time.Second // longer than a service's own
	startPatience   = 60 * time.Second
	lastWordsLength = 1200
)

// run keeps the child alive until ctx ends, and returns when it has ended. Every
// start and end is told to changed.
func (c *child) run(ctx context.Context, say func(format string, args ...any), changed func(pid int)) {
	for first := true; ctx.Err() == nil; first = false {
		err := c.once(ctx, changed)
		changed(0)
		if ctx.Err() != nil {
			return
		}
		if first {
			close(c.failed)
		}
		say("%s ended by itself (%v) and is started again. Its last words, from %s:\n%s", c.Name, err, c.Log, c.lastWords())
		select {
		case <-ctx.Done():
		case <-time.After(restartAfter):
		}
	}
}

// once runs the child to its end. A nil error means that it left with code 0.
func (c *child) once(ctx context.Context, changed func(pid int)) error {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if st, err := log.Stat(); err == nil {
		c.mu.Lock()
		c.logFrom = st.Size()
		c.mu.Unlock()
	}
	cmd := exec.Command(c.args[0], c.args[1:]...)
	cmd.Env = append(append(os.Environ(), c.env...), c.pod.Env()...)
	cmd.Stdout, cmd.Stderr = log, log
	ownGroup(cmd)
	var stdin io.WriteCloser
	if c.stdin {
		cmd.Env = append(cmd.Env, "COLORGAME_PARENT=stdin")
		if stdin, err = cmd.StdinPipe(); err != nil {
			return err
		}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	changed(cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if stdin != nil {
		err = stdin.Close()
	} else {
		err = cmd.Process.Signal(os.Interrupt)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = cmd.Process.Kill()
	}
	select {
	case err = <-ended:
	case <-time.After(endPatience):
		_ = cmd.Process.Kill()
		err = <-ended
	}
	return err
}

// lastWords is the end of what the child logged since its last start.
func (c *child) lastWords() []byte {
	b, err := os.ReadFile(c.Log)
	if err != nil {
		return []byte(err.Error())
	}
	c.mu.Lock()
	b = b[min(c.logFrom, int64(len(b))):]
	c.mu.Unlock()
	if len(b) > lastWordsLength {
		b = b[len(b)-lastWordsLength:]
		if _, whole, ok := bytes.Cut(b, []byte("\n")); ok {
			b = whole
		}
	}
	return bytes.TrimSpace(b)
}

// ready returns when the child answers, or has ended before it did.
func (c *child) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := c.answers(ctx)
		select {
		case <-c.failed:
			return fmt.Errorf("%s does not start. Its last words, from %s:\n%s", c.Name, c.Log, c.lastWords())
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-c.failed:
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer (%w). Its last words, from %s:\n%s", c.Name, err, c.Log, c.lastWords())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *child) answers(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.health, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Ports that systems do not give out by themselves. One of those could be taken
// while its service starts again: even by a connection to that very port.
const (
	firstPort = 20_000
	ports     = 10_000
)

// freeAddresses returns n addresses on loopback that nobody listens on.
func freeAddresses(n int) ([]string, error) {
	// All are held until the last is found, so that no two are the same.
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	var addrs []string
	for range n {
		var l net.Listener
		var err error
		for range 100 {
			if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(ports))); err == nil {
				break
			}
		}
		if err != nil {
			return nil, err
		}
		held, addrs = append(held, l), append(addrs, l.Addr().String())
	}
	return addrs, nil
}
