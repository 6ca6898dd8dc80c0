package main

import (
	"bufio"
	"bytes"
	"errors"
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
	"strings"
	"sync"
	"syscall"
	"time"
)

// guard turns away messages that are nearly the same as recent ones.
type guard struct {
	mu     sync.Mutex
	recent [][]rune
	next   int
}

func (g *guard) admit(text string) bool {
	msg := []rune(strings.ToLower(text))
	g.mu.Lock()
	past := slices.Clone(g.recent)
	g.mu.Unlock()
	for _, old := range past {
		if edits(msg, old) < len(msg)/5 {
			return false
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.recent) < 96 {
		g.recent = append(g.recent, msg)
	} else {
		g.recent[g.next] = msg
		g.next = (g.next + 1) % len(g.recent)
	}
	return true
}

// edits is the number of single-rune changes between a and b.
func edits(a, b []rune) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		diag := row[0]
		row[0] = i + 1
		for j, y := range b {
			cost := diag
			if x != y {
				cost = 1 + min(diag, row[j], row[j+1])
			}
			diag, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// portraits remembers the header of each uploaded portrait, for the CDN's
// content negotiation.
type portraits struct {
	mu      sync.Mutex
	headers map[string][]byte
}

func (p *portraits) accept(player string, r io.Reader, size int64) error {
	img := make([]byte, size)
	if _, err := io.ReadFull(r, img); err != nil {
		return err
	}
	if !bytes.HasPrefix(img, []byte("\x89PNG")) {
		return errors.New("not a png")
	}
	p.mu.Lock()
	p.headers[player] = img[:64]
	p.mu.Unlock()
	return nil
}

func (p *portraits) header(player string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.headers[player]
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		players()
		return
	}
	runtime.GOMAXPROCS(2)
	serveDebug()
	g := &guard{}
	p := &portraits{headers: map[string][]byte{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /say", func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(io.LimitReader(r.Body, 500))
		if !g.admit(string(text)) {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	mux.HandleFunc("PUT /portrait/{player}", func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 64 || r.ContentLength > 1<<20 {
			http.Error(w, "size", http.StatusRequestEntityTooLarge)
			return
		}
		if err := p.accept(r.PathValue("player"), r.Body, r.ContentLength); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /portrait/{player}", func(w http.ResponseWriter, r *http.Request) {
		w.Write(p.header(r.PathValue("player")))
	})
	in, _ := spawn("players")
	fmt.Fprintln(in, serve(mux))
	untilTerminated(in)
}

func players() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	call := func(method, path string, body []byte) {
		req, _ := http.NewRequest(method, base+path, bytes.NewReader(body))
		if res, err := hc.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	words := strings.Fields("banker player tie dragon tiger lucky table again please dealer shuffle bonus jackpot sit out next round see you there friend")
	for range 24 {
		go func() {
			for {
				var b strings.Builder
				for b.Len() < 90 {
					fmt.Fprintf(&b, "%s%d ", words[rand.IntN(len(words))], rand.IntN(100))
				}
				call("POST", "/say", []byte(b.String()))
				time.Sleep(40 * time.Millisecond)
			}
		}()
	}
	img := make([]byte, 40<<10)
	copy(img, "\x89PNG\r\n")
	n := 0
	for range time.Tick(25 * time.Millisecond) {
		n++
		call("PUT", fmt.Sprintf("/portrait/p%d", n), img)
		if n%5 == 0 {
			call("GET", fmt.Sprintf("/portrait/p%d", n/2), nil)
		}
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
