package config

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watch waits for changes of files.
type Watch struct {
	// Files are those that count now; called before every look.
	Files func() []string
	// Seen is what they held when they were read, as Sums tells; nil = what they hold
	// when Run begins.
	Seen map[string]Sum
	// Ask makes a look count as a change whatever the files say; nil = nobody asks.
	Ask <-chan os.Signal
	// Every is how often the files are looked at although nothing told of a change;
	// 0 = 10 s, for file systems that tell nothing.
	Every time.Duration
	// Logger; nil = silence.
	Logger *slog.Logger
}

const (
	lookEvery = 10 * time.Second
	// settle lets a writer that does not rename finish.
	settle = 100 * time.Millisecond
)

// Run calls changed when what the files hold differs from the last time, or when
// somebody asks, until ctx ends. What is watched are directories, and the ends of
// links: a file that is replaced, by a rename or by Kubernetes' ..data link, is
// another file.
func (w Watch) Run(ctx context.Context, changed func(asked bool)) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		if w.Logger != nil {
			w.Logger.Warn("the configuration is looked at now and then only", "error", err)
		}
		watcher = &fsnotify.Watcher{} // nil channels: never anything to tell
	} else {
		defer watcher.Close()
	}
	follow := func() {
		if err != nil {
			return
		}
		for _, name := range w.Files() {
			_ = watcher.Add(filepath.Dir(name)) // what is missing is seen at the next look
			if end, err := filepath.EvalSymlinks(name); err == nil {
				_ = watcher.Add(filepath.Dir(end))
			}
		}
	}
	follow()
	last := w.Seen
	if last == nil {
		last = Sums(w.Files())
	}
	if w.Every == 0 {
		w.Every = lookEvery
	}
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	quiet := time.NewTimer(settle) // what changed since they were read
	defer quiet.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-w.Ask:
			asked = true
		case <-tick.C:
		case <-quiet.C:
		case _, ok := <-watcher.Events:
			if !ok {
				return
			}
			quiet.Reset(settle)
			continue
		case err := <-watcher.Errors:
			_ = err // whatever was missed, the sums below and the tick find it
			quiet.Reset(settle)
			continue
		}
		now := Sums(w.Files())
		if maps.Equal(now, last) && !asked {
			continue
		}
		changed(asked)
		// What changes from here on is told again, even if it was read already. Files
		// that count only now are as they are.
		last = Sums(w.Files())
		for name := range last {
			if sum, known := now[name]; known {
				last[name] = sum
			}
		}
		quiet.Reset(settle)
		follow()
	}
}

// Sum tells one content of a file from another.
type Sum [sha256.Size]byte

// Sums are of what the files hold; one that cannot be read holds why.
func Sums(files []string) map[string]Sum {
	out := map[string]Sum{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			b = []byte(err.Error())
		}
		out[name] = sha256.Sum256(b)
	}
	return out
}
