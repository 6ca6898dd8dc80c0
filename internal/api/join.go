package api

import (
	"context"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/ops"
)

// JoinTokens is what the API needs of the gate through which agents come.
type JoinTokens interface {
	Create(ctx context.Context, actor string, r join.TokenRequest) (secret string, t join.Token, err error)
	Tokens() []join.Token
	Revoke(ctx context.Context, actor, id string) error
}

// joinServer implements JoinService.
type joinServer struct{ *server }

// gate is there only where agents join over TLS.
func (s joinServer) gate() (JoinTokens, error) {
	if s.Join == nil {
		return nil, ops.Errorf(ops.Conflict, "this centre speaks no TLS, so agents join it without a token: start it with --tls auto, or with --tls-cert and --tls-key, for them to need one")
	}
	return s.Join, nil
}

func (s joinServer) CreateJoinToken(ctx context.Context, req *connect.Request[apiv1.CreateJoinTokenRequest]) (*connect.Response[apiv1.CreateJoinTokenResponse], error) {
	gate, err := s.gate()
	if err != nil {
		return nil, err
	}
	m := req.Msg
	secret, t, err := gate.Create(ctx, auth.ActorOf(ctx).Name, join.TokenRequest{
		Project: m.GetProjectPattern(), Service: m.GetServicePattern(), CIDRs: m.GetNetworks(), For: m.GetLife().AsDuration(), Uses: int(m.GetUses()),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.CreateJoinTokenResponse{Token: joinTokenProto(t), Secret: secret, Pin: s.JoinPin}), nil
}

func (s joinServer) ListJoinTokens(context.Context, *connect.Request[apiv1.ListJoinTokensRequest]) (*connect.Response[apiv1.ListJoinTokensResponse], error) {
	out := &apiv1.ListJoinTokensResponse{}
	if gate, err := s.gate(); err != nil {
		out.NoneBecause = err.Error() // who lists asks whether there are any, which is no mistake
	} else {
		for _, t := range gate.Tokens() {
			out.Tokens = append(out.Tokens, joinTokenProto(t))
		}
	}
	return connect.NewResponse(out), nil
}

func (s joinServer) RevokeJoinToken(ctx context.Context, req *connect.Request[apiv1.RevokeJoinTokenRequest]) (*connect.Response[apiv1.RevokeJoinTokenResponse], error) {
	gate, err := s.gate()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RevokeJoinTokenResponse{}), gate.Revoke(ctx, auth.ActorOf(ctx).Name, req.Msg.GetId())
}

func joinTokenProto(t join.Token) *apiv1.JoinToken {
	out := &apiv1.JoinToken{
		Id: t.ID, ProjectPattern: t.Project, ServicePattern: t.Service, Created: ts(t.Created), CreatedBy: t.By, Expires: ts(t.Expires),
		MaxUses: int32(t.MaxUses), Uses: int32(t.Uses), LastUsed: ts(t.LastUsed), LastFrom: t.LastFrom, Revoked: ts(t.Revoked),
	}
	for _, p := range t.CIDRs {
		out.Networks = append(out.Networks, p.String())
	}
	return out
}
