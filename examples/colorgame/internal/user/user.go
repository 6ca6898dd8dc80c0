// Package user is the user-service: accounts, logins and the sessions that spare
// players from logging in again. It knows nothing of rooms or sockets.
package user

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/examples/colorgame/internal/chassis"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

// Config of the service.
type Config struct {
	// Accounts is how many players are known: player-001 and so on.
	Accounts int
	// SessionTTL says how long a login is good for, asked at every check, so that
	// it can be shortened for everyone at once. Nil = an hour.
	SessionTTL func() time.Duration
}

// friends is how many everyone has.
const friends = 60

// AccountName and AccountPassword are the i-th player's, counted from 0.
func AccountName(i int) string { return fmt.Sprintf("player-%03d", i+1) }

// AccountPassword is what AccountName logs in with.
func AccountPassword(i int) string { return fmt.Sprintf("correct horse %03d", i+1) }

var (
	errCredentials = errors.New("name or password is wrong")
	errSession     = errors.New("session is unknown or has expired: log in again")
)

// Service holds the accounts and the sessions.
type Service struct {
	ttl      func() time.Duration
	accounts map[string]*account // written only by New
	cost     atomic.Int64        // of hashes to come

	mu       sync.RWMutex // guards sessions and tokens
	sessions map[string]Session
	tokens   map[string]string // account name → its one token

	logins, refused atomic.Int64
	loginLatency    chassis.Latency
	checkLatency    chassis.Latency
}

type account struct {
	kept    atomic.Pointer[[]byte] // the hash
	profile wire.Profile
}

// Session is a login that is still good.
type Session struct {
	Name  string
	Since time.Time
}

// New makes the service and hashes every account's password, which takes its time.
func New(cfg Config) (*Service, error) {
	s := &Service{
		ttl:      cfg.SessionTTL,
		accounts: make(map[string]*account, cfg.Accounts),
		sessions: map[string]Session{},
		tokens:   map[string]string{},
	}
	if s.ttl == nil {
		s.ttl = func() time.Duration { return time.Hour }
	}
	s.cost.Store(int64(bcrypt.DefaultCost))
	hashes := make([][]byte, cfg.Accounts)
	var g errgroup.Group
	for i := range hashes {
		g.Go(func() (err error) {
			hashes[i], err = bcrypt.GenerateFromPassword([]byte(AccountPassword(i)), bcrypt.DefaultCost)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("hashing passwords: %w", err)
	}
	for i, hash := range hashes {
		p := wire.Profile{Name: AccountName(i), Level: 1 + i%40, Badges: []string{"early bird", "lucky seven"}}
		for f := range friends {
			p.Friends = append(p.Friends, wire.Friend{Name: AccountName((i + f + 1) % cfg.Accounts), Level: 1 + f%40, Since: time.Now()})
		}
		a := &account{profile: p}
		a.kept.Store(&hash)
		s.accounts[p.Name] = a
	}
	return s, nil
}

// Login checks the credentials and opens the account's session.
func (s *Service) Login(c wire.Credentials) (token string, err error) {
	defer s.loginLatency.Since(time.Now())
	known, ok := s.accounts[c.Name]
	if !ok {
		return "", errCredentials
	}
	a := struct{ hash []byte }{*known.kept.Load()}
	if err := bcrypt.CompareHashAndPassword(a.hash, []byte(c.Password)); err != nil {
		s.refused.Add(1)
		return "", errCredentials
	}
	s.logins.Add(1)
	if err := known.rehash(c.Password, int(s.cost.Load())); err != nil {
		return "", err
	}

	token = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, s.tokens[c.Name])
	s.sessions[token] = Session{Name: c.Name, Since: time.Now()}
	s.tokens[c.Name] = token
	return token, nil
}

// rehash hashes the password anew if it was hashed with another cost.
func (a *account) rehash(password string, cost int) error {
	if now, err := bcrypt.Cost(*a.kept.Load()); err == nil && now == cost {
		return nil
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return fmt.Errorf("hashing a password anew: %w", err)
	}
	a.kept.Store(&hash)
	return nil
}

// SetCost sets the cost of password hashing for logins to come and returns the
// one before. It is an error for a cost that bcrypt does not have.
func (s *Service) SetCost(cost int) (before int, err error) {
	if cost < bcrypt.MinCost || cost > bcrypt.MaxCost {
		return int(s.cost.Load()), bcrypt.InvalidCostError(cost)
	}
	return int(s.cost.Swap(int64(cost))), nil
}

// Profile answers who the token belongs to.
func (s *Service) Profile(token string) (wire.Profile, error) {
	defer s.checkLatency.Since(time.Now())
	s.mu.RLock()
	session, ok := s.sessions[token]
	s.mu.RUnlock()
	if !ok || time.Since(session.Since) > s.ttl() {
		return wire.Profile{}, errSession
	}
	return s.accounts[session.Name].profile, nil
}

// Handler implements chassis.Part.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		in, ok := wire.Read[wire.Credentials](w, r)
		if !ok {
			return
		}
		token, err := s.Login(in)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		wire.Write(w, wire.Login{Token: token})
	})
	mux.HandleFunc("GET /me", func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		p, err := s.Profile(token)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		wire.Write(w, p)
	})
	return mux
}

// Run implements chassis.Part; the service does nothing unasked.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Figures implements chassis.Part.
func (s *Service) Figures() chassis.Figures {
	s.mu.RLock()
	open := len(s.sessions)
	s.mu.RUnlock()
	f := chassis.Figures{
		"sessions":       float64(open),
		"logins_total":   float64(s.logins.Load()),
		"refusals_total": float64(s.refused.Load()),
	}
	s.loginLatency.Into(f, "login")
	s.checkLatency.Into(f, "check")
	return f
}
