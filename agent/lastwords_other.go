//go:build !unix

package agent

import "os"

func endSignals() []os.Signal { return []os.Signal{os.Interrupt} }

func raise(os.Signal) { os.Exit(1) }
