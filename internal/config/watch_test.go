package config_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/config"
)

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		tmp := filepath.Join(dir, "..tmp")
		if err := os.Symlink(to, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// As Kubernetes lays out a ConfigMap: the file is a link through ..data.
	for _, d := range []string{"..1", "..2"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write("..1/ops.yaml", "one")
	write("..2/ops.yaml", "two")
	link("..1", "..data")
	link("..data/ops.yaml", "mapped.yaml")
	write("plain.yaml", "one")

	ask, seen := make(chan os.Signal, 1), make(chan bool, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		config.Watch{Ask: ask, Files: func() []string {
			return []string{filepath.Join(dir, "mapped.yaml"), filepath.Join(dir, "plain.yaml")}
		}}.Run(ctx, func(asked bool) { seen <- asked })
	}()
	time.Sleep(50 * time.Millisecond) // for the watch to stand; else a change is found at the next look
	for _, c := range []struct {
		what  string
		do    func()
		asked bool
	}{
		{"written in place", func() { write("plain.yaml", "two") }, false},
		{"replaced by a rename", func() {
			write("new", "three")
			if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "plain.yaml")); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"replaced again", func() {
			write("new", "four")
			if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "plain.yaml")); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"the link of the ConfigMap", func() { link("..2", "..data") }, false},
		{"asked", func() { ask <- syscall.SIGHUP }, true},
	} {
		c.do()
		for asked := !c.asked; asked != c.asked; { // a slow write may be seen half done, and then whole
			select {
			case asked = <-seen:
				if asked && !c.asked {
					t.Errorf("%s: nobody asked", c.what)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s: not seen", c.what)
			}
		}
	}
	write("new", "four") // the same
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "plain.yaml")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-seen:
		t.Error("a change that changes nothing was told")
	case <-time.After(3 * 100 * time.Millisecond):
	}
	cancel()
	<-ended
}
