// Package filesd is the discovery source of Prometheus' file format: lists of
// targets with labels, as JSON or YAML, that something else writes and this
// reads anew whenever they change.
//
// A file that is malformed or cannot be read keeps what it said last; a file
// that is deleted loses it.
package filesd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config makes a Source.
type Config struct {
	// Paths name files that end in .json, .yml or .yaml. The last element may be
	// a pattern: "targets/*.json".
	Paths []string `yaml:"paths"`
	// Refresh is how often files are read although nothing told of a change;
	// 0 = 30 s. Changes that the system tells of are read within a tenth of a second.
	Refresh time.Duration `yaml:"refresh"`
	// Logger tells what is wrong with a file, once; nil = silent.
	Logger *slog.Logger `yaml:"-"`
}

const (
	defaultRefresh = 30 * time.Second
	// settle lets a burst of changes end, and a writer that does not rename finish.
	settle       = 50 * time.Millisecond
	maxFileBytes = 32 << 20
	maxFiles     = 1000
)

// Source reads the files.
type Source struct {
	*discovery.Trouble
	paths   []string
	refresh time.Duration
	log     *slog.Logger
}

// file is what was last read of one.
type file struct {
	data    []byte       // of the last attempt
	targets []ops.Target // of the last good one
	problem string
}

// Validate says what cannot be, as an Invalid error.
func (cfg Config) Validate() error {
	_, err := New(cfg)
	return err
}

// New checks the configuration. It reads nothing yet.
func New(cfg Config) (*Source, error) {
	if cfg.Refresh < 0 {
		return nil, ops.Errorf(ops.Invalid, "file-SD refresh %v is negative: use one such as 30s", cfg.Refresh)
	}
	s := &Source{refresh: cmp.Or(cfg.Refresh, defaultRefresh), log: cfg.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.Trouble = discovery.NewTrouble(s.log, s.Name())
	for _, p := range cfg.Paths {
		switch filepath.Ext(p) {
		case ".json", ".yml", ".yaml":
		default:
			return nil, ops.Errorf(ops.Invalid, "file-SD path %q: use a name that ends in .json, .yml or .yaml", p)
		}
		if strings.ContainsAny(filepath.Dir(p), "*?[") {
			return nil, ops.Errorf(ops.Invalid, "file-SD path %q: use a pattern in the last element only", p)
		}
		if _, err := filepath.Match(filepath.Base(p), ""); err != nil {
			return nil, ops.Errorf(ops.Invalid, "file-SD path %q: the pattern is malformed: close its brackets", p)
		}
		s.paths = append(s.paths, filepath.Clean(p))
	}
	return s, nil
}

// Name is "file-sd".
func (*Source) Name() string { return "file-sd" }

// Run reads the files, and again when they change, until ctx ends.
func (s *Source) Run(ctx context.Context, update func([]ops.Target)) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		s.log.Warn("file-SD is not told of changes and reads its files now and then only", "every", s.refresh, "error", err)
		watcher = &fsnotify.Watcher{} // nil channels: never anything to tell
	} else {
		defer watcher.Close()
	}
	files := map[string]*file{}
	first := true
	read := func() {
		if err == nil {
			s.watch(watcher)
		}
		list, changed := s.read(files)
		if changed || first {
			first = false
			update(list)
		}
	}
	read()
	tick := time.NewTicker(s.refresh)
	defer tick.Stop()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			read()
		case <-quiet.C:
			read()
		case _, ok := <-watcher.Events:
			if !ok {
				return errors.New("the file watcher ended")
			}
			quiet.Reset(settle)
		case err, ok := <-watcher.Errors:
			if !ok {
				return errors.New("the file watcher ended")
			}
			s.log.Warn("file-SD may have missed a change and reads all files", "error", err)
			quiet.Reset(settle)
		}
	}
}

// watch asks for changes of every directory, again and again: one may have been
// missing, or replaced. A file's own watch would die with the rename that
// replaces it. Links that lead elsewhere are watched where they end too.
func (s *Source) watch(w *fsnotify.Watcher) {
	for _, p := range s.paths {
		_ = w.Add(filepath.Dir(p)) // a directory that is missing is found at the next refresh
		for _, name := range s.matches(p) {
			if end, err := filepath.EvalSymlinks(name); err == nil && filepath.Dir(end) != filepath.Dir(p) {
				_ = w.Add(filepath.Dir(end))
			}
		}
	}
}

func (s *Source) matches(pattern string) []string {
	names, _ := filepath.Glob(pattern) // New checked the pattern
	return names
}

// read brings files up to date and returns the list of all, and whether it changed.
func (s *Source) read(files map[string]*file) ([]ops.Target, bool) {
	names := map[string]bool{}
	var problems []string
	for _, p := range s.paths {
		found := s.matches(p)
		if len(found) == 0 && !strings.ContainsAny(filepath.Base(p), "*?[") {
			problems = append(problems, fmt.Sprintf("%s: the file does not exist (yet)", p))
		}
		for _, n := range found {
			if len(names) >= maxFiles {
				problems = append(problems, fmt.Sprintf("%s: more than %d files: those from %s on are not read", p, maxFiles, n))
				break
			}
			names[n] = true
		}
	}
	changed := false
	for n := range files {
		if !names[n] {
			changed = changed || len(files[n].targets) > 0
			delete(files, n)
		}
	}
	sorted := make([]string, 0, len(names))
	for n := range names {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	var list []ops.Target
	for _, n := range sorted {
		f := files[n]
		if f == nil {
			f = &file{}
			files[n] = f
		}
		changed = s.readFile(n, f) || changed
		if f.problem != "" {
			problems = append(problems, f.problem)
		}
		list = append(list, f.targets...)
	}
	s.Set(strings.Join(problems, "\n"))
	return list, changed
}

// readFile reads one file and reports whether its targets changed.
func (s *Source) readFile(name string, f *file) bool {
	data, err := readAll(name)
	switch {
	case errors.Is(err, fs.ErrNotExist): // a link that leads nowhere, or just deleted: the next read knows
		f.data, f.problem = nil, fmt.Sprintf("%s: the file does not exist (yet)", name)
		return false
	case err != nil:
		f.data, f.problem = nil, fmt.Sprintf("%s: %v; what it said before still holds", name, unpath(err))
		return false
	case f.data != nil && bytes.Equal(data, f.data):
		return false
	}
	f.data = data
	targets, err := Parse(name, data)
	if err != nil {
		f.problem = err.Error() + "; what it said before still holds"
		return false
	}
	for i := range targets {
		targets[i].Source = s.Name()
	}
	f.targets, f.problem = targets, ""
	return true
}

func readAll(name string) ([]byte, error) {
	// Before opening: to open a pipe waits for its writer.
	if fi, err := os.Stat(name); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	r, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		return nil, fmt.Errorf("the file is larger than %d MiB: split it", maxFileBytes>>20)
	}
	if data == nil {
		data = []byte{}
	}
	return data, err
}

// unpath drops the path that the message names already.
func unpath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
