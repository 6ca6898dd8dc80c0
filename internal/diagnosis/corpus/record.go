package corpus

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Bench is where programs are run: a centre, and the programs' binaries.
type Bench struct {
	// Ops is the program under test. Empty = built from Root.
	Ops string
	// Root of the module; needed.
	Root string
	// Window of a capture; 0 = 10 s.
	Window time.Duration
	// Foreign programs need no agent: those without one are skipped where one is
	// asked for.
	Foreign bool

	dir     string
	centre  *process
	address string // of the centre

	mu      sync.Mutex
	targets map[string]string // agentless: pprof's address by program
}

// project is where the centre sees the programs that are captured that way.
func (w Way) project() string { return "corpus-" + string(w) }

// Open makes room, and builds ops if need be.
func (b *Bench) Open(ctx context.Context) (err error) {
	b.Window = cmp.Or(b.Window, 10*time.Second)
	b.targets = map[string]string{}
	if b.dir, err = os.MkdirTemp("", "corpus-"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if b.Ops == "" {
		b.Ops = filepath.Join(b.dir, "ops")
		if err := b.goBuild(ctx, b.Root, "-o", b.Ops, "./cmd/ops"); err != nil {
			return err
		}
	}
	return nil
}

// Serve starts the centre; only programs that run need it.
func (b *Bench) Serve(ctx context.Context) error {
	if err := b.writeTargets(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	b.centre, err = start(nil, b.Ops, "serve", "--listen", b.address, "--data", filepath.Join(b.dir, "data"),
		"--file-sd", b.targetsFile(), "--disk-reserve", "64MiB")
	if err != nil {
		return err
	}
	_, err = b.centre.await(ctx, "OPS Center is at ")
	return err
}

// Close ends the centre and removes what it kept.
func (b *Bench) Close() {
	if b.centre != nil {
		b.centre.end()
	}
	_ = os.RemoveAll(b.dir) // a temporary directory
}

// Build compiles the programs, those of this module in one go.
func (b *Bench) Build(ctx context.Context, programs []Program) error {
	if err := os.MkdirAll(filepath.Join(b.dir, "bin"), 0o755); err != nil {
		return err
	}
	ours := []string{"-o", filepath.Join(b.dir, "bin") + string(filepath.Separator)}
	for _, p := range programs {
		dir, err := filepath.Abs(p.Dir)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(b.Root, dir)
		switch {
		case err == nil && filepath.IsLocal(rel) && moduleOf(dir) == moduleOf(b.Root):
			ours = append(ours, "./"+filepath.ToSlash(rel))
		case moduleOf(dir) != "":
			if err := b.goBuild(ctx, dir, "-o", b.binary(p), "."); err != nil {
				return err
			}
		default: // loose files may use what this module has
			files, err := filepath.Glob(filepath.Join(dir, "*.go"))
			if err != nil {
				return err
			}
			if err := b.goBuild(ctx, b.Root, append([]string{"-o", b.binary(p)}, files...)...); err != nil {
				return err
			}
		}
	}
	if len(ours) == 2 {
		return nil
	}
	return b.goBuild(ctx, b.Root, ours...)
}

func (b *Bench) binary(p Program) string { return filepath.Join(b.dir, "bin", p.Name) }

// moduleOf is the nearest directory above that has a go.mod; "" = none.
func moduleOf(dir string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

func (b *Bench) goBuild(ctx context.Context, dir string, args ...string) error {
	// Without DWARF, which nobody reads here, a hundred programs are built in half the time.
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-ldflags=-w"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// SkipError says why a program cannot run on this machine.
type SkipError struct{ Reason string }

func (e *SkipError) Error() string { return e.Reason }

// Run starts a program, waits until it is in its state, and hands it over once
// per way. The process is the same for all ways, agentless first, unless the
// label asks for a fresh one each.
func (b *Bench) Run(ctx context.Context, p Program, ways []Way, visit func(Way, *Running) error) error {
	if !p.Fresh {
		return b.stay(ctx, p, ways, visit)
	}
	for _, w := range ways {
		if err := b.stay(ctx, p, []Way{w}, visit); err != nil {
			return err
		}
	}
	return nil
}

// Running is a program that is in its state.
type Running struct {
	bench   *Bench
	program Program
	process *process
	pprof   string // URL
}

func (b *Bench) stay(ctx context.Context, p Program, ways []Way, visit func(Way, *Running) error) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	env := append([]string{
		"GOMAXPROCS=2", "PPROF_ADDR=" + addr, "OPS_CENTER=http://" + b.address,
		"OPS_PROJECT=" + Agent.project(), "OPS_SERVICE=" + p.Name, "OPS_SPOOL_DIR=" + b.dir,
	}, p.Env...)
	proc, err := start(env, b.binary(p))
	if err != nil {
		return err
	}
	defer proc.end()
	if p.CPUQuota > 0 {
		undo, err := proc.limit(p.CPUQuota)
		if err != nil {
			return &SkipError{err.Error()}
		}
		defer func() {
			proc.end()
			undo()
		}()
	}
	r := &Running{bench: b, program: p, process: proc, pprof: "http://" + addr + "/debug/pprof"}
	if err := r.up(ctx, addr); err != nil {
		return err
	}
	if err := sleep(ctx, p.Settle()); err != nil {
		return err
	}
	for _, w := range ways {
		if err := visit(w, r); err != nil {
			return err
		}
		select {
		case <-proc.ended:
			return fmt.Errorf("the program ended by itself, and said:\n%s", proc.output())
		default:
		}
	}
	return nil
}

// up waits until the program listens.
func (r *Running) up(ctx context.Context, addr string) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-r.process.ended:
			return fmt.Errorf("the program ended at once, and said:\n%s", r.process.output())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the program does not listen on %s (PPROF_ADDR), but said:\n%s", addr, r.process.output())
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// Capture captures the program through the centre, and unpacks the bundle in dir,
// which it replaces.
func (r *Running) Capture(ctx context.Context, w Way, dir string) error {
	b, name := r.bench, r.program.Name
	if w == Agentless {
		if err := b.announce(name, r.pprof); err != nil {
			return err
		}
		defer func() { _ = b.announce(name, "") }() // the next capture will say if that fails
	}
	var id string
	for deadline := time.Now().Add(15 * time.Second); ; {
		var answer struct {
			Capture struct{ ID, State, Reason string }
		}
		out, err := b.ops(ctx, "capture", name, "--project", w.project(), "-d", b.Window.String(), "--json")
		if err == nil {
			if err := json.Unmarshal(out, &answer); err != nil {
				return err
			}
			id = answer.Capture.ID
			break
		}
		if time.Now().After(deadline) {
			if exit := new(exec.ExitError); b.Foreign && w == Agent && errors.As(err, &exit) && exit.ExitCode() == exitNotFound {
				return &SkipError{"no agent of it joined the centre"}
			}
			return err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil { // not there yet
			return err
		}
	}
	file := filepath.Join(b.dir, id+".zip")
	defer os.Remove(file)
	if _, err := b.ops(ctx, "export", id, "-o", file); err != nil {
		return err
	}
	// For the disk's sake; refused while the centre itself diagnoses the capture.
	_, _ = b.ops(ctx, "delete", id, "--yes")
	return unpack(file, dir)
}

// Exit codes of ops: a partial capture is an answer, too.
const (
	exitPartial  = 4
	exitNotFound = 5
)

// ops runs the program under test against the centre.
func (b *Bench) ops(ctx context.Context, args ...string) ([]byte, error) {
	return runOps(ctx, b.Ops, append(args, "--server", "http://"+b.address)...)
}

func runOps(ctx context.Context, ops string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, ops, args...)
	cmd.Env = cleanEnv()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitPartial {
		err = nil
	}
	if err != nil {
		return out, fmt.Errorf("ops %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out, nil
}

// announce tells the centre where a program's pprof is; "" = nowhere any more.
func (b *Bench) announce(name, url string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if url == "" {
		delete(b.targets, name)
	} else {
		b.targets[name] = strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/debug/pprof")
	}
	return b.writeTargets()
}

func (b *Bench) targetsFile() string { return filepath.Join(b.dir, "targets.json") }

// writeTargets replaces the file at once; b.mu is held, or nobody else is there.
func (b *Bench) writeTargets() error {
	groups := []any{}
	for name, addr := range b.targets {
		groups = append(groups, map[string]any{
			"targets": []string{addr},
			"labels":  map[string]string{"service": name, "project": Agentless.project()},
		})
	}
	text, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.targetsFile()+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(b.targetsFile()+".new", b.targetsFile())
}

func unpack(file, dir string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer z.Close()
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for _, f := range z.File {
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("the bundle has a file %q", f.Name)
		}
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if err := unpackFile(f, filepath.Join(dir, filepath.FromSlash(f.Name))); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

func unpackFile(f *zip.File, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	w, err := os.Create(to)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close(), w.Close())
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
