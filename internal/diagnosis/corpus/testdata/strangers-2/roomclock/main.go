package main

import (
	"bufio"
	"bytes"
	"encoding/json"
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

type move struct {
	Seat int       `json:"seat"`
	Card int       `json:"card"`
	Note string    `json:"note"`
	Path [12]int64 `json:"path"`
}

const idleAfter = 40 * time.Minute

// room is one card table. It is closed for want of players after idleAfter.
type room struct {
	id    int64
	mu    sync.Mutex
	last  move
	moves int
	idle  *time.Timer
	gone  func(*room, move)
}

// play applies mv and pushes the room's idle deadline out.
func (r *room) play(mv move) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moves++
	r.last = mv
	r.idle = time.AfterFunc(idleAfter, func() { r.expire(mv) })
}

// expire closes the room unless somebody has played since mv.
func (r *room) expire(mv move) {
	r.mu.Lock()
	same := r.last == mv
	r.mu.Unlock()
	if same {
		r.gone(r, mv)
	}
}

func (r *room) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idle != nil {
		r.idle.Stop()
	}
}

type floor struct {
	mu    sync.Mutex
	rooms map[int64]*room
}

func (f *floor) room(id int64) *room {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.rooms[id]
	if !ok {
		r = &room{id: id, gone: func(r *room, _ move) { f.drop(r.id) }}
		f.rooms[id] = r
	}
	return r
}

func (f *floor) drop(id int64) {
	f.mu.Lock()
	r, ok := f.rooms[id]
	delete(f.rooms, id)
	f.mu.Unlock()
	if ok {
		r.close()
	}
}

func (f *floor) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /room/{id}/moves", func(w http.ResponseWriter, req *http.Request) {
		id, _ := strconv.ParseInt(req.PathValue("id"), 10, 64)
		var batch []move
		if err := json.NewDecoder(req.Body).Decode(&batch); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r := f.room(id)
		for _, mv := range batch {
			r.play(mv)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /room/{id}", func(w http.ResponseWriter, req *http.Request) {
		id, _ := strconv.ParseInt(req.PathValue("id"), 10, 64)
		f.drop(id)
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
	f := &floor{rooms: map[int64]*room{}}
	in, _ := spawn("players")
	fmt.Fprintln(in, serve(f.routes()))
	untilTerminated(in)
}

// players play rooms of 200 moves, 20 moves to a request, and then leave.
func players() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	do := func(method, path string, body []byte) {
		req, _ := http.NewRequest(method, base+path, bytes.NewReader(body))
		if res, err := hc.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	var ids atomic.Int64
	for range 20 {
		go func() {
			for {
				id := ids.Add(1)
				for n := range 10 {
					batch := make([]move, 20)
					for i := range batch {
						batch[i] = move{Seat: i % 4, Card: n*20 + i, Note: "tap"}
						batch[i].Path[i%12] = id
					}
					b, _ := json.Marshal(batch)
					do("POST", fmt.Sprintf("/room/%d/moves", id), b)
					time.Sleep(120 * time.Millisecond)
				}
				do("DELETE", fmt.Sprintf("/room/%d", id), nil)
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
