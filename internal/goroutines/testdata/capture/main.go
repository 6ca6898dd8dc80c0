// Capture puts goroutines into every state that there is, each below a function
// that is named after it, and writes its goroutine profile in all three formats
// into the folder named by its argument. See generate.sh.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"
)

var (
	mu     sync.Mutex
	rw     sync.RWMutex
	rwHeld sync.RWMutex
	wg     sync.WaitGroup
	once   sync.Once
	sink   int
	never  = make(chan int)
	nilCh  chan int
	full   = make(chan int, 1)
)

//go:noinline
func stateMutex() { mu.Lock() }

//go:noinline
func stateRWMutexRead() { rw.RLock() }

//go:noinline
func stateRWMutexWrite() { rwHeld.Lock() }

//go:noinline
func stateWaitGroup() { wg.Wait() }

//go:noinline
func stateOnce() { once.Do(func() {}) }

//go:noinline
func stateCond() {
	c := sync.NewCond(&sync.Mutex{})
	c.L.Lock()
	c.Wait()
}

//go:noinline
func stateChanReceive() { <-never }

//go:noinline
func stateChanRange() {
	for range never {
	}
}

//go:noinline
func stateChanSend() { full <- 1 }

//go:noinline
func stateNilChanReceive() { <-nilCh }

//go:noinline
func stateNilChanSend() { nilCh <- 1 }

//go:noinline
func stateSelect() {
	select {
	case <-never:
	case full <- 1:
	}
}

//go:noinline
func stateSelectForever() { select {} }

//go:noinline
func stateContext() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	<-ctx.Done()
}

//go:noinline
func stateSleep() { time.Sleep(time.Hour) }

//go:noinline
func stateTimer() { <-time.After(time.Hour) }

//go:noinline
func stateNetAccept(l net.Listener) { _, _ = l.Accept() }

//go:noinline
func stateNetRead(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }

//go:noinline
func stateNetWrite(c net.Conn) {
	for b := make([]byte, 1<<20); ; {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

//go:noinline
func stateUDPRead(c *net.UDPConn) { _, _, _ = c.ReadFromUDP(make([]byte, 1)) }

//go:noinline
func statePipeRead(r *os.File) { _, _ = r.Read(make([]byte, 1)) }

//go:noinline
func stateSyscall(fd int) { _, _ = syscall.Read(fd, make([]byte, 1)) }

//go:noinline
func stateProcessWait(c *exec.Cmd) { _ = c.Wait() }

//go:noinline
func stateRunning() {
	for {
		sink++
	}
}

//go:noinline
func statePoolAcquire(db *sql.DB) { _, _ = db.Conn(context.Background()) }

//go:noinline
func stateQuery(db *sql.DB) { _, _ = db.Exec("slow") }

//go:noinline
func stateHTTPClient(url string) { _, _ = http.Get(url) }

//go:noinline
func stateLocked() {
	runtime.LockOSThread()
	<-never
}

//go:noinline
func stateLabelled() {
	pprof.Do(context.Background(), pprof.Labels("room", "lobby", "user", `a"nn`), func(context.Context) { <-never })
}

//go:noinline
func twice(f func()) {
	for range 2 {
		go f()
	}
}

type fake struct{ slow bool }

func (f fake) Open(string) (driver.Conn, error)             { return f, nil }
func (f fake) Connect(context.Context) (driver.Conn, error) { return f, nil }
func (f fake) Driver() driver.Driver                        { return f }
func (f fake) Prepare(string) (driver.Stmt, error)          { return nil, io.EOF }
func (f fake) Close() error                                 { return nil }
func (f fake) Begin() (driver.Tx, error)                    { return nil, io.EOF }
func (f fake) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	<-never
	return nil, nil
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	dir := os.Args[1]
	check(os.MkdirAll(dir, 0o755))
	mu.Lock()
	rw.Lock()
	rwHeld.RLock()
	wg.Add(1)
	full <- 0
	go once.Do(func() { <-never })
	time.Sleep(10 * time.Millisecond)
	twice(stateMutex)
	for _, f := range []func(){
		stateRWMutexRead, stateRWMutexWrite, stateWaitGroup, stateOnce, stateCond, stateChanReceive, stateChanRange, stateChanSend,
		stateNilChanReceive, stateNilChanSend, stateSelect, stateSelectForever, stateContext, stateSleep, stateTimer, stateRunning,
		stateLocked, stateLabelled,
	} {
		go f()
	}
	for _, f := range newer {
		go f()
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	read, err := net.Dial("tcp", l.Addr().String())
	check(err)
	write, err := net.Dial("tcp", l.Addr().String())
	check(err)
	for range 2 {
		c, err := l.Accept()
		check(err)
		defer c.Close()
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	go stateNetAccept(l)
	go stateNetRead(read)
	go stateNetWrite(write)
	go stateUDPRead(udp)
	r, w, err := os.Pipe()
	check(err)
	defer w.Close()
	go statePipeRead(r)
	var fds [2]int
	check(syscall.Pipe(fds[:]))
	go stateSyscall(fds[0])
	cmd := exec.Command("sleep", "3600")
	check(cmd.Start())
	defer cmd.Process.Kill()
	go stateProcessWait(cmd)

	db := sql.OpenDB(fake{})
	db.SetMaxOpenConns(1)
	_, err = db.Conn(context.Background())
	check(err)
	go statePoolAcquire(db)
	go stateQuery(sql.OpenDB(fake{}))

	// The handler of the first request waits; the second leaves an idle
	// connection of another client on both sides.
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-never
		}
	}))
	go stateHTTPClient(srv.URL + "/slow")
	res, err := (&http.Client{Transport: &http.Transport{}}).Get(srv.URL)
	check(err)
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()

	wait := 300 * time.Millisecond
	if len(os.Args) > 2 {
		wait, err = time.ParseDuration(os.Args[2])
		check(err)
	}
	time.Sleep(200 * time.Millisecond)
	// Ages count from the end of the collection before the one that first sees the
	// wait.
	runtime.GC()
	runtime.GC()
	time.Sleep(wait)
	for i, name := range []string{"debug0.pprof", "debug1.txt", "debug2.txt"} {
		f, err := os.Create(filepath.Join(dir, name))
		check(err)
		check(pprof.Lookup("goroutine").WriteTo(f, i))
		check(f.Close())
	}
}
