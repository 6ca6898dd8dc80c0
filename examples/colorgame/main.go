// Command colorgame is the Color Game: four small services, a crowd that plays
// them, and seven troubles that can be switched on and off. `colorgame demo` runs
// it all, with a centre to look at it.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/examples/colorgame/internal/chassis"
	"github.com/opscenter/opscenter/examples/colorgame/internal/demo"
	"github.com/opscenter/opscenter/examples/colorgame/internal/game"
	"github.com/opscenter/opscenter/examples/colorgame/internal/gateway"
	"github.com/opscenter/opscenter/examples/colorgame/internal/pod"
	"github.com/opscenter/opscenter/examples/colorgame/internal/postgres"
	"github.com/opscenter/opscenter/examples/colorgame/internal/record"
	"github.com/opscenter/opscenter/examples/colorgame/internal/robot"
	"github.com/opscenter/opscenter/examples/colorgame/internal/scenario"
	"github.com/opscenter/opscenter/examples/colorgame/internal/user"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "colorgame",
		Short:         "A demo game whose services can be made to misbehave",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(demoCmd(), faultCmd(), statusCmd(),
		serviceCmd("user-service", "Accounts and logins", users),
		serviceCmd("gateway-service", "WebSockets and the lobby", sockets),
		serviceCmd("game-service", "Rooms, wallets and bets", rooms),
		serviceCmd("game-record-service", "Settled bets, in Postgres", records),
		serviceCmd("robot", "The crowd that plays", crowd))
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "colorgame:", err)
		os.Exit(1)
	}
}

func demoCmd() *cobra.Command {
	cfg := demo.Config{Database: os.Getenv("COLORGAME_DATABASE_URL"), Out: os.Stdout}
	fault := os.Getenv("SCENARIO")
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the centre, the game and its crowd until Ctrl-C",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if fault != "" {
				if cfg.Scenario, err = scenario.Parse(fault); err != nil {
					return err
				}
			}
			if cfg.Self, err = os.Executable(); err != nil {
				return err
			}
			return demo.Run(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&fault, "scenario", fault, "`number` of the scenario that is on from the start (SCENARIO)")
	f.StringVar(&cfg.Ops, "ops", "", "built `program` of the centre; empty = built from the sources here")
	f.StringVar(&cfg.Center, "center", "", "`URL` of a centre that runs already; empty = one is started")
	f.StringVar(&cfg.Listen, "listen", "", "`address` of the centre that is started (default 127.0.0.1:8080, or a free port)")
	f.StringVar(&cfg.Data, "data", "", "`directory` of the centre that is started (default ./ops-data, or ./ops-data-demo beside a running centre)")
	f.StringVar(&cfg.Database, "database", cfg.Database, "`URL` of a Postgres database (COLORGAME_DATABASE_URL); empty = a throwaway cluster")
	f.StringVar(&cfg.StackFile, "stack", "", "`file` that says what runs where (default "+demo.DefaultStackFile()+")")
	f.IntVar(&cfg.Players, "players", robot.DefaultPlayers, "how many play")
	return cmd
}

func faultCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "fault NUMBER on|off",
		Short: "Switch a scenario of the running demo",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sc, err := scenario.Parse(args[0])
			if err != nil {
				return err
			}
			if args[1] != "on" && args[1] != "off" {
				return fmt.Errorf("a scenario is switched on or off, not %q", args[1])
			}
			stack, err := demo.ReadStack(file)
			if err != nil {
				return err
			}
			if err := stack.Fault(cmd.Context(), sc, args[1] == "on"); err != nil {
				return err
			}
			fmt.Printf("%d is %s: %s. Look at %s.\n", int(sc), args[1], sc.Symptom(), sc.Service())
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "stack", demo.DefaultStackFile(), "`file` of the demo")
	return cmd
}

func statusCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print the figures of the running demo",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			stack, err := demo.ReadStack(file)
			if err != nil {
				return err
			}
			for _, p := range stack.Processes {
				if p.Admin == "" {
					continue
				}
				st, err := p.State(cmd.Context())
				if err != nil {
					fmt.Printf("%s: %v\n", p.Name, err)
					continue
				}
				var on []string
				for number, is := range st.Faults {
					if is {
						on = append(on, number)
					}
				}
				slices.Sort(on)
				fmt.Printf("%s (process %d, scenarios on: %s)\n", p.Name, st.PID, strings.Join(append(on, "none")[:max(1, len(on))], " "))
				names := make([]string, 0, len(st.Figures))
				for name := range st.Figures {
					names = append(names, name)
				}
				slices.Sort(names)
				for _, name := range names {
					fmt.Printf("  %-24s %.6g\n", name, st.Figures[name])
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "stack", demo.DefaultStackFile(), "`file` of the demo")
	return cmd
}

// options are the flags of a service.
type options struct {
	listen, admin, center         string
	users, gateway, game, records string
	database                      string
	players                       int
	auditEvery                    time.Duration
	ledgerSeats                   int
	faults                        []string
	switches                      *scenario.Switches
	log                           *slog.Logger
	level                         *slog.LevelVar // of log
}

// audits takes the time between two audits from the environment, unless a flag
// says it.
func (o *options) audits(env string) (err error) {
	if o.auditEvery == 0 && env != "" {
		if o.auditEvery, err = time.ParseDuration(env); err != nil {
			return fmt.Errorf("COLORGAME_AUDIT_EVERY is no time: %w: say 10s or 1m", err)
		}
	}
	if o.auditEvery < 0 {
		return fmt.Errorf("audits cannot be %v apart: say 10s or 1m", o.auditEvery)
	}
	return nil
}

// ledger takes the number of tickets from the environment, unless a flag says it.
func (o *options) ledger(env string) (err error) {
	if o.ledgerSeats == 0 && env != "" {
		if o.ledgerSeats, err = strconv.Atoi(env); err != nil {
			return fmt.Errorf("COLORGAME_LEDGER_SEATS is no number: %w: say 32", err)
		}
	}
	if o.ledgerSeats < 0 || o.ledgerSeats > 1000 {
		return fmt.Errorf("%d tickets of each announcement cannot be kept: use up to 1000", o.ledgerSeats)
	}
	return nil
}

// service is what a verb starts.
type service struct {
	part     chassis.Part
	pool     *pgxpool.Pool // nil = none
	agent    bool
	services agent.Services // that the centre's console may call
	controls []agent.Control
	started  func(*agent.Agent) // is given the agent; nil = nobody wants it
	words    string             // agent.Config.LastWords
	timed    bool               // the agent is told how long requests take
	chassis  chassis.Config
}

func serviceCmd(name, short string, build func(context.Context, options) (service, error)) *cobra.Command {
	o := options{switches: &scenario.Switches{}, level: &slog.LevelVar{}, database: os.Getenv("COLORGAME_DATABASE_URL")}
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.audits(os.Getenv("COLORGAME_AUDIT_EVERY")); err != nil {
				return err
			}
			if err := o.ledger(os.Getenv("COLORGAME_LEDGER_SEATS")); err != nil {
				return err
			}
			for _, f := range o.faults {
				sc, err := scenario.Parse(f)
				if err != nil {
					return err
				}
				o.switches.Set(sc, true)
			}
			o.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.level}))
			return serve(cmd.Context(), name, o, build)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "", "`address` of the API (default a free port on loopback)")
	f.StringVar(&o.admin, "admin", "", "`address` of figures, switches and pprof (default a free port on loopback)")
	f.StringVar(&o.center, "center", "", "`URL` of the centre (default OPS_CENTER, or http://127.0.0.1:8080)")
	f.StringVar(&o.users, "users", "", "`URL` of the user-service")
	f.StringVar(&o.gateway, "gateway", "", "`URL` of the gateway-service")
	f.StringVar(&o.game, "game", "", "`URL` of the game-service")
	f.StringVar(&o.records, "records", "", "`URL` of the game-record-service")
	f.IntVar(&o.players, "players", robot.DefaultPlayers, "how many play")
	f.DurationVar(&o.auditEvery, "audit-every", 0, "`time` between two audits of the rooms in scenario 6 (COLORGAME_AUDIT_EVERY, default 1m)")
	f.IntVar(&o.ledgerSeats, "ledger-seats", 0, "how many `tickets` of 4 KiB are kept of each announcement in scenario 7 (COLORGAME_LEDGER_SEATS, default 32)")
	f.StringSliceVar(&o.faults, "fault", nil, "`number` of a scenario that is on from the start (repeatable)")
	return cmd
}

// serve runs a service until ctx ends. The agent starts first and ends last.
func serve(ctx context.Context, name string, o options, build func(context.Context, options) (service, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if os.Getenv("COLORGAME_PARENT") != "" {
		// The demo holds the other end: it closes it to end us, and so does its death.
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	if err := pod.Enter(ctx); err != nil {
		return err
	}
	svc, err := build(ctx, o)
	if err != nil {
		return err
	}
	if svc.pool != nil {
		defer svc.pool.Close()
	}
	if svc.agent {
		a, err := agent.Start(agent.Config{Center: o.center, Project: demo.Project, Service: name, Logger: o.log, LogLevel: o.level, Services: svc.services, LastWords: svc.words})
		if err != nil {
			return err
		}
		defer a.Close()
		if svc.started != nil {
			svc.started(a)
		}
		if svc.timed {
			svc.chassis.Around = a.Middleware
		}
		if svc.pool != nil {
			a.AddPool("postgres", poolStats{svc.pool})
		}
		for _, c := range svc.controls {
			if err := a.AddControl(c); err != nil {
				return err
			}
		}
	}
	svc.chassis.Service, svc.chassis.Listen, svc.chassis.Admin = name, o.listen, o.admin
	svc.chassis.Switches, svc.chassis.Logger = o.switches, o.log
	return chassis.Run(ctx, svc.chassis, svc.part)
}

func users(_ context.Context, o options) (service, error) {
	part, err := user.New(user.Config{
		Accounts: o.players + robot.Newcomers,
		SessionTTL: func() time.Duration {
			if o.switches.On(scenario.LoginStorm) {
				return time.Second
			}
			return time.Hour
		},
	})
	if err != nil {
		return service{}, err
	}
	// Not timed: a login takes tens of milliseconds by nature, and a rule for what is
	// slow would see every one.
	return service{part: part, agent: true, controls: userControls(part)}, nil
}

func sockets(_ context.Context, o options) (service, error) {
	if o.users == "" {
		return service{}, fmt.Errorf("the gateway needs --users, to ask whose a token is")
	}
	part := gateway.New(gateway.Config{
		Users:  wire.NewClient(o.users, 20*time.Second, 2),
		Resume: func() bool { return o.switches.On(scenario.SessionLeak) },

		Disputed:    func() bool { return o.switches.On(scenario.Hoarding) && pod.Limited() },
		LedgerSeats: o.ledgerSeats,
	})
	o.switches.Watch(func(sc scenario.Scenario, on bool) {
		if sc == scenario.SessionLeak && !on {
			part.LetGo()
		}
		if sc == scenario.Hoarding && !on {
			part.BurnLedger()
		}
	})
	return service{part: part, agent: true, words: "on", timed: true, controls: gatewayControls(part), chassis: chassis.Config{ConnContext: gateway.SmallBuffers}}, nil
}

func rooms(ctx context.Context, o options) (service, error) {
	cfg := game.Config{
		StrictLimits: func() bool { return o.switches.On(scenario.LockAcrossQuery) },
		Audited:      func() bool { return o.switches.On(scenario.BriefStall) },
		AuditEvery:   o.auditEvery,
	}
	if o.gateway != "" {
		cfg.Lobby = wire.NewClient(o.gateway, 5*time.Second, 16)
	}
	if o.records != "" {
		cfg.Records = wire.NewClient(o.records, 20*time.Second, 16)
	}
	var pool *pgxpool.Pool
	if o.database != "" {
		var err error
		if pool, err = openPool(ctx, o.database, 48); err != nil {
			return service{}, err
		}
		cfg.Limits, cfg.Books = game.SQLLimits{Pool: pool}, game.SQLBooks{Pool: pool}
	}
	part := game.New(cfg)
	// The console's calls are timed as the players' are. The agent serves them, so
	// the interceptor is there before the agent is.
	var told atomic.Pointer[agent.Agent]
	timed := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return told.Load().UnaryServerInterceptor()(ctx, req, info, handler)
	}
	return service{
		part: part, pool: pool, agent: true, timed: true,
		services: agent.Services{Register: part.Register, Unary: []grpc.UnaryServerInterceptor{timed}},
		started:  func(a *agent.Agent) { part.TellSlow(a.Slow); told.Store(a) },
	}, nil
}

func records(ctx context.Context, o options) (service, error) {
	if o.database == "" {
		return service{}, fmt.Errorf("the game-record-service needs a database: set COLORGAME_DATABASE_URL")
	}
	pool, err := openPool(ctx, o.database, 8)
	if err != nil {
		return service{}, err
	}
	part := record.New(record.Config{Pool: pool, Logger: o.log})
	return service{part: part, pool: pool, agent: true, timed: true, controls: recordControls(part)}, nil
}

func crowd(_ context.Context, o options) (service, error) {
	if o.users == "" || o.game == "" || o.gateway == "" {
		return service{}, fmt.Errorf("the robot needs --users, --game and --gateway")
	}
	return service{part: robot.New(robot.Config{
		Users: o.users, Game: o.game, Gateway: o.gateway, Players: o.players, Database: o.database, Logger: o.log,
		BadNetwork: func() bool { return o.switches.On(scenario.SlowConsumers) },
		Report:     func() bool { return o.switches.On(scenario.SlowRecords) },
	})}, nil
}

// openPool opens a pool of up to that many connections and makes sure of the tables.
func openPool(ctx context.Context, url string, conns int32) (*pgxpool.Pool, error) {
	if err := postgres.Migrate(ctx, url); err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("the database URL is not one: %w", err)
	}
	cfg.MaxConns = conns
	return pgxpool.NewWithConfig(ctx, cfg)
}

// poolStats tells the agent how the pool is.
type poolStats struct{ pool *pgxpool.Pool }

func (p poolStats) PoolStats() agent.PoolStats {
	st, conn := p.pool.Stat(), p.pool.Config().ConnConfig
	return agent.PoolStats{
		Kind:         "pgxpool",
		Remote:       fmt.Sprintf("%s:%d", conn.Host, conn.Port),
		MaxOpen:      int64(st.MaxConns()),
		Open:         int64(st.TotalConns()),
		InUse:        int64(st.AcquiredConns()),
		Idle:         int64(st.IdleConns()),
		Waiting:      -1, // pgxpool counts only the waits that have ended
		WaitCount:    st.EmptyAcquireCount(),
		WaitDuration: st.EmptyAcquireWaitTime(),
	}
}
