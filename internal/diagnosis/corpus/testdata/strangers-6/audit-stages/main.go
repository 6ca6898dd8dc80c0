// Command audit-stages passes game events through stages to the compliance
// archive.
package main

import (
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/agent"
)

type Event struct {
	Seq    uint64
	Player string
	Action string
}

type Filing struct {
	XMLName xml.Name `xml:"filing"`
	Seq     uint64   `xml:"seq,attr"`
	Player  string   `xml:"player"`
	Action  string   `xml:"action"`
}

// Stage turns what comes in into what the next stage gets.
type Stage[I, O any] struct {
	name string
	in   chan I
	work func(context.Context, I) (O, error)
	next func(context.Context, O) error
	done atomic.Int64
}

func NewStage[I, O any](name string, depth int, work func(context.Context, I) (O, error), next func(context.Context, O) error) *Stage[I, O] {
	return &Stage[I, O]{name: name, in: make(chan I, depth), work: work, next: next}
}

// Push hands an item to the stage.
func (s *Stage[I, O]) Push(ctx context.Context, v I) error {
	select {
	case s.in <- v: // want: channel-backpressure
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Stage[I, O]) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case v := <-s.in:
			o, err := s.work(ctx, v) // want: channel-backpressure
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.done.Add(1)
			if err := s.next(ctx, o); err != nil { // want: channel-backpressure
				return err
			}
		}
	}
}

// archive files over a connection and waits for each receipt.
type archive struct {
	conn net.Conn
	r    *bufio.Reader
}

func (a *archive) File(_ context.Context, doc []byte) (string, error) {
	if _, err := a.conn.Write(append(doc, '\n')); err != nil {
		return "", err
	}
	return a.r.ReadString('\n') // want: channel-backpressure
}

func archiveServer(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for sc := bufio.NewScanner(c); sc.Scan(); {
				time.Sleep(15 * time.Millisecond)
				fmt.Fprintf(c, "ok %d\n", len(sc.Bytes()))
			}
		}()
	}
}

type Table struct {
	audit func(context.Context, Event) error
	name  string
	seq   *atomic.Uint64
	lag   atomic.Int64
}

func (t *Table) act(ctx context.Context, action string) error {
	start := time.Now()
	err := t.audit(ctx, Event{Seq: t.seq.Add(1), Player: t.name, Action: action}) // want: channel-backpressure
	t.lag.Store(int64(time.Since(start)))
	return err
}

func (t *Table) Run(ctx context.Context) error {
	for {
		for _, action := range []string{"deal", "bet", "settle"} {
			if err := t.act(ctx, action); err != nil {
				return err
			}
			time.Sleep(time.Duration(5+rand.IntN(15)) * time.Millisecond)
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go archiveServer(ln)
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	arc := &archive{conn: conn, r: bufio.NewReader(conn)}

	file := NewStage("file", 32, arc.File, func(context.Context, string) error { return nil })
	encode := NewStage("encode", 32, func(_ context.Context, f Filing) ([]byte, error) { return xml.Marshal(f) }, file.Push)
	enrich := NewStage("enrich", 64, func(_ context.Context, e Event) (Filing, error) {
		return Filing{Seq: e.Seq, Player: e.Player, Action: e.Action}, nil
	}, encode.Push)

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return file.Run(gctx) })
	g.Go(func() error { return encode.Run(gctx) })
	g.Go(func() error { return enrich.Run(gctx) })
	seq := new(atomic.Uint64)
	for i := range 60 {
		t := &Table{audit: enrich.Push, name: fmt.Sprintf("table-%d", i), seq: seq}
		g.Go(func() error { return t.Run(gctx) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}
