package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
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
	"sync/atomic"
	"syscall"
	"time"
)

// match is one running game that people can watch.
type match struct {
	id    int64
	mu    sync.Mutex
	turn  *sync.Cond
	frame int
	board [64]byte
	over  bool
}

func newMatch(id int64) *match {
	m := &match{id: id}
	m.turn = sync.NewCond(&m.mu)
	return m
}

// advance publishes the next frame to everyone watching.
func (m *match) advance() {
	m.mu.Lock()
	m.frame++
	m.board[m.frame%len(m.board)]++
	m.mu.Unlock()
	m.turn.Broadcast()
}

// finish ends the match.
func (m *match) finish() {
	m.mu.Lock()
	m.over = true
	m.mu.Unlock()
}

type viewer struct {
	name  string
	shown [64]byte
	seen  int
}

// follow shows every frame of m to v until the match is over.
func (m *match) follow(v *viewer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for !m.over {
		if m.frame == v.seen {
			m.turn.Wait()
			continue
		}
		v.seen = m.frame
		v.shown = m.board
	}
}

// hall knows the matches in play.
type hall struct {
	mu      sync.Mutex
	live    map[int64]*match
	matches atomic.Int64
	viewers atomic.Int64
}

func (h *hall) open() *match {
	m := newMatch(h.matches.Add(1))
	h.mu.Lock()
	h.live[m.id] = m
	h.mu.Unlock()
	return m
}

func (h *hall) watch(id int64) bool {
	h.mu.Lock()
	m, ok := h.live[id]
	h.mu.Unlock()
	if ok {
		v := &viewer{name: fmt.Sprintf("v%d", h.viewers.Add(1))}
		go m.follow(v)
	}
	return ok
}

// run plays m to its end, a frame every 100 ms.
func (h *hall) run(m *match) {
	for range 15 {
		time.Sleep(100 * time.Millisecond)
		m.advance()
	}
	h.mu.Lock()
	delete(h.live, m.id)
	h.mu.Unlock()
	// The final board stays up for a moment.
	time.Sleep(300 * time.Millisecond)
	m.finish()
}

func (h *hall) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /match", func(w http.ResponseWriter, r *http.Request) {
		m := h.open()
		go h.run(m)
		fmt.Fprint(w, m.id)
	})
	mux.HandleFunc("POST /watch/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if !h.watch(id) {
			http.NotFound(w, r)
		}
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
	h := &hall{live: map[int64]*match{}}
	in, _ := spawn("players")
	fmt.Fprintln(in, serve(h.routes()))
	untilTerminated(in)
}

func players() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	post := func(path string) string {
		res, err := hc.Post(base+path, "", nil)
		if err != nil {
			return ""
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return string(b)
	}
	for range time.Tick(50 * time.Millisecond) {
		go func() {
			id := post("/match")
			for range 8 {
				post("/watch/" + id)
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
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
