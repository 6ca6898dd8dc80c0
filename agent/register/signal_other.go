//go:build !unix

package register

import "os"

func endSignals() []os.Signal { return []os.Signal{os.Interrupt} }

func raise(os.Signal) { os.Exit(1) }
