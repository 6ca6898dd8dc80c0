package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type Snapshot struct {
	Player int64
	Slot   int
	Data   []byte
}

// Shard is one append-only save file shared with the archiver process.
type Shard struct {
	path string
}

func (s *Shard) append(snap Snapshot) error {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("shard %s: %w", s.path, err)
	}
	defer syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	off := snap.Player % 1024 * int64(len(snap.Data))
	_, err = f.WriteAt(snap.Data, off)
	return err
}

type SaveStore struct {
	shards []*Shard
	saved  atomic.Int64
}

func (s *SaveStore) Save(snap Snapshot) error {
	if err := s.shards[snap.Player%int64(len(s.shards))].append(snap); err != nil {
		return err
	}
	s.saved.Add(1)
	return nil
}

type Autosaver struct {
	player int64
	store  *SaveStore
}

func (a *Autosaver) Run() {
	state := make([]byte, 512)
	for slot := 0; ; slot++ {
		state[rand.IntN(len(state))]++
		if err := a.store.Save(Snapshot{Player: a.player, Slot: slot, Data: state}); err != nil {
			log.Printf("autosave: %v", err)
		}
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond)
	}
}

func shardPaths(dir string) []string {
	var out []string
	for i := range 4 {
		out = append(out, filepath.Join(dir, fmt.Sprintf("saves-%02d.bin", i)))
	}
	return out
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "downstream" {
		runArchiver(os.Args[2])
		return
	}
	startDiagnostics()
	dir, err := os.MkdirTemp("", "saves")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store := &SaveStore{}
	for _, p := range shardPaths(dir) {
		store.shards = append(store.shards, &Shard{path: p})
	}
	if _, err := launch("downstream", dir); err != nil {
		log.Fatal(err)
	}
	for p := range 320 {
		go (&Autosaver{player: int64(p), store: store}).Run()
	}
	awaitShutdown()
}

// runArchiver copies each shard to cold storage while holding it steady.
func runArchiver(dir string) {
	announce("ready")
	for _, p := range shardPaths(dir) {
		go func() {
			for {
				f, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE, 0o600)
				if err != nil {
					return
				}
				syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
				time.Sleep(4 * time.Second)
				f.Close()
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	select {}
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}

var children []*exec.Cmd

// launch starts this binary in another role and returns the first line the
// child prints, normally the address it listens on.
func launch(args ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(exe, args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OPS_CENTER") && !strings.HasPrefix(kv, "PPROF_ADDR=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Stderr = os.Stderr
	if _, err = cmd.StdinPipe(); err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	children = append(children, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

// announce tells the parent where we are and ties our lifetime to it.
func announce(line string) {
	fmt.Println(line)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}
