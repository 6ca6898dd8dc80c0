// Package gateway is the gateway-service: it holds the players' WebSockets, a
// session for each, and passes the lobby's announcements on. Who a player is it
// asks the user-service; what is announced it does not know.
package gateway

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/opscenter/opscenter/examples/colorgame/internal/chassis"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
	"github.com/opscenter/opscenter/examples/colorgame/internal/ws"
)

// Config of the service.
type Config struct {
	Users *wire.Client // the user-service
	// Resume says whether a player whose socket broke may come back to the same
	// session, asked at every disconnect. Nil = no.
	Resume func() bool
	// ResumeGrace is how long a session waits for that; 0 = for ever.
	ResumeGrace time.Duration
	// Disputed says whether announcements are kept for disputes, asked at each. Nil = no.
	Disputed func() bool
	// LedgerSeats is how many tickets of 4 KiB are kept of each; 0 = 32.
	LedgerSeats int
}

// maxHeld bounds the sessions that wait to be resumed; beyond it a session ends
// with its socket. It lets the leak of scenario 5 go on for some minutes, to a gigabyte.
const maxHeld = 4000

// Service is the gateway.
type Service struct {
	cfg Config
	hub *ws.Hub

	mu       sync.Mutex         // guards sessions, held, letGo, closing
	sessions map[int64]*Session // by socket
	held     map[int64]*Session // by the socket they had
	letGo    chan struct{}      // closed to end all held sessions
	closing  bool               // no socket is accepted any more

	sockets sync.WaitGroup // connections and held sessions
	ledger  ledger

	lastSocket                          atomic.Int64
	connects, disconnects, resumes, bad atomic.Int64
}

// New makes the service.
func New(cfg Config) *Service {
	if cfg.Resume == nil {
		cfg.Resume = func() bool { return false }
	}
	if cfg.Disputed == nil {
		cfg.Disputed = func() bool { return false }
	}
	cfg.LedgerSeats = cmp.Or(cfg.LedgerSeats, ledgerSeats)
	return &Service{
		cfg:      cfg,
		hub:      ws.NewHub(),
		sessions: map[int64]*Session{},
		held:     map[int64]*Session{},
		letGo:    make(chan struct{}),
	}
}

// Handler implements chassis.Part.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /announce", func(w http.ResponseWriter, r *http.Request) {
		msg, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<10))
		if err != nil {
			http.Error(w, "an announcement has at most 16 KiB", http.StatusRequestEntityTooLarge)
			return
		}
		if s.cfg.Disputed() {
			s.ledger.keep(msg, s.cfg.LedgerSeats)
		}
		if err := s.hub.Announce(msg); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("GET /ws", s.serveSocket)
	return mux
}

func (s *Service) serveSocket(w http.ResponseWriter, r *http.Request) {
	player, err := s.player(r)
	if err != nil {
		s.bad.Add(1)
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	if !s.enter() {
		http.Error(w, "the gateway is shutting down: connect again later", http.StatusServiceUnavailable)
		return
	}
	defer s.sockets.Done()

	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		s.bad.Add(1)
		return // Accept has answered
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	// Players resume with the number of the socket they lost.
	lost, _ := strconv.ParseInt(r.URL.Query().Get("resume"), 10, 64)
	session := s.open(player, lost, cancel)
	s.connects.Add(1)

	var writer sync.WaitGroup
	writer.Go(func() {
		defer cancel() // who was kicked is not read any more
		s.hub.Serve(ctx, &socket{conn: conn, session: session})
	})
	for {
		// Players talk to the game over HTTP; here they only listen. Reading
		// answers pings and notices the end; when ctx ends, it closes the socket.
		if _, _, err := conn.Read(ctx); err != nil {
			break
		}
	}
	cancel()
	s.disconnect(session)
	_ = conn.CloseNow() // a write to a peer that does not read ends here
	writer.Wait()
}

// BurnLedger forgets what was kept for disputes.
func (s *Service) BurnLedger() { s.ledger.burn() }

// Slow returns how many players are at least so many messages behind.
func (s *Service) Slow(behind int) int { return s.hub.Slow(behind) }

// KickSlow closes the sockets of those players, now and for the given time, and
// returns how many it closed now.
func (s *Service) KickSlow(behind int, during time.Duration) int {
	return s.hub.KickSlow(behind, during)
}

// player asks the user-service whose token it is.
func (s *Service) player(r *http.Request) (string, error) {
	var p wire.Profile
	if err := s.cfg.Users.Get(r.Context(), "/me", r.URL.Query().Get("token"), &p); err != nil {
		return "", fmt.Errorf("asking the user-service: %w", err)
	}
	return p.Name, nil
}

// enter counts a socket in, unless the service is ending.
func (s *Service) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.sockets.Add(1)
	return true
}

// Run implements chassis.Part: it ends all sockets when ctx ends.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.closing = true
	for _, session := range s.sessions {
		session.hangUp()
	}
	s.mu.Unlock()
	s.LetGo()
	s.sockets.Wait()
	s.hub.Close()
	s.cfg.Users.Close()
	return nil
}

// Figures implements chassis.Part.
func (s *Service) Figures() chassis.Figures {
	s.mu.Lock()
	open, held := len(s.sessions), len(s.held)
	s.mu.Unlock()
	f := s.hub.Figures()
	f["sessions"] = float64(open)
	f["sessions_held"] = float64(held)
	f["connects_total"] = float64(s.connects.Load())
	f["disconnects_total"] = float64(s.disconnects.Load())
	f["resumes_total"] = float64(s.resumes.Load())
	f["ledger_tickets"] = float64(s.ledger.len())
	f["rejected_total"] = float64(s.bad.Load())
	return f
}

// socket is what the hub writes to: the player's WebSocket and session.
type socket struct {
	conn    *websocket.Conn
	session *Session
}

func (c *socket) Write(ctx context.Context, msg []byte) error {
	c.session.remember(msg)
	return c.conn.Write(ctx, websocket.MessageText, msg)
}

// SmallBuffers is the ConnContext of the API's server: pushes are small and
// sockets many, so the kernel need not keep megabytes for each.
func SmallBuffers(ctx context.Context, c net.Conn) context.Context {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(8 << 10) // only a hint; the kernel's own size works too
	}
	return ctx
}
