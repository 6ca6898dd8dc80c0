package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// announcement is one message to everybody in the lobby, with the state of the tables.
type announcement struct {
	Seq    int      `json:"seq"`
	Text   string   `json:"text"`
	Tables []string `json:"tables"`
}

type client struct {
	conn *websocket.Conn
	send chan []byte
}

func (c *client) writeLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-c.send:
			if err := c.conn.Write(ctx, websocket.MessageText, msg); err != nil {
				return
			}
		}
	}
}

type hub struct {
	in chan []byte

	mu      sync.RWMutex
	members []*client
}

func newHub() *hub { return &hub{in: make(chan []byte, 32)} }

func (h *hub) join(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members = append(h.members, c)
}

func (h *hub) snapshot() []*client {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return append([]*client(nil), h.members...)
}

func (h *hub) run() {
	for msg := range h.in {
		for _, c := range h.snapshot() {
			c.send <- msg // want: channel-backpressure
		}
	}
}

func (h *hub) attach(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return
	}
	c := &client{conn: conn, send: make(chan []byte, 16)}
	ctx := conn.CloseRead(context.Background())
	h.join(c)
	c.writeLoop(ctx)
}

func (h *hub) announce(w http.ResponseWriter, r *http.Request) {
	msg, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case h.in <- msg:
		w.WriteHeader(http.StatusAccepted)
	case <-r.Context().Done():
	}
}

// player is a phone on the other side; mobile networks differ.
func player(url string, pause time.Duration) {
	dialer := &net.Dialer{}
	hc := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if tc, ok := conn.(*net.TCPConn); ok {
			_ = tc.SetReadBuffer(16 << 10)
		}
		return conn, err
	}}}
	conn, _, err := websocket.Dial(context.Background(), url, &websocket.DialOptions{HTTPClient: hc})
	if err != nil {
		log.Print(err)
		return
	}
	conn.SetReadLimit(1 << 20)
	for {
		if _, _, err := conn.Read(context.Background()); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

func backOffice(url string, operators int) {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: operators}}
	tables := strings.Split(strings.Repeat("baccarat-07:open,", 1500), ",")
	for range operators {
		go func() {
			for seq := 0; ; seq++ {
				body, _ := json.Marshal(announcement{Seq: seq, Text: "jackpot raised", Tables: tables})
				if resp, err := hc.Post(url, "application/json", bytes.NewReader(body)); err == nil {
					_ = resp.Body.Close()
				}
				time.Sleep(400 * time.Millisecond)
			}
		}()
	}
}

func main() {
	h := newHub()
	go h.run()
	mux := http.NewServeMux()
	mux.HandleFunc("/lobby", h.attach)
	mux.HandleFunc("/announce", h.announce)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: mux, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		if tc, ok := c.(*net.TCPConn); ok {
			_ = tc.SetWriteBuffer(32 << 10)
		}
		return ctx
	}}
	go func() { log.Fatal(srv.Serve(ln)) }()
	base := ln.Addr().String()
	for i := range 60 {
		pause := time.Millisecond
		if i%20 == 7 {
			pause = 350 * time.Millisecond
		}
		go player("ws://"+base+"/lobby", pause)
	}
	backOffice("http://"+base+"/announce", 40)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
