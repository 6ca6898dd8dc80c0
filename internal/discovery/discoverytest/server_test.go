package discoverytest

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Clients that come back the moment they are cut, and are then held, do not keep
// a server alive that is killed.
func TestKilledWhileEverybodyComesBack(t *testing.T) {
	s := StartServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/hold", nil)
				if err != nil {
					t.Error(err)
					return
				}
				if resp, err := client.Do(req); err == nil {
					_, _ = resp.Body.Read(make([]byte, 1))
					_ = resp.Body.Close()
				}
			}
		})
	}
	url := s.URL
	for range 20 {
		s.Kill(t)
		s.Start(t)
	}
	cancel()
	clients.Wait()
	transport.CloseIdleConnections()
	if s.URL != url {
		t.Errorf("started at %s, want %s again", s.URL, url)
	}
	resp, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	transport.CloseIdleConnections()
}
