package main

import (
	"bufio"
	"context"
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
	"sync/atomic"
	"syscall"
	"time"
)

type event struct {
	Seq   int64
	Table int
	Kind  string
	Data  string
}

// collector brings the events of all tables into one order.
type collector struct {
	bets  chan event
	moves chan event
	chat  chan event
	out   chan event
	seq   int64
}

func newCollector() *collector {
	return &collector{
		bets:  make(chan event, 32),
		moves: make(chan event, 32),
		chat:  make(chan event, 32),
		out:   make(chan event, 128),
	}
}

func (c *collector) run(ctx context.Context) {
	for {
		var ev event
		select {
		case ev = <-c.bets:
		case ev = <-c.moves:
		case ev = <-c.chat:
		case <-ctx.Done():
			return
		}
		c.seq++
		ev.Seq = c.seq
		select {
		case c.out <- ev:
		case <-ctx.Done():
			return
		}
	}
}

// journal keeps the ordered events on the archive node.
type journal struct {
	nc net.Conn
	br *bufio.Reader
}

func (j *journal) keep(events <-chan event) {
	for ev := range events {
		if err := j.append(ev); err != nil {
			log.Println("journal:", err)
			return
		}
	}
}

func (j *journal) append(ev event) error {
	if _, err := fmt.Fprintf(j.nc, "%d %d %s %s\n", ev.Seq, ev.Table, ev.Kind, ev.Data); err != nil {
		return err
	}
	_, err := j.br.ReadString('\n')
	return err
}

type table struct {
	id     int
	feed   *collector
	rounds atomic.Int64
}

func (t *table) play(ctx context.Context) {
	tick := time.NewTicker(time.Duration(40+t.id%20) * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n := t.rounds.Add(1)
		t.feed.moves <- event{Table: t.id, Kind: "move", Data: fmt.Sprintf("seat=%d", n%6)}
		if n%2 == 0 {
			t.feed.bets <- event{Table: t.id, Kind: "bet", Data: fmt.Sprintf("stake=%d", n%500)}
		}
		if n%9 == 0 {
			t.feed.chat <- event{Table: t.id, Kind: "chat", Data: "gg"}
		}
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		archive()
		return
	}
	runtime.GOMAXPROCS(2)
	serveDebug()
	in, addr := spawn("archive")
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	c := newCollector()
	go c.run(ctx)
	go (&journal{nc: nc, br: bufio.NewReader(nc)}).keep(c.out)
	tables := make([]*table, 60)
	for i := range tables {
		tables[i] = &table{id: i, feed: c}
		go tables[i].play(ctx)
	}
	fmt.Fprintln(in, serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, t := range tables {
			fmt.Fprintln(w, t.id, t.rounds.Load())
		}
	})))
	untilTerminated(in)
}

// archive plays the archive node, which acknowledges a line once it is on disk.
func archive() {
	runtime.GOMAXPROCS(1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ln.Addr())
	go attach()
	c, err := ln.Accept()
	if err != nil {
		log.Fatal(err)
	}
	sc := bufio.NewScanner(c)
	for sc.Scan() {
		time.Sleep(15 * time.Millisecond)
		fmt.Fprintln(c, "ok")
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
