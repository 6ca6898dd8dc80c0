package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type grant struct {
	Player int    `json:"player"`
	Item   string `json:"item"`
	Count  int    `json:"count"`
}

// desk hands grants to the inventory service with a fixed number of clerks.
type desk struct {
	queue chan grant
	inv   string
	hc    *http.Client
	done  atomic.Int64
	fails atomic.Int64
}

func openDesk(inv string, clerks int) *desk {
	d := &desk{
		queue: make(chan grant, 512),
		inv:   inv,
		hc:    &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clerks, MaxConnsPerHost: clerks}},
	}
	for range clerks {
		go d.clerk()
	}
	return d
}

func (d *desk) clerk() {
	for g := range d.queue {
		if err := d.deliver(g); err != nil {
			d.fails.Add(1)
			continue
		}
		d.done.Add(1)
	}
}

func (d *desk) deliver(g grant) error {
	b, err := json.Marshal(g)
	if err != nil {
		return err
	}
	res, err := d.hc.Post(d.inv+"/grant", "application/json", bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

func (d *desk) handleGrant(w http.ResponseWriter, r *http.Request) {
	var g grant
	if err := json.NewDecoder(r.Body).Decode(&g); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case d.queue <- g:
		w.WriteHeader(http.StatusAccepted)
	default:
		http.Error(w, "try again", http.StatusServiceUnavailable)
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		surroundings()
		return
	}
	runtime.GOMAXPROCS(2)
	serveDebug()
	in, addr := spawn("surroundings")
	d := openDesk("http://"+addr, 6)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /grant", d.handleGrant)
	mux.HandleFunc("GET /desk", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "waiting", len(d.queue), "done", d.done.Load(), "failed", d.fails.Load())
	})
	fmt.Fprintln(in, serve(mux))
	untilTerminated(in)
}

// surroundings plays the inventory service (12 ms a grant) and the games.
func surroundings() {
	runtime.GOMAXPROCS(1)
	addr := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(11 * time.Millisecond)
		w.Write([]byte("ok"))
	}))
	fmt.Println(strings.TrimPrefix(addr, "http://"))
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for range 9 {
		go func() {
			for {
				b, _ := json.Marshal(grant{rand.IntN(9000), "ticket", 1 + rand.IntN(3)})
				if res, err := hc.Post(base+"/grant", "application/json", bytes.NewReader(b)); err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(time.Duration(15_000+rand.IntN(8_000)) * time.Microsecond)
			}
		}()
	}
	select {}
}

// spawn starts this binary again in another role and returns its stdin and the
// first line it prints. Closing stdin ends it.
func spawn(role string) (io.WriteCloser, string) {
	exe, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	cmd := exec.Command(exe, role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		log.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	return in, strings.TrimSpace(line)
}

// serve runs the public API on a free port and returns its base URL.
func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, h)
	return "http://" + ln.Addr().String()
}

func serveDebug() {
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
}

func untilTerminated(keep ...io.Closer) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
	for _, c := range keep {
		c.Close()
	}
}

// attach reads the base URL of the service from the parent, and ends this
// process when the parent goes away.
func attach() string {
	sc := bufio.NewScanner(os.Stdin)
	sc.Scan()
	base := sc.Text()
	go func() {
		for sc.Scan() {
		}
		os.Exit(0)
	}()
	return base
}
