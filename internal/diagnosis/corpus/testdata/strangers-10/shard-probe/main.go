package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

type Ticket struct {
	Player string
	Mode   string
	Since  time.Time
}

type Placement struct {
	Ticket Ticket
	Shard  string
}

type Directory interface {
	Candidates(mode string) []string
	Ready(ctx context.Context, shard string) (bool, error)
}

type grpcDirectory struct {
	health healthpb.HealthClient
	modes  map[string][]string
}

func (d *grpcDirectory) Candidates(mode string) []string { return d.modes[mode] }

func (d *grpcDirectory) Ready(ctx context.Context, shard string) (bool, error) {
	updates, err := d.health.Watch(ctx, &healthpb.HealthCheckRequest{Service: shard}) // want: goroutine-leak
	if err != nil {
		return false, fmt.Errorf("shard %s: %w", shard, err)
	}
	st, err := updates.Recv() // want: goroutine-leak
	if err != nil {
		return false, fmt.Errorf("shard %s: %w", shard, err)
	}
	return st.GetStatus() == healthpb.HealthCheckResponse_SERVING, nil
}

var errNoShard = errors.New("no shard is ready")

type Matchmaker struct {
	dir    Directory
	in     <-chan Ticket
	placed func(Placement)
	log    *slog.Logger
}

func (m *Matchmaker) pick(ctx context.Context, t Ticket) (string, error) {
	names := m.dir.Candidates(t.Mode)
	for _, i := range rand.Perm(len(names)) {
		ok, err := m.dir.Ready(ctx, names[i])
		if err != nil {
			return "", err
		}
		if ok {
			return names[i], nil
		}
	}
	return "", errNoShard
}

func (m *Matchmaker) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case t := <-m.in:
			shard, err := m.pick(ctx, t)
			if err != nil {
				m.log.Warn("placement failed", "player", t.Player, "err", err)
				continue
			}
			m.placed(Placement{Ticket: t, Shard: shard})
		}
	}
}

func serveFleet(names []string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	hs := health.NewServer()
	for _, n := range names {
		hs.SetServingStatus(n, healthpb.HealthCheckResponse_SERVING)
	}
	gs := grpc.NewServer()
	healthpb.RegisterHealthServer(gs, hs)
	go gs.Serve(l)
	return l.Addr().String(), nil
}

func arrivals(ctx context.Context, perSecond int) <-chan Ticket {
	out := make(chan Ticket, 64)
	go func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				mode := "casual"
				if n%3 == 0 {
					mode = "ranked"
				}
				select {
				case out <- Ticket{Player: fmt.Sprintf("p-%d", n), Mode: mode, Since: now}:
				default:
				}
			}
		}
	}()
	return out
}

func run(ctx context.Context, logger *slog.Logger) error {
	modes := map[string][]string{
		"casual": {"eu-1", "eu-2", "ap-1"},
		"ranked": {"eu-3", "ap-2"},
	}
	var all []string
	for _, names := range modes {
		all = append(all, names...)
	}
	addr, err := serveFleet(all)
	if err != nil {
		return err
	}
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer cc.Close()
	dir := &grpcDirectory{health: healthpb.NewHealthClient(cc), modes: modes}

	g, ctx := errgroup.WithContext(ctx)
	in := arrivals(ctx, 60)
	for range 4 {
		mm := &Matchmaker{dir: dir, in: in, placed: func(Placement) {}, log: logger}
		g.Go(func() error { return mm.Run(ctx) })
	}
	admin := &http.Server{Addr: os.Getenv("ADDR")}
	g.Go(admin.ListenAndServe)
	context.AfterFunc(ctx, func() { admin.Close() })
	return g.Wait()
}

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, logger); err != nil && !errors.Is(err, context.Canceled) {
		logger.Error("matchmaker stopped", "err", err)
		os.Exit(1)
	}
}
