package corpus

import (
	"os/exec"
	"syscall"
)

// leash ends the process when this one is gone, even by kill -9: some programs
// would burn two cores for ever.
func leash(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
