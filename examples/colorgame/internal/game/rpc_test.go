package game

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	colorgamev1 "github.com/opscenter/opscenter/examples/colorgame/internal/pb/colorgame/v1"
)

// dial serves the service's gRPC side and connects to it.
func dial(t *testing.T, s *Service) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	s.Register(g)
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }()
	cc, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close(); g.Stop(); <-served })
	return cc
}

func TestWallets(t *testing.T) {
	s := New(Config{})
	wallets := colorgamev1.NewWalletServiceClient(dial(t, s))
	if _, err := wallets.GetBalance(t.Context(), &colorgamev1.GetBalanceRequest{Player: "player-001"}); status.Code(err) != codes.NotFound {
		t.Errorf("a stranger: %v", err)
	}
	s.wallet("player-001")
	for _, c := range []struct {
		amount, want int64
		code         codes.Code
	}{{500, firstBalance + 500, codes.OK}, {-1000, firstBalance - 500, codes.OK}, {0, 0, codes.InvalidArgument}, {-2 * firstBalance, 0, codes.FailedPrecondition}} {
		got, err := wallets.AddBalance(t.Context(), &colorgamev1.AddBalanceRequest{Player: "player-001", Amount: c.amount})
		if status.Code(err) != c.code || got.GetBalance() != c.want {
			t.Errorf("%d: %v, %v", c.amount, got, err)
		}
	}
	if got, err := wallets.GetBalance(t.Context(), &colorgamev1.GetBalanceRequest{Player: "player-001"}); err != nil || got.GetBalance() != firstBalance-500 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWatchingAndPlaying(t *testing.T) {
	s := New(Config{})
	rooms := colorgamev1.NewRoomServiceClient(dial(t, s))
	play, err := rooms.Play(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		bet     *colorgamev1.PlayRequest
		refused string
	}{
		{&colorgamev1.PlayRequest{Player: "player-001", Color: colorgamev1.Color_COLOR_RED, Stake: 10}, ""},
		{&colorgamev1.PlayRequest{Player: "player-001", Stake: 10}, "no such colour"},
		{&colorgamev1.PlayRequest{Player: "player-001", Color: colorgamev1.Color_COLOR_RED, Room: 9, Stake: 10}, "there is no room 9: rooms are 0 to 3"},
	} {
		if err := play.Send(c.bet); err != nil {
			t.Fatal(err)
		}
		got, err := play.Recv()
		if err != nil || got.GetRefused() != c.refused || (c.refused == "" && got.GetReceipt().GetBalance() != firstBalance-10) {
			t.Errorf("%v: %v, %v", c.bet, got, err)
		}
	}
	if err := play.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := play.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}

	watch, err := rooms.WatchRoom(t.Context(), &colorgamev1.WatchRoomRequest{Boards: 2})
	if err != nil {
		t.Fatal(err)
	}
	first, err := watch.Recv()
	if err != nil || first.GetRound() != 1 || first.GetStakes()["red"] != 10 {
		t.Errorf("%v, %v", first, err)
	}
	s.rooms[0].settle()
	second, err := watch.Recv()
	if err != nil || second.GetRound() != 2 || len(second.GetHistory()) != 1 {
		t.Errorf("%v, %v", second, err)
	}
	if _, err := watch.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	if watch, err = rooms.WatchRoom(ctx, &colorgamev1.WatchRoomRequest{Room: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("%v", err)
	}
}
