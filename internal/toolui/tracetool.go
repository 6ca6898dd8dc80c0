package toolui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// traceTool finds the trace viewer, or builds it: since Go 1.25 toolchains bring
// it as source only.
type traceTool struct {
	ui *UI
	// places are where a go command may be.
	places []string

	mu       sync.Mutex // guards what follows
	path     string     // of the binary, once found
	building chan struct{}
	from     string // the Go version it is built from
	err      error  // of the last attempt
}

func newTraceTool(u *UI) *traceTool {
	return &traceTool{ui: u, places: []string{"go", filepath.Join(os.Getenv("GOROOT"), "bin", "go"), "/usr/local/go/bin/go"}}
}

// buildTimeout is many times what a build takes.
const buildTimeout = 10 * time.Minute

// goCommand finds the go command of this host; empty = none.
func (t *traceTool) goCommand() string {
	for _, candidate := range t.places {
		if path, err := exec.LookPath(candidate); err == nil {
			if abs, err := filepath.Abs(path); err == nil {
				return abs
			}
		}
	}
	return ""
}

const noToolchain = "The trace viewer is a program of the Go toolchain, and there is none on the centre's host: install Go (https://go.dev/doc/install) where the centre finds it in PATH and reload; or run `CGO_ENABLED=0 go build -o trace-viewer cmd/trace` on another machine, copy the file here and start the centre with --trace-viewer FILE. Until then, download traces and open them with go tool trace."

// problem says in words why traces cannot be opened; empty = they can.
func (t *traceTool) problem() string {
	if t.ui.cfg.TraceViewer != "" {
		if err := executable(t.ui.cfg.TraceViewer); err != nil {
			return fmt.Sprintf("The trace viewer %s cannot be run (%v): start the centre with --trace-viewer naming a binary of cmd/trace, or without it.", t.ui.cfg.TraceViewer, err)
		}
		return ""
	}
	t.mu.Lock()
	path, err := t.path, t.err
	t.mu.Unlock()
	switch {
	case path != "":
		return ""
	case err != nil:
		return sentence(err.Error())
	case t.goCommand() == "":
		return noToolchain
	}
	return ""
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		var pe *fs.PathError
		if errors.As(err, &pe) {
			return pe.Err
		}
		return err
	case info.IsDir() || runtime.GOOS != "windows" && info.Mode()&0o111 == 0:
		return errors.New("it is not an executable file")
	}
	return nil
}

// get returns the viewer's path. While it is being built, which is said by
// progress, it waits for the build or for ctx.
func (t *traceTool) get(ctx context.Context) (string, error) {
	if t.ui.cfg.TraceViewer != "" {
		if p := t.problem(); p != "" {
			return "", ops.Errorf(ops.Unavailable, "%s", p)
		}
		return t.ui.cfg.TraceViewer, nil
	}
	t.mu.Lock()
	if t.path != "" && executable(t.path) == nil {
		defer t.mu.Unlock()
		return t.path, nil
	}
	if t.building == nil {
		done := make(chan struct{})
		t.building = done
		if !t.ui.goRun(func(ctx context.Context) {
			path, err := t.find(ctx)
			t.mu.Lock()
			t.path, t.err, t.building, t.from = path, err, nil, ""
			t.mu.Unlock()
			close(done)
		}) {
			t.building = nil
			t.mu.Unlock()
			return "", errNotRunning
		}
	}
	done := t.building
	t.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.path, t.err
}

// progress says in words what is being built; empty = nothing.
func (t *traceTool) progress() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.from == "" {
		return ""
	}
	return "The trace viewer is being built from the source in " + t.from + ". This takes up to a minute, and only the first time."
}

// find takes the toolchain's viewer, or the one built before, or builds it.
func (t *traceTool) find(ctx context.Context) (string, error) {
	goTool := t.goCommand()
	if goTool == "" {
		return "", ops.Errorf(ops.Unavailable, "%s", noToolchain)
	}
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GO111MODULE=on")
	out, err := t.run(ctx, env, goTool, "env", "-json", "GOVERSION", "GOTOOLDIR", "GOOS", "GOARCH")
	var info struct{ GOVERSION, GOTOOLDIR, GOOS, GOARCH string }
	if err == nil {
		err = json.Unmarshal(out, &info)
	}
	if err != nil {
		return "", t.failed(goTool, err)
	}
	if path := filepath.Join(info.GOTOOLDIR, "trace"); executable(path) == nil {
		return path, nil
	}
	dir := t.ui.cfg.Dir
	if dir == "" {
		dir = t.ui.scratchDir()
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	version := strings.NewReplacer("/", "-", " ", "-").Replace(info.GOVERSION)
	path := filepath.Join(dir, "trace-viewer-"+version+"-"+info.GOOS+"-"+info.GOARCH)
	if executable(path) == nil {
		return path, nil
	}

	t.mu.Lock()
	t.from = info.GOVERSION
	t.mu.Unlock()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if os.Getenv("HOME") == "" && os.Getenv("XDG_CACHE_HOME") == "" && os.Getenv("GOCACHE") == "" {
		env = append(env, "GOCACHE="+filepath.Join(t.ui.scratchDir(), "go-build"))
	}
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	started := time.Now()
	// Built aside and renamed: a build that is cut short leaves nothing to run.
	aside := path + ".new"
	if _, err := t.run(ctx, env, goTool, "build", "-trimpath", "-ldflags=-s -w", "-o", aside, "cmd/trace"); err != nil {
		return "", t.failed(goTool, err)
	}
	if err := os.Rename(aside, path); err != nil {
		return "", err
	}
	t.ui.log.Info("the trace viewer was built", "path", path, "go", info.GOVERSION, "took", time.Since(started))
	return path, nil
}

func (t *traceTool) run(ctx context.Context, env []string, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	cmd.Dir = t.ui.scratchDir() // no module of ours, or anybody's
	cmd.WaitDelay = time.Second
	var said tail
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return out, nil
}

func (t *traceTool) failed(goTool string, err error) error {
	t.ui.log.Error("the trace viewer could not be built", "go", goTool, "err", err)
	return ops.Errorf(ops.Unavailable, "the trace viewer could not be built with %s (%w): run `CGO_ENABLED=0 go build -o trace-viewer cmd/trace` where a Go toolchain works, and start the centre with --trace-viewer FILE", goTool, err)
}
