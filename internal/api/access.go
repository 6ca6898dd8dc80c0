package api

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
)

// accessServer implements AccessService.
type accessServer struct{ *server }

// accounts are there only where people log in.
func (s accessServer) accounts() (*auth.Accounts, error) {
	if s.Accounts == nil {
		return nil, ops.Errorf(ops.Conflict, "nobody has to log in to this centre: there are no users and tokens; start it with --login required to have them")
	}
	return s.Accounts, nil
}

func (s accessServer) GetAccount(ctx context.Context, _ *connect.Request[apiv1.GetAccountRequest]) (*connect.Response[apiv1.GetAccountResponse], error) {
	actor := auth.ActorOf(ctx)
	out := &apiv1.GetAccountResponse{Actor: actor.Name, Login: s.Accounts != nil, Holder: string(actor.Holder()), Admin: actor.May(auth.Admin, auth.Subject{})}
	out.Password = strings.HasPrefix(out.GetHolder(), "user:")
	for _, g := range actor.Grants {
		out.Grants = append(out.Grants, grantProto(g))
	}
	if s.Accounts == nil || actor.Holder() == "" {
		return connect.NewResponse(out), nil
	}
	sessions, err := s.Accounts.Store.Sessions(ctx, actor.Holder())
	if err != nil {
		return nil, err
	}
	for _, x := range sessions {
		out.Sessions = append(out.Sessions, &apiv1.LoginSession{Created: ts(x.Created), Seen: ts(x.Seen), Address: x.Address, UserAgent: x.UserAgent, Current: s.Accounts.Current(actor, x)})
	}
	return connect.NewResponse(out), nil
}

func (s accessServer) ChangePassword(ctx context.Context, req *connect.Request[apiv1.ChangePasswordRequest]) (*connect.Response[apiv1.ChangePasswordResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ChangePasswordResponse{}), a.ChangePassword(ctx, auth.ActorOf(ctx), req.Msg.GetPresent(), req.Msg.GetNew())
}

func (s accessServer) LogOut(ctx context.Context, req *connect.Request[apiv1.LogOutRequest]) (*connect.Response[apiv1.LogOutResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	n, err := a.Logout(ctx, auth.ActorOf(ctx), req.Msg.GetEverywhere())
	return connect.NewResponse(&apiv1.LogOutResponse{Ended: int32(n)}), err
}

func (s accessServer) ListTokens(ctx context.Context, _ *connect.Request[apiv1.ListTokensRequest]) (*connect.Response[apiv1.ListTokensResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	tokens, err := a.Tokens(ctx, auth.ActorOf(ctx))
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListTokensResponse{}
	for _, t := range tokens {
		grants, err := a.Store.Grants(ctx, auth.Holder("token:"+t.ID))
		if err != nil {
			return nil, err
		}
		out.Tokens = append(out.Tokens, tokenProto(t, grants))
	}
	return connect.NewResponse(out), nil
}

func (s accessServer) CreateToken(ctx context.Context, req *connect.Request[apiv1.CreateTokenRequest]) (*connect.Response[apiv1.CreateTokenResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	grants, err := grantsFrom(req.Msg.GetGrants())
	if err != nil {
		return nil, err
	}
	secret, t, err := a.NewToken(ctx, auth.ActorOf(ctx), auth.TokenRequest{Name: req.Msg.GetName(), Grants: grants, Life: req.Msg.GetLife().AsDuration()})
	if err != nil {
		return nil, err
	}
	out := connect.NewResponse(&apiv1.CreateTokenResponse{Secret: secret, Token: tokenProto(t, grants)})
	out.Header().Set("Cache-Control", "no-store")
	return out, nil
}

func (s accessServer) RevokeToken(ctx context.Context, req *connect.Request[apiv1.RevokeTokenRequest]) (*connect.Response[apiv1.RevokeTokenResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RevokeTokenResponse{}), a.RevokeToken(ctx, auth.ActorOf(ctx), req.Msg.GetId())
}

func (s accessServer) ListUsers(ctx context.Context, _ *connect.Request[apiv1.ListUsersRequest]) (*connect.Response[apiv1.ListUsersResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	users, err := a.Store.Users(ctx)
	if err != nil {
		return nil, err
	}
	bindings, err := a.Store.Bindings(ctx)
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListUsersResponse{}
	for _, u := range users {
		out.Users = append(out.Users, &apiv1.User{Name: u.Name, Disabled: u.Disabled, Created: ts(u.Created), LastLogin: ts(u.LastLogin), TemporaryPassword: u.Temporary})
	}
	for _, b := range bindings {
		if !strings.HasPrefix(string(b.Holder), "token:") {
			out.Bindings = append(out.Bindings, &apiv1.RoleBinding{Holder: string(b.Holder), Grant: grantProto(b.Grant)})
		}
	}
	return connect.NewResponse(out), nil
}

func (s accessServer) AddUser(ctx context.Context, req *connect.Request[apiv1.AddUserRequest]) (*connect.Response[apiv1.AddUserResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	grants, err := grantsFrom(req.Msg.GetGrants())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.AddUserResponse{}), a.Invite(ctx, auth.ActorOf(ctx).Name, req.Msg.GetName(), req.Msg.GetPassword(), grants)
}

func (s accessServer) SetUser(ctx context.Context, req *connect.Request[apiv1.SetUserRequest]) (*connect.Response[apiv1.SetUserResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	by, m := auth.ActorOf(ctx).Name, req.Msg
	if m.Password != nil {
		if err := a.ResetPassword(ctx, by, m.GetName(), m.GetPassword()); err != nil {
			return nil, err
		}
	}
	if m.Disabled != nil {
		if err := a.DisableUser(ctx, by, m.GetName(), m.GetDisabled()); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&apiv1.SetUserResponse{}), nil
}

func (s accessServer) RemoveUser(ctx context.Context, req *connect.Request[apiv1.RemoveUserRequest]) (*connect.Response[apiv1.RemoveUserResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RemoveUserResponse{}), a.RemoveUser(ctx, auth.ActorOf(ctx).Name, req.Msg.GetName())
}

func (s accessServer) GrantRole(ctx context.Context, req *connect.Request[apiv1.GrantRoleRequest]) (*connect.Response[apiv1.GrantRoleResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	b, err := bindingFrom(req.Msg.GetBinding())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GrantRoleResponse{}), a.Bind(ctx, auth.ActorOf(ctx), b)
}

func (s accessServer) RevokeRole(ctx context.Context, req *connect.Request[apiv1.RevokeRoleRequest]) (*connect.Response[apiv1.RevokeRoleResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	b, err := bindingFrom(req.Msg.GetBinding())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RevokeRoleResponse{}), a.Unbind(ctx, auth.ActorOf(ctx), b)
}

func (s accessServer) EndSessions(ctx context.Context, req *connect.Request[apiv1.EndSessionsRequest]) (*connect.Response[apiv1.EndSessionsResponse], error) {
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	n, err := a.EndSessions(ctx, auth.ActorOf(ctx).Name, auth.Holder(req.Msg.GetHolder()))
	return connect.NewResponse(&apiv1.EndSessionsResponse{Ended: int32(n)}), err
}

func grantProto(g auth.Grant) *apiv1.RoleGrant {
	return &apiv1.RoleGrant{Role: string(g.Role), Scope: string(g.Scope)}
}

func grantFrom(m *apiv1.RoleGrant) (auth.Grant, error) {
	role, err := auth.ParseRole(m.GetRole())
	if err != nil {
		return auth.Grant{}, err
	}
	scope, err := auth.ParseScope(m.GetScope())
	return auth.Grant{Role: role, Scope: scope}, err
}

func grantsFrom(in []*apiv1.RoleGrant) ([]auth.Grant, error) {
	if len(in) > 50 {
		return nil, ops.Errorf(ops.Invalid, "%d roles are too many: use up to 50, with * in their scopes", len(in))
	}
	out := make([]auth.Grant, len(in))
	for i, m := range in {
		var err error
		if out[i], err = grantFrom(m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func bindingFrom(m *apiv1.RoleBinding) (auth.Binding, error) {
	g, err := grantFrom(m.GetGrant())
	return auth.Binding{Holder: auth.Holder(m.GetHolder()), Grant: g}, err
}

func tokenProto(t auth.APIToken, grants []auth.Grant) *apiv1.ApiToken {
	out := &apiv1.ApiToken{Id: t.ID, Name: t.Name, Owner: string(t.Owner), Created: ts(t.Created), Expires: ts(t.Expires), Used: ts(t.Used), Revoked: ts(t.Revoked)}
	for _, g := range grants {
		out.Grants = append(out.Grants, grantProto(g))
	}
	return out
}
