package gateway

import (
	"context"
	"sync"
	"time"
)

// Session is what the gateway keeps of a player beyond one socket: what was
// pushed last, so that it can be replayed to a player who resumes.
type Session struct {
	Player string
	socket int64
	// resumed is closed when the player is back on another socket; each socket
	// has a new one. Guarded by Service.mu, as socket and hangUp are.
	resumed chan struct{}
	hangUp  context.CancelFunc // ends the socket

	mu      sync.Mutex // guards end and backlog
	end     int
	backlog [256 << 10]byte // ring of the last pushes
}

// newSession makes the session of a socket.
func newSession(player string, socket int64) *Session {
	return &Session{Player: player, socket: socket, resumed: make(chan struct{})}
}

// remember keeps a push for replay.
func (s *Session) remember(msg []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(msg) > 0 {
		n := copy(s.backlog[s.end:], msg)
		s.end = (s.end + n) % len(s.backlog)
		msg = msg[n:]
	}
}

// hold keeps the session while its player is away, and returns when they are
// back, when the grace is over (0 = never), or when letGo is closed.
func (s *Session) hold(resumed <-chan struct{}, grace time.Duration, letGo <-chan struct{}) {
	var over <-chan time.Time
	if grace > 0 {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-resumed:
	case <-over:
	case <-letGo:
	}
}

// open returns the player's session for a new socket: the one held for the
// socket they lost, or else a new one.
func (s *Service) open(player string, lost int64, hangUp context.CancelFunc) *Session {
	id := s.lastSocket.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	session, ok := s.held[lost]
	if ok && session.Player == player {
		delete(s.held, lost)
		close(session.resumed)
		s.resumes.Add(1)
		session.resumed, session.socket = make(chan struct{}), id
	} else {
		session = newSession(player, id)
	}
	session.hangUp = hangUp
	s.sessions[id] = session
	if s.closing {
		hangUp()
	}
	return session
}

// disconnect ends the session of a socket that broke, or holds it for the player
// to come back to.
func (s *Service) disconnect(session *Session) {
	s.disconnects.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	id := session.socket
	delete(s.sessions, id)
	if s.closing || !s.cfg.Resume() || len(s.held) >= maxHeld {
		return
	}
	s.held[id] = session
	resumed, letGo := session.resumed, s.letGo
	s.sockets.Go(func() {
		session.hold(resumed, s.cfg.ResumeGrace, letGo)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[id] == session {
			delete(s.held, id)
		}
	})
}

// LetGo ends every session that waits to be resumed.
func (s *Service) LetGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.letGo)
	s.letGo = make(chan struct{})
}
