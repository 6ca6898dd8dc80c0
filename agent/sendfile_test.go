package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// With sendFileEnv set the test binary is no test but the agents of a benchmark
// program: each joins the centre of OPS_CENTER and adds to every capture one
// artifact, the file that the variable names, from a spool file that is there
// already. From there to the wire everything is the real thing. The captures
// wait for each other, so that all begin to send at once.
const (
	sendFileEnv      = "OPS_AGENT_TEST_SEND_FILE"
	sendBytesEnv     = "OPS_AGENT_TEST_SEND_BYTES"     // how much of the file
	sendInstancesEnv = "OPS_AGENT_TEST_SEND_INSTANCES" // how many agents
	sendArtifact     = "trace.out"
)

// sendFile serves until its standard input ends. It answers every line there
// with the CPU seconds since the captures began to send and the peak of its
// resident memory in bytes, as a JSON array.
func sendFile() int {
	if err := sendFiles(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func sendFiles() error {
	size, err := strconv.ParseInt(os.Getenv(sendBytesEnv), 10, 64)
	if err != nil {
		return err
	}
	instances, err := strconv.Atoi(os.Getenv(sendInstancesEnv))
	if err != nil {
		return err
	}
	s := &sender{file: os.Getenv(sendFileEnv), size: size, missing: instances, all: make(chan struct{})}
	for range instances {
		tune := defaultTuning()
		a := make(chan *Agent, 1)
		tune.onActivity = func(id, activity string) {
			if activity == "sending" {
				agent := <-a
				a <- agent
				s.add(agent, id)
			}
		}
		agent, err := start(Config{Service: "sender"}, os.Getenv, tune)
		if err != nil {
			return err
		}
		a <- agent
		defer agent.Close()
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		cpu, peak, err := s.usage()
		if err != nil {
			return err
		}
		fmt.Printf("[%g, %d]\n", cpu.Seconds(), peak)
	}
	return lines.Err()
}

type sender struct {
	file string
	size int64

	mu      sync.Mutex
	missing int // captures that have not come so far
	all     chan struct{}
	before  time.Duration // CPU time when the last one had
}

// add puts the file into a capture that has everything else.
func (s *sender) add(a *Agent, id string) {
	c, err := a.captures.get(id)
	if err != nil {
		return
	}
	f, err := os.Open(s.file)
	if err != nil {
		c.lose(loss(agentv1.Kind_KIND_TRACE, lossFailed, "%v", err))
		return
	}
	s.mu.Lock()
	if s.missing--; s.missing == 0 {
		s.before = cpuTime()
		close(s.all)
	}
	s.mu.Unlock()
	select {
	case <-s.all:
	case <-c.ctx.Done():
	}
	r := c.newArtifact(sendArtifact, agentv1.Kind_KIND_TRACE, agentv1.Phase_PHASE_WINDOW, 0, time.Now())
	r.mu.Lock()
	r.store.close()
	r.store = &firstBytes{fileStore: fileStore{f: f}, size: s.size}
	r.size = s.size
	r.mu.Unlock()
	r.close(time.Now())
}

func (s *sender) usage() (cpu time.Duration, peak int64, err error) {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &peak); err == nil {
			return cpuTime() - before, peak << 10, nil
		}
	}
	return 0, 0, errors.New("no VmHWM in /proc/self/status")
}

// firstBytes is a spool file of which only the beginning belongs to the artifact.
type firstBytes struct {
	fileStore
	size int64
}

func (s *firstBytes) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.fileStore.ReadAt(p[:min(int64(len(p)), max(s.size-off, 0))], off)
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
