// Flock-blocked appends to a ledger file under a file lock.
package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type ledger struct{ path string }

func (l ledger) append(line string) error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil { // want: syscall-blocked
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		return err
	}
	time.Sleep(8 * time.Millisecond) // what the file system of a cluster takes
	return nil
}

func main() {
	s := stage.Start()
	dir, err := os.MkdirTemp("", "ledger-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	l := ledger{filepath.Join(dir, "ledger")}
	mux := http.NewServeMux()
	mux.HandleFunc("/append", func(w http.ResponseWriter, r *http.Request) {
		if err := l.append(fmt.Sprintln(time.Now(), r.RemoteAddr)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/append", Users: 30, Pause: 5 * time.Millisecond})
	s.Wait()
}
