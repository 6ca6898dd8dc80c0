//go:build !unix

package postgres

import "os/exec"

func owner(string) (func(*exec.Cmd), error) { return func(*exec.Cmd) {}, nil }
