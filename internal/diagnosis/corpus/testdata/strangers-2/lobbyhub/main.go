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
	"strings"
	"sync"
	"syscall"
	"time"
)

// hub passes notices to everyone subscribed to a topic.
type hub struct {
	mu     sync.RWMutex
	topics map[string]map[*subscriber]struct{}
}

type subscriber struct{ inbox chan []byte }

func (h *hub) join(topic string) *subscriber {
	s := &subscriber{inbox: make(chan []byte, 16)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.topics[topic] == nil {
		h.topics[topic] = map[*subscriber]struct{}{}
	}
	h.topics[topic][s] = struct{}{}
	return s
}

func (h *hub) part(topic string, s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.topics[topic], s)
	if len(h.topics[topic]) == 0 {
		delete(h.topics, topic)
	}
}

// publish offers msg to the topic; a subscriber whose inbox is full misses it.
func (h *hub) publish(topic string, msg []byte) (sent int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for s := range h.topics[topic] {
		select {
		case s.inbox <- msg:
			sent++
		default:
		}
	}
	return sent
}

func (h *hub) handleStream(w http.ResponseWriter, r *http.Request) {
	topic := r.PathValue("topic")
	s := h.join(topic)
	defer h.part(topic, s)
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	rc.Flush()
	ping := time.NewTicker(25 * time.Second)
	defer ping.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case msg := <-s.inbox:
			if _, err := fmt.Fprintf(w, "data: %s\n\n", msg); err != nil {
				return
			}
		case <-ping.C:
			if _, err := io.WriteString(w, ": ping\n\n"); err != nil {
				return
			}
		}
		rc.Flush()
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		players()
		return
	}
	runtime.GOMAXPROCS(2)
	serveDebug()
	h := &hub{topics: map[string]map[*subscriber]struct{}{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stream/{topic}", h.handleStream)
	mux.HandleFunc("POST /notice/{topic}", func(w http.ResponseWriter, r *http.Request) {
		msg, _ := io.ReadAll(io.LimitReader(r.Body, 4096))
		fmt.Fprint(w, h.publish(r.PathValue("topic"), msg))
	})
	in, _ := spawn("players")
	fmt.Fprintln(in, serve(mux))
	untilTerminated(in)
}

// players keep 2000 streams open over 100 topics; five notices a second go out.
func players() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	base := attach()
	addr := strings.TrimPrefix(base, "http://")
	for i := range 2000 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintf(c, "GET /stream/room-%d HTTP/1.1\r\nHost: lobby\r\n\r\n", i%100)
		go io.Copy(io.Discard, c)
		if i%50 == 49 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	n := 0
	for range time.Tick(200 * time.Millisecond) {
		n++
		if res, err := http.Post(fmt.Sprintf("%s/notice/room-%d", base, n%100), "", strings.NewReader("new table open")); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
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
