//go:build !unix

package agent

import "os"

// removeLater accepts that an open file cannot be removed; discardFile does it.
func removeLater(string) bool { return true }

func discardFile(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}
