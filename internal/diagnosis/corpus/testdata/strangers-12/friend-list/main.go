// Command friend-list shows which friends are online and proxies avatars.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"time"
)

// respConn speaks the little of RESP that presence needs.
type respConn struct {
	c net.Conn
	r *bufio.Reader
}

func (rc *respConn) get(key string) (string, error) {
	if _, err := fmt.Fprintf(rc.c, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key); err != nil {
		return "", err
	}
	line, err := rc.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "+") {
		return "", errors.Join(err, errors.New("presence: bad reply"))
	}
	return strings.TrimSpace(line[1:]), nil
}

type Presence struct {
	addr string
	idle chan *respConn
}

func (p *Presence) with(fn func(*respConn) error) error {
	var rc *respConn
	select {
	case rc = <-p.idle:
	default:
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			return err
		}
		rc = &respConn{c: c, r: bufio.NewReaderSize(c, 512)}
	}
	if err := fn(rc); err != nil {
		rc.c.Close()
		return err
	}
	select {
	case p.idle <- rc:
	default:
		rc.c.Close()
	}
	return nil
}

func (p *Presence) Online(player string, friends int) (online []string, err error) {
	err = p.with(func(rc *respConn) error {
		for i := range friends {
			st, err := rc.get(fmt.Sprintf("presence:%s:%d", player, i)) // want: downstream-wait
			if err != nil {
				return err
			}
			if st == "online" {
				online = append(online, fmt.Sprint(i))
			}
		}
		return nil
	})
	return online, err
}

type Avatars struct {
	cl  *http.Client
	cdn string
}

func (a *Avatars) Fetch(id string) ([]byte, error) {
	for attempt := range 3 {
		resp, err := a.cl.Get(a.cdn + "/" + id) // want: response-body-leak
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusServiceUnavailable {
			time.Sleep(time.Duration(5<<attempt) * time.Millisecond)
			continue // want: response-body-leak
		}
		defer resp.Body.Close()
		return io.ReadAll(resp.Body)
	}
	return nil, errors.New("avatar: cdn unavailable")
}

func presenceStore(rtt time.Duration) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			go func() {
				defer c.Close()
				buf := make([]byte, 512)
				for _, err := c.Read(buf); err == nil; _, err = c.Read(buf) {
					time.Sleep(rtt)
					io.WriteString(c, "+online\r\n")
				}
			}()
		}
	}()
	return ln.Addr().String()
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func reply(w http.ResponseWriter, body []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_, _ = w.Write(body)
}

func fetch(url string) {
	resp, err := http.Get(url)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}

func main() {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 32
	cdn := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rand.IntN(3) == 0 {
			http.Error(w, strings.Repeat("shield overloaded ", 20), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(make([]byte, 2048))
	}))
	p := &Presence{addr: presenceStore(7 * time.Millisecond), idle: make(chan *respConn, 64)}
	a := &Avatars{cl: &http.Client{Timeout: 10 * time.Minute}, cdn: cdn}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /friends/{player}", func(w http.ResponseWriter, r *http.Request) {
		on, err := p.Online(r.PathValue("player"), 80)
		reply(w, []byte(strings.Join(on, ",")), err)
	})
	mux.HandleFunc("GET /avatar/{id}", func(w http.ResponseWriter, r *http.Request) {
		img, err := a.Fetch(r.PathValue("id"))
		reply(w, img, err)
	})
	base := serve(mux)
	for i := range 25 {
		go func() {
			for ; ; time.Sleep(100 * time.Millisecond) {
				fetch(fmt.Sprintf("%s/friends/p%d", base, i))
			}
		}()
	}
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	for range time.Tick(40 * time.Millisecond) {
		fetch(base + "/avatar/77")
	}
}
