package postgres

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end the server when we are killed, and keeps
// the terminal's Ctrl-C from it: the order of ending is ours.
func dieWithParent(cmd *exec.Cmd) {
	a := attributes(cmd)
	a.Pdeathsig = syscall.SIGINT
	a.Setpgid = true
}
