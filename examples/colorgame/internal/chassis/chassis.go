// Package chassis is what every process of the Color Game has around its own
// part: the agent, an address for its API, another for operators (figures,
// scenario switches, net/http/pprof), and an orderly end. It knows nothing of
// the game.
package chassis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/examples/colorgame/internal/scenario"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

// Figures is what a part tells of itself, by name; the name ends with the unit.
type Figures map[string]float64

// Part is what makes a process this service and not another.
type Part interface {
	// Handler serves the API; nil = it has none.
	Handler() http.Handler
	// Run does the work that no request asked for. It returns when ctx has ended
	// and everything it started has ended.
	Run(ctx context.Context) error
	// Figures may be called at any time, also while Run is not running.
	Figures() Figures
}

// Config describes the process.
type Config struct {
	Service string
	// Listen and Admin are the addresses of the API and of the operators' pages;
	// empty = a free port on loopback.
	Listen, Admin string
	// Switches may not be nil.
	Switches *scenario.Switches
	Logger   *slog.Logger // nil = silent
	// ConnContext is http.Server.ConnContext of the API; may be nil.
	ConnContext func(context.Context, net.Conn) context.Context
	// Around is put around the API's handler; may be nil.
	Around func(http.Handler) http.Handler
	// Ready is called with the addresses once they accept connections; may be nil.
	Ready func(api, admin string)
}

// State is what the admin page /admin/state answers.
type State struct {
	Service string          `json:"service"`
	PID     int             `json:"pid"`
	At      time.Time       `json:"at"`
	Faults  map[string]bool `json:"faults"` // by scenario number
	Figures Figures         `json:"figures"`
}

const shutdownPatience = 3 * time.Second

// Run serves the part until ctx ends. The caller starts the agent before, and
// closes it after, so that the agent sees the part from its first to its last
// breath.
func Run(ctx context.Context, cfg Config, part Part) error {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	admin, err := listen(cfg.Admin)
	if err != nil {
		return fmt.Errorf("admin address: %w", err)
	}
	servers := map[net.Listener]*http.Server{admin: {Handler: adminHandler(cfg, part)}}
	api := ""
	if h := part.Handler(); h != nil {
		if cfg.Around != nil {
			h = cfg.Around(h)
		}
		l, err := listen(cfg.Listen)
		if err != nil {
			return errors.Join(fmt.Errorf("API address: %w", err), admin.Close())
		}
		servers[l], api = &http.Server{Handler: h, ConnContext: cfg.ConnContext}, "http://"+l.Addr().String()
	}

	g, ctx := errgroup.WithContext(ctx)
	for l, srv := range servers {
		srv.ReadHeaderTimeout = 10 * time.Second
		srv.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
		g.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving %s: %w", l.Addr(), err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
			defer cancel()
			if srv.Shutdown(patience) != nil {
				return srv.Close()
			}
			return nil
		})
	}
	g.Go(func() error { return part.Run(ctx) })

	log.Info("serving", "service", cfg.Service, "api", api, "admin", "http://"+admin.Addr().String())
	if cfg.Ready != nil {
		cfg.Ready(api, "http://"+admin.Addr().String())
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", cfg.Service, err)
	}
	return nil
}

func listen(addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	return net.Listen("tcp", addr)
}

func adminHandler(cfg Config, part Part) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)

	state := func() State {
		s := State{Service: cfg.Service, PID: os.Getpid(), At: time.Now(), Faults: map[string]bool{}, Figures: part.Figures()}
		for _, sc := range scenario.All() {
			s.Faults[fmt.Sprint(int(sc))] = cfg.Switches.On(sc)
		}
		return s
	}
	mux.HandleFunc("GET /admin/state", func(w http.ResponseWriter, _ *http.Request) { wire.Write(w, state()) })
	mux.HandleFunc("PUT /admin/faults/{scenario}/{state}", func(w http.ResponseWriter, r *http.Request) {
		sc, err := scenario.Parse(r.PathValue("scenario"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		switch r.PathValue("state") {
		case "on":
			cfg.Switches.Set(sc, true)
		case "off":
			cfg.Switches.Set(sc, false)
		default:
			http.Error(w, "a fault is switched on or off", http.StatusNotFound)
			return
		}
		wire.Write(w, state())
	})
	return http.NewCrossOriginProtection().Handler(mux)
}
