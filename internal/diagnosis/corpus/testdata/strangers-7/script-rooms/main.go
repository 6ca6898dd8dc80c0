// Command script-rooms runs each room's script and records what it says.
package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Event struct {
	Room  int
	Seq   int
	Kind  string
	State []byte
}

// Recorder writes the events of all rooms, in order.
type Recorder struct {
	in      chan Event
	written atomic.Int64
	zw      *gzip.Writer
}

func newRecorder(w io.Writer) *Recorder {
	return &Recorder{in: make(chan Event, 8), zw: gzip.NewWriter(w)}
}

func (r *Recorder) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.in:
			r.write(e)
		}
	}
}

func (r *Recorder) write(e Event) {
	fmt.Fprintf(r.zw, "%d %d %s ", e.Room, e.Seq, e.Kind)
	_, _ = r.zw.Write(e.State)
	_ = r.zw.Flush()
	time.Sleep(2 * time.Millisecond) // the volume acknowledges each record
	r.written.Add(1)
}

func (r *Recorder) Publish(ctx context.Context, e Event) error {
	select { // want: channel-backpressure
	case r.in <- e: // want: channel-backpressure
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// VM is the interpreter of a room; it may only be called from one thread.
type VM struct {
	regs [64]int64
	pc   int
}

func (v *VM) Step(n int) {
	for range n {
		i := v.pc & 63
		v.regs[i] = v.regs[(i+7)&63]*31 + int64(v.pc)
		v.pc++
	}
}

type Room struct {
	id  int
	rec *Recorder
	vm  VM
}

func (r *Room) Run(ctx context.Context) {
	runtime.LockOSThread() // want: thread-explosion
	defer runtime.UnlockOSThread()
	beat := time.NewTicker(60 * time.Millisecond)
	defer beat.Stop()
	for seq := 0; ; seq++ {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			r.vm.Step(400)
			e := Event{Room: r.id, Seq: seq, Kind: "tick", State: strconv.AppendInt(nil, r.vm.regs[seq&63], 36)}
			if r.rec.Publish(ctx, e) != nil {
				return
			}
		}
	}
}

func main() {
	ctx, _, done := start()
	defer done()
	rec := newRecorder(io.Discard)
	go rec.run(ctx)
	for i := range 260 {
		r := &Room{id: i, rec: rec}
		go r.Run(ctx) // want: thread-explosion
	}
	<-ctx.Done()
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
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
	return ctx, a, func() { a.Close(); stop() }
}
