package main

import (
	"bufio"
	"context"
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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

type Peer struct {
	id     int64
	conn   *websocket.Conn
	outbox chan []byte
	gone   chan struct{}
	once   sync.Once
}

func (p *Peer) leave() {
	p.once.Do(func() {
		close(p.gone)
		p.conn.Close()
	})
}

func (p *Peer) writeLoop() {
	defer p.leave()
	for {
		select {
		case frame := <-p.outbox:
			if err := p.conn.WriteMessage(websocket.TextMessage, frame); err != nil {
				return
			}
		case <-p.gone:
			return
		}
	}
}

func (p *Peer) readLoop() {
	defer p.leave()
	for {
		if _, _, err := p.conn.ReadMessage(); err != nil {
			return
		}
	}
}

type Lobby struct {
	mu    sync.Mutex
	peers map[int64]*Peer
	seq   atomic.Int64
}

func (l *Lobby) join(conn *websocket.Conn) {
	p := &Peer{id: l.seq.Add(1), conn: conn, outbox: make(chan []byte, 16), gone: make(chan struct{})}
	l.mu.Lock()
	l.peers[p.id] = p
	l.mu.Unlock()
	go p.writeLoop()
	go func() {
		p.readLoop()
		l.mu.Lock()
		delete(l.peers, p.id)
		l.mu.Unlock()
	}()
}

func (l *Lobby) present() []*Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*Peer, 0, len(l.peers))
	for _, p := range l.peers {
		out = append(out, p)
	}
	return out
}

// Announce delivers one frame to everybody in the lobby.
func (l *Lobby) Announce(frame []byte) {
	for _, p := range l.present() {
		l.deliver(p, frame)
	}
}

func (l *Lobby) deliver(p *Peer, frame []byte) {
	select {
	case p.outbox <- frame:
	case <-p.gone:
	}
}

// RoomFeed turns the events of one table into lobby announcements.
type RoomFeed struct {
	room  int
	lobby *Lobby
}

func (f *RoomFeed) Run() {
	for n := 0; ; n++ {
		time.Sleep(time.Duration(80+rand.IntN(60)) * time.Millisecond)
		body, _ := json.Marshal(map[string]any{
			"room": f.room, "round": n, "history": strings.Repeat("RGBY", 900),
		})
		f.lobby.Announce(body)
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "players" {
		runPlayers(os.Args[2])
		return
	}
	startDiagnostics()
	lobby := &Lobby{peers: map[int64]*Peer{}}
	up := websocket.Upgrader{WriteBufferSize: 4096}
	mux := http.NewServeMux()
	mux.HandleFunc("/lobby", func(w http.ResponseWriter, r *http.Request) {
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if tc, ok := conn.NetConn().(*net.TCPConn); ok {
			tc.SetWriteBuffer(16 << 10)
		}
		lobby.join(conn)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	if _, err := launch("players", "ws://"+ln.Addr().String()+"/lobby"); err != nil {
		log.Fatal(err)
	}
	for room := range 12 {
		go (&RoomFeed{room: room, lobby: lobby}).Run()
	}
	awaitShutdown()
}

func runPlayers(url string) {
	dialer := websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if tc, ok := c.(*net.TCPConn); ok {
			tc.SetReadBuffer(8 << 10)
		}
		return c, err
	}}
	for i := range 80 {
		c, _, err := dialer.Dial(url, nil)
		if err != nil {
			log.Fatal(err)
		}
		var pause time.Duration
		if i%20 == 7 { // phones on a train
			pause = 400 * time.Millisecond
		}
		go func() {
			for {
				if _, _, err := c.ReadMessage(); err != nil {
					return
				}
				time.Sleep(pause)
			}
		}()
	}
	announce("ready")
	select {}
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}

var children []*exec.Cmd

// launch starts this binary in another role and returns the first line the
// child prints, normally the address it listens on.
func launch(args ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(exe, args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OPS_CENTER") && !strings.HasPrefix(kv, "PPROF_ADDR=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Stderr = os.Stderr
	if _, err = cmd.StdinPipe(); err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	children = append(children, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

// announce tells the parent where we are and ties our lifetime to it.
func announce(line string) {
	fmt.Println(line)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}
