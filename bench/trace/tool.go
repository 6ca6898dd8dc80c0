package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// toolTrace is the child that is go tool trace.
const toolTrace = "go tool trace"

// goToolTrace starts the program, without the go command before it, and waits for
// the first byte of what its viewer asks for.
func goToolTrace(ctx context.Context, file string) (r result, err error) {
	program, err := exec.CommandContext(ctx, "go", "tool", "-n", "trace").Output()
	if err != nil {
		return r, fmt.Errorf("where is go tool trace? %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return r, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, strings.TrimSpace(string(program)), "-http="+addr, file)
	cmd.Env = append(os.Environ(), "BROWSER=true") // it opens one else
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	first := firstJSON(ctx, "http://"+addr)
	r.Wall = time.Since(start)
	r.Anon, r.Total = status(cmd.Process.Pid, "RssAnon:"), status(cmd.Process.Pid, "VmHWM:")
	_ = cmd.Process.Kill() // it ends only so
	_ = cmd.Wait()         // killed
	if first != nil {
		return r, fmt.Errorf("%w: %s", first, said.Bytes())
	}
	if used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.CPU = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return r, nil
}

// firstJSON asks until there is an answer: the program listens once it has read
// the trace. It writes large traces in ranges: of the first event here.
func firstJSON(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/jsontrace?view=proc&start=0&end=1", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_, err = io.CopyN(io.Discard, resp.Body, 1)
			_ = resp.Body.Close() // one byte of it was enough
			if err == nil && resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// status is a size of a process in bytes; 0 = not known.
func status(pid int, name string) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if s, ok := strings.CutPrefix(string(line), name); ok {
			kb, err := strconv.ParseInt(strings.Fields(s)[0], 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}
