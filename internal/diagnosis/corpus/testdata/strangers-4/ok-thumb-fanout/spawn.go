package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

var kept []io.Closer

// spawn starts this binary in another role and returns the first line it prints.
func spawn(role string, args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(self, append([]string{role}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	kept = append(kept, in, out)
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

// announce tells the parent where a role listens and ends the role with its parent.
func announce(addr string) {
	fmt.Println(addr)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}
