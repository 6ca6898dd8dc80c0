// Command replay-store appends finished games to a segment file which is
// shared with the compaction job of the same volume.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fileLock is an advisory lock between processes on the same volume.
type fileLock struct{ path string }

func (l fileLock) acquire() (release func(), err error) {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil { // want: thread-explosion
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

type Segment struct {
	dir  string
	lock fileLock
}

func (s *Segment) Append(replay []byte) (int64, error) {
	release, err := s.lock.acquire() // want: thread-explosion
	if err != nil {
		return 0, err
	}
	defer release()
	f, err := os.OpenFile(filepath.Join(s.dir, "segment.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var hdr [8]byte
	binary.BigEndian.PutUint32(hdr[:4], uint32(len(replay)))
	binary.BigEndian.PutUint32(hdr[4:], crc32.ChecksumIEEE(replay))
	if _, err := f.Write(append(hdr[:], replay...)); err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Compact rewrites the segment; runs as a cron job next to the service.
func (s *Segment) Compact(merge time.Duration) error {
	release, err := s.lock.acquire()
	if err != nil {
		return err
	}
	defer release()
	time.Sleep(merge)
	return os.WriteFile(filepath.Join(s.dir, "segment.log"), nil, 0o644)
}

func (s *Segment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	off, err := s.Append(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, off)
}

func tableServers(url string, n int) {
	cl := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for i := range n {
		go func() {
			time.Sleep(time.Duration(i) * 3 * time.Millisecond)
			replay := bytes.Repeat([]byte{byte(i), 'm', 'v'}, 700)
			for {
				resp, err := cl.Post(url, "application/octet-stream", bytes.NewReader(replay))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(150 * time.Millisecond)
			}
		}()
	}
}

func main() {
	dir, err := os.MkdirTemp("", "replays")
	if err != nil {
		log.Fatal(err)
	}
	seg := &Segment{dir: dir, lock: fileLock{path: filepath.Join(dir, ".lock")}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, seg)) }()
	go func() {
		for {
			if err := seg.Compact(1200 * time.Millisecond); err != nil {
				log.Print(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	tableServers("http://"+ln.Addr().String()+"/replays", 320)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
