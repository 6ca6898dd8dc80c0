package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// spent is what one way took once.
type spent struct {
	Seconds, CPU, Allocated float64
	Total                   int64
}

// pyroscope is a program built within a checkout of Pyroscope.
type pyroscope struct{ program string }

// buildPyroscope builds the peer in a checkout without writing to it.
func buildPyroscope(ctx context.Context, checkout, dir string) (*pyroscope, error) {
	checkout, err := filepath.Abs(checkout)
	if err != nil {
		return nil, err
	}
	source, err := filepath.Abs("bench/profile/testdata/pyroscope/main.go")
	if err != nil {
		return nil, err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(checkout, "cmd/peer/main.go"): source}})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return nil, err
	}
	p := &pyroscope{program: filepath.Join(dir, "peer")}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", checkout, "-mod=mod", "-overlay", file, "-o", p.program, "./cmd/peer")
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build with Pyroscope's checkout %s: %w: %s", checkout, err, out)
	}
	return p, nil
}

// sum runs it over a set in a process of its own.
func (p *pyroscope) sum(ctx context.Context, s set, dir string) (spent, error) {
	dir = filepath.Join(dir, s.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return spent{}, err
	}
	for i, f := range s.files {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), f, 0o600); err != nil {
			return spent{}, err
		}
	}
	cmd := exec.CommandContext(ctx, p.program, dir)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return spent{}, err
	}
	var r spent
	return r, json.Unmarshal(out, &r)
}
