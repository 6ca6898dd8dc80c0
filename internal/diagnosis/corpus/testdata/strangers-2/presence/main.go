package main

import (
	"bufio"
	"encoding/json"
	"errors"
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
	"syscall"
	"time"
)

// store speaks the key-value protocol of the presence cluster.
type store struct {
	mu sync.Mutex
	nc net.Conn
	br *bufio.Reader
	bw *bufio.Writer
}

func dialStore(addr string) (*store, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &store{nc: nc, br: bufio.NewReader(nc), bw: bufio.NewWriter(nc)}, nil
}

// Do sends one command and returns its reply.
func (s *store) Do(args ...string) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.send(args); err != nil {
		return nil, err
	}
	return s.reply()
}

func (s *store) send(args []string) error {
	fmt.Fprintf(s.bw, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(s.bw, "$%d\r\n%s\r\n", len(a), a)
	}
	return s.bw.Flush()
}

func (s *store) reply() (any, error) {
	line, err := s.br.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	switch line[0] {
	case '+':
		return line[1:], nil
	case '-':
		return nil, errors.New(line[1:])
	case ':':
		return strconv.ParseInt(line[1:], 10, 64)
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return nil, err
		}
		buf := make([]byte, n+2)
		if _, err := io.ReadFull(s.br, buf); err != nil {
			return nil, err
		}
		return string(buf[:n]), nil
	case '*':
		n, err := strconv.Atoi(line[1:])
		if err != nil {
			return nil, err
		}
		list := make([]any, n)
		for i := range list {
			if list[i], err = s.reply(); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("unexpected reply %q", line)
}

// roster answers who is online where.
type roster struct{ kv *store }

func (ro *roster) beat(player string) error {
	if _, err := ro.kv.Do("SETEX", "online:"+player, "30", "lobby"); err != nil {
		return err
	}
	_, err := ro.kv.Do("INCR", "beats")
	return err
}

func (ro *roster) friends(player string) ([]any, error) {
	v, err := ro.kv.Do("MGET", "f:"+player+":1", "f:"+player+":2", "f:"+player+":3")
	if err != nil {
		return nil, err
	}
	list, _ := v.([]any)
	return list, nil
}

func (ro *roster) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /beat/{player}", func(w http.ResponseWriter, r *http.Request) {
		if err := ro.beat(r.PathValue("player")); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /friends/{player}", func(w http.ResponseWriter, r *http.Request) {
		list, err := ro.friends(r.PathValue("player"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		json.NewEncoder(w).Encode(list)
	})
	return mux
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
	kv, err := dialStore(addr)
	if err != nil {
		log.Fatal(err)
	}
	ro := &roster{kv: kv}
	fmt.Fprintln(in, serve(ro.routes()))
	untilTerminated(in)
}

// surroundings plays the presence cluster and the players' apps.
func surroundings() {
	runtime.GOMAXPROCS(1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go cluster(c)
		}
	}()
	fmt.Println(ln.Addr())
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
	for i := range 70 {
		go func() {
			for n := 0; ; n++ {
				var res *http.Response
				var err error
				if n%4 == 3 {
					res, err = hc.Get(fmt.Sprintf("%s/friends/p%d", base, i))
				} else {
					res, err = hc.Post(fmt.Sprintf("%s/beat/p%d", base, i), "", nil)
				}
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(40 * time.Millisecond)
			}
		}()
	}
	select {}
}

func cluster(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		head, err := br.ReadString('\n')
		if err != nil {
			return
		}
		n, _ := strconv.Atoi(strings.TrimSpace(head)[1:])
		words := make([]string, n)
		for i := range words {
			br.ReadString('\n')
			w, err := br.ReadString('\n')
			if err != nil {
				return
			}
			words[i] = strings.TrimSpace(w)
		}
		time.Sleep(4 * time.Millisecond)
		switch words[0] {
		case "MGET":
			fmt.Fprintf(c, "*3\r\n$5\r\nlobby\r\n$-1\r\n$4\r\nroom\r\n")
		case "INCR":
			fmt.Fprint(c, ":1\r\n")
		default:
			fmt.Fprint(c, "+OK\r\n")
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
