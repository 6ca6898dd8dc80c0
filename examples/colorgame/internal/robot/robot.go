// Package robot is the crowd: players who log in, hold sockets, look at their
// profiles, bet and lose connections, and the back office that reads the books.
// It puts the same load on the services whether a scenario is on or off.
package robot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/singleflight"

	"github.com/opscenter/opscenter/examples/colorgame/internal/chassis"
	"github.com/opscenter/opscenter/examples/colorgame/internal/user"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

// Config of the crowd.
type Config struct {
	Users, Game, Gateway string // base URLs
	Players              int    // 0 = DefaultPlayers
	Rooms                int    // 0 = 4
	// BadNetwork says whether far players have a bad network and read their sockets
	// slowly, asked after every message. Nil = no.
	BadNetwork func() bool
	// Database is where the back office reports from; empty = it has none.
	Database string
	// Report says whether the back office is making its report. Nil = no.
	Report func() bool
	Logger *slog.Logger // nil = silent
}

// DefaultPlayers plays on two cores without filling them; Newcomers are the
// accounts beyond the players' that log in now and then.
const (
	DefaultPlayers = 48
	Newcomers      = 8
)

const (
	farShare      = 4                     // every fourth player is far away
	lookInterval  = 50 * time.Millisecond // between a player's looks at their profile
	betInterval   = time.Second           // one burst a round
	waveInterval  = 2 * time.Second       // between losses of connection
	waveSize      = 24
	newcomerEvery = 15 * time.Second
	farPace       = 40 * time.Millisecond // a message on a bad network
	farReadBuffer = 16 << 10
	reportTakes   = time.Second
	callTimeout   = 20 * time.Second
	retryAfter    = 500 * time.Millisecond
)

// Robot is the crowd.
type Robot struct {
	cfg     Config
	users   *wire.Client
	game    *wire.Client
	players []*player

	logins, bets, betErrors, lookErrors, drops, dials, messages, reports atomic.Int64

	loginLatency, betLatency, lookLatency, pushLatency chassis.Latency
}

type player struct {
	index int
	login singleflight.Group // several loops may find the token expired at once
	token atomic.Pointer[string]
	// hangUp breaks the socket that is open now.
	hangUp atomic.Pointer[context.CancelFunc]
}

func (p *player) far() bool { return p.index%farShare == farShare-1 }

// New makes the crowd; nobody moves before Run.
func New(cfg Config) *Robot {
	if cfg.Players == 0 {
		cfg.Players = DefaultPlayers
	}
	if cfg.Rooms == 0 {
		cfg.Rooms = 4
	}
	no := func() bool { return false }
	if cfg.BadNetwork == nil {
		cfg.BadNetwork = no
	}
	if cfg.Report == nil {
		cfg.Report = no
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Robot{
		cfg:   cfg,
		users: wire.NewClient(cfg.Users, callTimeout, cfg.Players+1),
		game:  wire.NewClient(cfg.Game, callTimeout, cfg.Players*len(wire.Colors())),
	}
	for i := range cfg.Players {
		r.players = append(r.players, &player{index: i})
	}
	return r
}

// Handler implements chassis.Part: nobody calls the crowd.
func (r *Robot) Handler() http.Handler { return nil }

// Run implements chassis.Part.
func (r *Robot) Run(ctx context.Context) error {
	var crowd sync.WaitGroup
	for _, p := range r.players {
		crowd.Go(func() { r.look(ctx, p) })
		crowd.Go(func() { r.listen(ctx, p) })
		crowd.Go(func() { r.bet(ctx, p) })
	}
	crowd.Go(func() { r.welcome(ctx) })
	crowd.Go(func() { r.waves(ctx) })
	if r.cfg.Database != "" {
		crowd.Go(func() { r.backOffice(ctx) })
	}
	crowd.Wait()
	r.users.Close()
	r.game.Close()
	return nil
}

// every calls fn each interval until ctx ends, first after offset. A slow fn
// makes the next calls later, not more.
func every(ctx context.Context, interval, offset time.Duration, fn func()) {
	if !sleep(ctx, offset) {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		fn()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// logIn makes the player's token good again, unless somebody did since stale.
func (r *Robot) logIn(ctx context.Context, p *player, stale *string) error {
	_, err, _ := p.login.Do("", func() (any, error) {
		if p.token.Load() != stale {
			return nil, nil
		}
		token, err := r.logInAs(ctx, p.index)
		if err == nil {
			p.token.Store(&token)
		}
		return nil, err
	})
	return err
}

func (r *Robot) logInAs(ctx context.Context, account int) (string, error) {
	defer r.loginLatency.Since(time.Now())
	var l wire.Login
	err := r.users.Post(ctx, "/login", "", wire.Credentials{Name: user.AccountName(account), Password: user.AccountPassword(account)}, &l)
	if err == nil {
		r.logins.Add(1)
	}
	return l.Token, err
}

// look reads the player's profile again and again, logging in when told to.
func (r *Robot) look(ctx context.Context, p *player) {
	every(ctx, lookInterval, spread(p, lookInterval), func() {
		token := p.token.Load()
		if token == nil {
			if r.logIn(ctx, p, nil) != nil {
				r.lookErrors.Add(1)
				sleep(ctx, retryAfter)
			}
			return
		}
		start := time.Now()
		err := r.users.Get(ctx, "/me", *token, nil)
		switch {
		case err == nil:
			r.lookLatency.Since(start)
		case wire.IsStatus(err, http.StatusUnauthorized):
			err = r.logIn(ctx, p, token)
		}
		if err != nil {
			r.lookErrors.Add(1)
			sleep(ctx, retryAfter)
		}
	})
}

// spread is a share of an interval, so that players do not move in step.
func spread(p *player, interval time.Duration) time.Duration {
	return interval * time.Duration(p.index%16) / 16
}

// bet places a bet on every colour at once, at the start of each round of the
// player's room: everybody in it does so at the same instant.
func (r *Robot) bet(ctx context.Context, p *player) {
	room := p.index % r.cfg.Rooms
	every(ctx, betInterval, betInterval*time.Duration(room)/time.Duration(r.cfg.Rooms), func() {
		var bets sync.WaitGroup
		for _, color := range wire.Colors() {
			bets.Go(func() {
				start := time.Now()
				err := r.game.Post(ctx, "/bets", "", wire.Bet{Player: user.AccountName(p.index), Room: room, Color: color, Stake: 10}, new(wire.Receipt))
				if err != nil {
					r.betErrors.Add(1)
					return
				}
				r.bets.Add(1)
				r.betLatency.Since(start)
			})
		}
		bets.Wait()
	})
}

// listen holds the player's socket and opens it again when it breaks.
func (r *Robot) listen(ctx context.Context, p *player) {
	for ctx.Err() == nil {
		token := p.token.Load()
		if token == nil {
			sleep(ctx, retryAfter) // look is logging in
			continue
		}
		if err := r.socket(ctx, p, *token); err != nil {
			sleep(ctx, retryAfter)
		}
	}
}

// socket opens one socket and reads it until it breaks. An error means that it
// never opened.
func (r *Robot) socket(ctx context.Context, p *player, token string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bad := p.far() && r.cfg.BadNetwork()
	dialer := &net.Dialer{Timeout: callTimeout}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, addr)
		if tcp, ok := c.(*net.TCPConn); ok && bad {
			_ = tcp.SetReadBuffer(farReadBuffer) // only a hint; the kernel's own size works too
		}
		return c, err
	}}
	defer transport.CloseIdleConnections()
	conn, _, err := websocket.Dial(ctx, r.cfg.Gateway+"/ws?token="+url.QueryEscape(token), &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}}) //nolint:bodyclose // Dial says that it never needs to be
	if err != nil {
		return fmt.Errorf("opening the socket of %s: %w", user.AccountName(p.index), err)
	}
	defer func() { _ = conn.CloseNow() }()
	r.dials.Add(1)
	p.hangUp.Store(&cancel)
	for {
		_, msg, err := conn.Read(ctx)
		if err != nil {
			return nil
		}
		r.messages.Add(1)
		if p.index%16 == 0 {
			var b wire.Board
			if json.Unmarshal(msg, &b) == nil {
				r.pushLatency.Since(b.Sent)
			}
		}
		if !p.far() {
			continue
		}
		if r.cfg.BadNetwork() != bad {
			return nil // another network, another connection
		}
		if bad {
			sleep(ctx, farPace)
		}
	}
}

// welcome lets somebody new in now and then.
func (r *Robot) welcome(ctx context.Context) {
	next := 0
	every(ctx, newcomerEvery, newcomerEvery, func() {
		if _, err := r.logInAs(ctx, r.cfg.Players+next%Newcomers); err != nil {
			r.lookErrors.Add(1)
		}
		next++
	})
}

// waves breaks the sockets of some near players at a time, as a change of mobile
// cells does. They are back at once.
func (r *Robot) waves(ctx context.Context) {
	var near []*player
	for _, p := range r.players {
		if !p.far() {
			near = append(near, p)
		}
	}
	if len(near) == 0 {
		<-ctx.Done()
		return
	}
	next := 0
	every(ctx, waveInterval, 2*waveInterval, func() {
		for range waveSize {
			if hangUp := near[next%len(near)].hangUp.Swap(nil); hangUp != nil {
				(*hangUp)()
				r.drops.Add(1)
			}
			next++
		}
	})
}

// backOffice makes its report of the house's account, again and again while it
// is asked for.
func (r *Robot) backOffice(ctx context.Context) {
	every(ctx, 200*time.Millisecond, 0, func() {
		if !r.cfg.Report() {
			return
		}
		conn, err := pgx.Connect(ctx, r.cfg.Database)
		if err != nil {
			r.cfg.Logger.Warn("the back office has no database", "error", err)
			return
		}
		defer conn.Close(context.WithoutCancel(ctx))
		for r.cfg.Report() {
			if err := report(ctx, conn); err != nil {
				if !errors.Is(err, context.Canceled) {
					r.cfg.Logger.Warn("the report broke off", "error", err)
				}
				return
			}
			r.reports.Add(1)
		}
	})
}

// report adds the books up. So that the balance fits the records it locks the
// house's account first, and holds it for as long as adding up takes.
func report(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var balance, sum int64
		if err := tx.QueryRow(ctx, `SELECT balance FROM colorgame.house WHERE account = 'main' FOR UPDATE`).Scan(&balance); err != nil {
			return fmt.Errorf("reading the balance: %w", err)
		}
		// A year of records takes its time; the demo has minutes of them.
		return tx.QueryRow(ctx, `SELECT coalesce(sum(stake - payout), 0)::bigint FROM colorgame.bet_records, pg_sleep($1)`, reportTakes.Seconds()).Scan(&sum)
	})
}

// Figures implements chassis.Part.
func (r *Robot) Figures() chassis.Figures {
	f := chassis.Figures{
		"players":        float64(len(r.players)),
		"logins_total":   float64(r.logins.Load()),
		"bets_total":     float64(r.bets.Load()),
		"bet_errors":     float64(r.betErrors.Load()),
		"look_errors":    float64(r.lookErrors.Load()),
		"drops_total":    float64(r.drops.Load()),
		"sockets_total":  float64(r.dials.Load()),
		"messages_total": float64(r.messages.Load()),
		"reports_total":  float64(r.reports.Load()),
	}
	r.loginLatency.Into(f, "login")
	r.betLatency.Into(f, "bet")
	r.lookLatency.Into(f, "look")
	r.pushLatency.Into(f, "push")
	return f
}
