package stage

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// What a child is told through its environment: which one it is, and for what.
const (
	childVar = "CORPUS_CHILD"
	argVar   = "CORPUS_CHILD_ARG"
)

type child struct {
	cmd   *exec.Cmd
	leash io.Closer
}

// Child names work that the same program does in a process of its own, so that
// it is in nobody's profile. main calls it before Start, once per name. In that
// child it serves on l until ctx ends, and does not return; elsewhere it does
// nothing.
func Child(name string, serve func(ctx context.Context, l net.Listener) error) {
	if os.Getenv(childVar) != name {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	fmt.Println(l.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone, however it went
		cancel()
		time.Sleep(time.Second)
		os.Exit(0) // serve did not listen
	}()
	must(serve(ctx, l))
	os.Exit(0)
}

// Spawn starts the named child and returns the host:port that it serves on.
func (s *Stage) Spawn(name string) string {
	said := s.spawn(name, "")
	addr, err := bufio.NewReader(said).ReadString('\n')
	must(err)
	return strings.TrimSpace(addr)
}

func (s *Stage) spawn(name, arg string) io.Reader {
	exe, err := os.Executable()
	must(err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVar+"="+name, argVar+"="+arg, "OPS_AGENT=off", "GOMEMLIMIT=", "GOGC=", "GODEBUG=")
	cmd.Stderr = os.Stderr
	leash, err := cmd.StdinPipe()
	must(err)
	said, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	s.children = append(s.children, &child{cmd: cmd, leash: leash})
	return said
}

// end lets the child go, and waits.
func (c *child) end() {
	_ = c.leash.Close()
	_ = c.cmd.Wait() // however it went
}
