package main

import (
	"bufio"
	"bytes"
	"container/list"
	"context"
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

type item struct {
	id   int
	body []byte
}

// shelf keeps the items used last, up to a number of bytes.
type shelf struct {
	mu     sync.Mutex
	limit  int
	used   int
	byID   map[int]*list.Element
	recent *list.List
	hits   int64
	misses int64
}

func newShelf(limit int) *shelf {
	return &shelf{limit: limit, byID: map[int]*list.Element{}, recent: list.New()}
}

func (s *shelf) get(id int) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	el, ok := s.byID[id]
	if !ok {
		s.misses++
		return nil, false
	}
	s.hits++
	s.recent.MoveToFront(el)
	return el.Value.(*item).body, true
}

func (s *shelf) put(id int, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.byID[id]; ok {
		return
	}
	s.byID[id] = s.recent.PushFront(&item{id, body})
	s.used += len(body)
	for s.used > s.limit {
		last := s.recent.Back()
		it := s.recent.Remove(last).(*item)
		delete(s.byID, it.id)
		s.used -= len(it.body)
	}
}

// catalog reads items from the item service.
type catalog struct {
	base string
	hc   *http.Client
}

func (c *catalog) load(ctx context.Context, id int) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/%d", c.base, id), nil)
	if err != nil {
		return nil, err
	}
	res, err := c.hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body := make([]byte, res.ContentLength)
	_, err = io.ReadFull(res.Body, body)
	return body, err
}

type shop struct {
	shelf   *shelf
	catalog *catalog
}

func (s *shop) handleItem(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	body, ok := s.shelf.get(id)
	if !ok {
		var err error
		if body, err = s.catalog.load(r.Context(), id); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		s.shelf.put(id, body)
	}
	w.Write(body)
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
	s := &shop{shelf: newShelf(64 << 20), catalog: &catalog{base: "http://" + addr, hc: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}}
	// Warm start from the last snapshot, so that the first players do not wait.
	for id := 45_000; id >= 0; id-- {
		s.shelf.put(id, bytes.Repeat([]byte{byte(id)}, 1200+id%800))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /item/{id}", s.handleItem)
	mux.HandleFunc("GET /shelf", func(w http.ResponseWriter, r *http.Request) {
		s.shelf.mu.Lock()
		defer s.shelf.mu.Unlock()
		fmt.Fprintln(w, len(s.shelf.byID), s.shelf.used, s.shelf.hits, s.shelf.misses)
	})
	fmt.Fprintln(in, serve(mux))
	untilTerminated(in)
}

// surroundings plays the item service and the players' shops.
func surroundings() {
	runtime.GOMAXPROCS(1)
	addr := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.URL.Path[1:])
		time.Sleep(3 * time.Millisecond)
		w.Header().Set("Content-Length", strconv.Itoa(1200+id%800))
		w.Write(make([]byte, 1200+id%800))
	}))
	fmt.Println(strings.TrimPrefix(addr, "http://"))
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for i := range 12 {
		go func() {
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			z := rand.NewZipf(rng, 1.2, 40, 120_000)
			for {
				if res, err := hc.Get(fmt.Sprintf("%s/item/%d", base, z.Uint64())); err == nil {
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
