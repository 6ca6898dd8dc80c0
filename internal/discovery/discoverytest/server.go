package discoverytest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Server is an HTTP server on loopback that can be killed, as a process is, and
// started again at its address.
type Server struct {
	// Address is host:port; URL is http:// before it.
	Address, URL string

	handler http.Handler
	stop    func()
}

// StartServer serves handler until the test ends.
func StartServer(t testing.TB, handler http.Handler) *Server {
	t.Helper()
	s := &Server{handler: handler}
	ln := listen(t, "127.0.0.1:0")
	s.Address = ln.Addr().String()
	s.URL = "http://" + s.Address
	s.serve(ln)
	t.Cleanup(func() { s.Kill(t) })
	return s
}

// Start starts it again.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.serve(listen(t, s.Address))
}

func (s *Server) serve(ln net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	var open sync.WaitGroup
	server := &http.Server{Handler: s.handler, ReadHeaderTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Done()
			}
		}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	s.stop = func() {
		cancel() // requests that are held end
		// The port first, or a client that comes back at once is let in again. What
		// came in meanwhile is known only once nothing is let in any more.
		_ = server.Close()
		<-served
		_ = server.Close()
		open.Wait()
	}
}

// Kill closes the port, cuts every connection and waits until nobody is served.
func (s *Server) Kill(testing.TB) {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// listen waits for a port that someone else was given while nobody listened on it.
func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		ln, err := net.Listen("tcp", address)
		if err == nil {
			return ln
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
