// Package stage is what the programs of the corpus stand on: the pprof server,
// the agent, child processes for downstreams and users, and an end on SIGTERM.
// It knows nothing of faults, and none of its code is on the path of one.
package stage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// Stage is a running program. One goroutine uses it.
type Stage struct {
	// Agent is the program's agent, nil where OPS_AGENT is "off".
	Agent *agent.Agent

	ctx      context.Context
	stop     context.CancelFunc
	children []*child
}

// Start begins a program: it parses -addr,
// serves net/http/pprof there, starts the agent, and says where pprof is on
// standard output. The service is named OPS_SERVICE, else as the program is. In a child process it does the child's work instead and does
// not return.
func Start() *Stage {
	addr := flag.String("addr", os.Getenv("PPROF_ADDR"), "host:port to serve net/http/pprof on (empty = any free port of loopback)")
	flag.Parse()
	runCrowd()

	s := &Stage{}
	s.ctx, s.stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if *addr == "" {
		*addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", *addr)
	must(err)
	s.Agent, err = agent.Start(agent.Config{})
	must(err)
	go servePprof(l)
	fmt.Printf("pprof http://%s/debug/pprof\n", l.Addr())
	return s
}

func servePprof(l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	must(server.Serve(l))
}

// Context ends when the program is asked to end.
func (s *Stage) Context() context.Context { return s.ctx }

// Serve serves a handler on a free port of loopback until the program ends, and
// returns its URL.
func (s *Stage) Serve(h http.Handler) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() {
		server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		must(server.Serve(l))
	}()
	return "http://" + l.Addr().String()
}

// Wait returns when the program has been asked to end and its children and its
// agent are gone. What the program itself started ends with it: some of it is
// stuck for ever by design.
func (s *Stage) Wait() {
	<-s.ctx.Done()
	s.stop()
	for _, c := range s.children {
		c.end()
	}
	_ = s.Agent.Close() // the process ends now either way
}

func must(err error) {
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
