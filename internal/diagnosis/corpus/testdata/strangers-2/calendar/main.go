package main

import (
	"bufio"
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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// calendar rings the tournaments of the coming days.
type calendar struct {
	mu     sync.Mutex
	events map[int]*tournament
	log    *ledger
}

type tournament struct {
	id    int
	start time.Time
	ring  *time.Timer
}

func (c *calendar) plan(id int, in time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.events[id]; ok {
		t.ring.Reset(in)
		t.start = time.Now().Add(in)
		return
	}
	c.events[id] = &tournament{id: id, start: time.Now().Add(in), ring: time.AfterFunc(in, func() { c.begin(id) })}
}

func (c *calendar) begin(id int) {
	c.mu.Lock()
	delete(c.events, id)
	c.mu.Unlock()
	c.log.add(id, 0)
}

// ledger sums sign-ups per tournament: a tail of single records over a base.
type ledger struct {
	mu   sync.Mutex
	tail []signup
	base map[int]int
}

type signup struct {
	tournament, player int
	note               string
}

func (l *ledger) add(tournament, player int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, signup{tournament, player, fmt.Sprintf("t%d/p%d", tournament, player)})
}

// compact folds the tail into the base.
func (l *ledger) compact() int {
	l.mu.Lock()
	tail := l.tail
	l.tail = make([]signup, 0, len(tail))
	l.mu.Unlock()
	sums := make(map[int]int, 1024)
	for _, s := range tail {
		sums[s.tournament]++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, n := range sums {
		l.base[id] += n
	}
	return len(tail)
}

func (l *ledger) keepCompact() {
	for range time.Tick(3 * time.Second) {
		l.compact()
	}
}

func (c *calendar) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /signup/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.PathValue("id"))
		player, _ := strconv.Atoi(r.FormValue("player"))
		for i := range 60 {
			c.log.add(id, player+i)
		}
	})
	mux.HandleFunc("POST /move/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.PathValue("id"))
		c.plan(id, time.Duration(6+id%60)*time.Hour)
	})
	return mux
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		players()
		return
	}
	runtime.GOMAXPROCS(2)
	serveDebug()
	c := &calendar{events: map[int]*tournament{}, log: &ledger{base: map[int]int{}}}
	for id := range 6000 {
		c.plan(id, time.Duration(6+id%60)*time.Hour)
	}
	go c.log.keepCompact()
	in, _ := spawn("players")
	fmt.Fprintln(in, serve(c.routes()))
	untilTerminated(in)
}

func players() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for range 10 {
		go func() {
			for {
				path := fmt.Sprintf("/signup/%d?player=%d", rand.IntN(6000), rand.IntN(90_000))
				if rand.IntN(20) == 0 {
					path = fmt.Sprintf("/move/%d", rand.IntN(6000))
				}
				if res, err := hc.Post(base+path, "", nil); err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(25 * time.Millisecond)
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
