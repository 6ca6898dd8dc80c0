package game

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	colorgamev1 "github.com/opscenter/opscenter/examples/colorgame/internal/pb/colorgame/v1"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

// Register registers the service's gRPC side: what its operators do with it.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	colorgamev1.RegisterWalletServiceServer(r, walletService{s: s})
	colorgamev1.RegisterRoomServiceServer(r, roomService{s: s})
}

type walletService struct {
	colorgamev1.UnimplementedWalletServiceServer
	s *Service
}

// known returns the wallet of somebody who has played.
func (w walletService) known(player string) (*Wallet, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if x := w.s.wallets[player]; x != nil {
		return x, nil
	}
	return nil, status.Errorf(codes.NotFound, "no player %q has a wallet here: players are named as in player-001", player)
}

// GetBalance implements WalletService.
func (w walletService) GetBalance(_ context.Context, req *colorgamev1.GetBalanceRequest) (*colorgamev1.GetBalanceResponse, error) {
	x, err := w.known(req.GetPlayer())
	if err != nil {
		return nil, err
	}
	return &colorgamev1.GetBalanceResponse{Player: req.GetPlayer(), Balance: x.Balance()}, nil
}

// AddBalance implements WalletService.
func (w walletService) AddBalance(_ context.Context, req *colorgamev1.AddBalanceRequest) (*colorgamev1.AddBalanceResponse, error) {
	x, err := w.known(req.GetPlayer())
	if err != nil {
		return nil, err
	}
	switch n := req.GetAmount(); {
	case n == 0:
		return nil, status.Error(codes.InvalidArgument, "amount is 0: say how many credits, negative ones are taken")
	case n > 0:
		x.Credit(n)
	default:
		if left, err := x.Debit(-n); err != nil {
			return nil, status.Errorf(codes.FailedPrecondition, "%v: it holds %d", err, left)
		}
	}
	return &colorgamev1.AddBalanceResponse{Player: req.GetPlayer(), Balance: x.Balance()}, nil
}

type roomService struct {
	colorgamev1.UnimplementedRoomServiceServer
	s *Service
}

// WatchRoom implements RoomService.
func (r roomService) WatchRoom(req *colorgamev1.WatchRoomRequest, stream grpc.ServerStreamingServer[colorgamev1.WatchRoomResponse]) error {
	at := int(req.GetRoom())
	if at < 0 || at >= len(r.s.rooms) {
		return status.Errorf(codes.NotFound, "there is no room %d: rooms are 0 to %d", at, len(r.s.rooms)-1)
	}
	var seen int64
	for sent := int32(0); ; {
		if b := r.s.rooms[at].board(); b.Round != seen {
			seen = b.Round
			if err := stream.Send(boardMessage(b)); err != nil {
				return err
			}
			if sent++; sent == req.GetBoards() {
				return nil
			}
		}
		if !sleep(stream.Context(), 50*time.Millisecond) {
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

func boardMessage(b wire.Board) *colorgamev1.WatchRoomResponse {
	out := &colorgamev1.WatchRoomResponse{Room: int32(b.Room), Round: b.Round, Sent: timestamppb.New(b.Sent), Stakes: b.Stakes}
	for _, c := range b.History {
		out.History = append(out.History, colorgamev1.Color(colorgamev1.Color_value["COLOR_"+strings.ToUpper(c)]))
	}
	for _, l := range b.Leaders {
		out.Leaders = append(out.Leaders, &colorgamev1.Leader{Name: l.Name, Won: l.Won})
	}
	return out
}

// Play implements RoomService.
func (r roomService) Play(stream grpc.BidiStreamingServer[colorgamev1.PlayRequest, colorgamev1.PlayResponse]) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		color := strings.ToLower(strings.TrimPrefix(req.GetColor().String(), "COLOR_"))
		if !slices.Contains(wire.Colors(), color) {
			color = "" // which the rules refuse in their own words
		}
		receipt, err := r.s.PlaceBet(stream.Context(), wire.Bet{Player: req.GetPlayer(), Room: int(req.GetRoom()), Color: color, Stake: req.GetStake()})
		out := &colorgamev1.PlayResponse{Result: &colorgamev1.PlayResponse_Receipt{Receipt: &colorgamev1.Receipt{Round: receipt.Round, Balance: receipt.Balance}}}
		if err != nil {
			out.Result = &colorgamev1.PlayResponse_Refused{Refused: err.Error()}
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}
