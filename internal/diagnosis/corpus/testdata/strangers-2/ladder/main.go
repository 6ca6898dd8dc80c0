package main

import (
	"bufio"
	"cmp"
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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type rating struct {
	Player int32 `json:"player"`
	Points int32 `json:"points"`
}

// ladder is the season ranking.
type ladder struct {
	mu     sync.RWMutex
	points map[int32]int32
	order  sync.Pool
}

func newLadder(n int) *ladder {
	l := &ladder{points: make(map[int32]int32, n)}
	l.order.New = func() any { s := make([]rating, 0, n+n/8); return &s }
	for i := range n {
		l.points[int32(i)] = rand.Int32N(100_000)
	}
	return l
}

// win adds points to a player.
func (l *ladder) win(player, points int32) int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.points[player] += points
	return l.points[player]
}

// standing returns the points of one player.
func (l *ladder) standing(player int32) int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.points[player]
}

// best returns the first k of the ranking.
func (l *ladder) best(k int) []rating {
	buf := l.order.Get().(*[]rating)
	defer l.order.Put(buf)
	all := (*buf)[:0]

	l.mu.RLock()
	defer l.mu.RUnlock()
	for p, pts := range l.points {
		all = append(all, rating{p, pts})
	}
	slices.SortFunc(all, func(a, b rating) int { return cmp.Compare(b.Points, a.Points) })
	return slices.Clone(all[:min(k, len(all))])
}

func (l *ladder) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /win/{player}", func(w http.ResponseWriter, r *http.Request) {
		p, _ := strconv.Atoi(r.PathValue("player"))
		fmt.Fprint(w, l.win(int32(p), 3))
	})
	mux.HandleFunc("GET /standing/{player}", func(w http.ResponseWriter, r *http.Request) {
		p, _ := strconv.Atoi(r.PathValue("player"))
		fmt.Fprint(w, l.standing(int32(p)))
	})
	mux.HandleFunc("GET /best", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(l.best(100))
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
	l := newLadder(120_000)
	in, _ := spawn("players")
	fmt.Fprintln(in, serve(l.routes()))
	untilTerminated(in)
}

func players() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
	call := func(method, path string) {
		req, _ := http.NewRequest(method, base+path, nil)
		if res, err := hc.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	for range 2 {
		go func() {
			for {
				call("GET", "/best")
				time.Sleep(45 * time.Millisecond)
			}
		}()
	}
	for i := range 64 {
		go func() {
			for n := 0; ; n++ {
				if n%2 == 0 {
					call("POST", fmt.Sprintf("/win/%d", i*1000+n%1000))
				} else {
					call("GET", fmt.Sprintf("/standing/%d", i*1000+n%1000))
				}
				time.Sleep(10 * time.Millisecond)
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
