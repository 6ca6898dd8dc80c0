package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opscenter/opscenter/examples/colorgame/internal/chassis"
	"github.com/opscenter/opscenter/examples/colorgame/internal/scenario"
)

// Stack says where everything of a running demo is. It lies in a file while the
// demo runs, so that other commands and tests find it.
type Stack struct {
	Center    string    `json:"center"` // base URL
	Project   string    `json:"project"`
	Database  bool      `json:"database"` // whether the game has one
	Limited   bool      `json:"limited"`  // whether the gateway has a memory limit
	Processes []Process `json:"processes"`
}

// Process is one program of the demo.
type Process struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`             // 0 = it is not running now
	API   string `json:"api,omitempty"`   // base URL
	Admin string `json:"admin,omitempty"` // base URL; empty = not part of the game
	Log   string `json:"log"`             // file
}

// DefaultStackFile is where a demo says what it runs: one for each user, where
// nobody else writes.
func DefaultStackFile() string {
	dir, err := os.UserCacheDir()
	if err != nil { // no home
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("colorgame-%d", os.Getuid()))
	}
	return filepath.Join(dir, "colorgame-demo.json")
}

// ReadStack reads what the running demo wrote.
func ReadStack(file string) (Stack, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Stack{}, fmt.Errorf("no demo runs here (there is no %s): start one with `make demo`, or name its file with --stack", file)
	}
	if err != nil {
		return Stack{}, err
	}
	var s Stack
	if err := json.Unmarshal(b, &s); err != nil {
		return Stack{}, fmt.Errorf("%s is not a demo's: %w", file, err)
	}
	return s, nil
}

// write replaces the file in one step.
func (s Stack) write(file string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// Process returns the one of that name.
func (s Stack) Process(name string) (Process, bool) {
	for _, p := range s.Processes {
		if p.Name == name {
			return p, true
		}
	}
	return Process{}, false
}

// Fault switches a scenario in every process of the game.
func (s Stack) Fault(ctx context.Context, sc scenario.Scenario, on bool) error {
	if sc.NeedsDatabase() && on && !s.Database {
		return fmt.Errorf("scenario %d needs a database, and this demo runs without: see what `colorgame demo` said at its start", int(sc))
	}
	if sc == scenario.Hoarding && on && !s.Limited {
		return fmt.Errorf("scenario %d needs a memory limit from the start: end this demo and run `make demo SCENARIO=7`", int(sc))
	}
	state := map[bool]string{true: "on", false: "off"}[on]
	var errs []error
	reached := 0
	for _, p := range s.Processes {
		if p.Admin == "" {
			continue
		}
		if err := call(ctx, http.MethodPut, fmt.Sprintf("%s/admin/faults/%d/%s", p.Admin, int(sc), state), nil); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
			continue
		}
		reached++
	}
	if reached == 0 && len(errs) == 0 {
		return errors.New("no process of the game is running")
	}
	return errors.Join(errs...)
}

// State asks a process how it is.
func (p Process) State(ctx context.Context) (chassis.State, error) {
	var st chassis.State
	err := call(ctx, http.MethodGet, p.Admin+"/admin/state", &st)
	return st, err
}

func call(ctx context.Context, method, url string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}
