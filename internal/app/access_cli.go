package app

import (
	"context"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/cli"
)

// localAccounts is the accounts of a data directory as the command line sees
// them.
type localAccounts struct {
	*auth.Accounts
	close func() error
}

func accountsOf(ctx context.Context, dir string) (cli.Accounts, error) {
	a, closeStore, err := openAccounts(ctx, dir)
	if err != nil {
		return nil, err
	}
	return localAccounts{a, closeStore}, nil
}

func (l localAccounts) Close() error { return l.close() }

func (l localAccounts) Add(ctx context.Context, by, name, password string, texts []string, temporary bool) error {
	grants := make([]auth.Grant, len(texts))
	for i, t := range texts {
		var err error
		if grants[i], err = auth.ParseGrant(t); err != nil {
			return err
		}
	}
	if temporary {
		return l.Invite(ctx, by, name, password, grants)
	}
	return l.AddUser(ctx, by, name, password, grants)
}

func (l localAccounts) List(ctx context.Context) ([]cli.Account, error) {
	users, err := l.Store.Users(ctx)
	if err != nil {
		return nil, err
	}
	bindings, err := l.Store.Bindings(ctx)
	if err != nil {
		return nil, err
	}
	var out []cli.Account
	for _, u := range users {
		out = append(out, cli.Account{Holder: "user:" + u.Name, Roles: []string{}, Disabled: u.Disabled, LastLogin: u.LastLogin})
	}
	for _, b := range bindings {
		at := slices.IndexFunc(out, func(a cli.Account) bool { return a.Holder == string(b.Holder) })
		if strings.HasPrefix(string(b.Holder), "token:") {
			continue
		}
		if at < 0 {
			out = append(out, cli.Account{Holder: string(b.Holder), Roles: []string{}})
			at = len(out) - 1
		}
		role := string(b.Role)
		if b.Scope != auth.Everywhere {
			role += "@" + string(b.Scope)
		}
		out[at].Roles = append(out[at].Roles, role)
	}
	return out, nil
}

func (l localAccounts) SetPassword(ctx context.Context, by, name, password string, temporary bool) error {
	if temporary {
		return l.ResetPassword(ctx, by, name, password)
	}
	return l.Accounts.SetPassword(ctx, by, name, password, "")
}

func (l localAccounts) Disable(ctx context.Context, by, name string, disabled bool) error {
	return l.DisableUser(ctx, by, name, disabled)
}

func (l localAccounts) Remove(ctx context.Context, by, name string) error {
	return l.RemoveUser(ctx, by, name)
}

func (l localAccounts) Grant(ctx context.Context, by, holder, grant string) error {
	g, err := auth.ParseGrant(grant)
	if err != nil {
		return err
	}
	return l.Bind(ctx, auth.Actor{Name: by, Permissions: auth.All()}, auth.Binding{Holder: auth.Holder(holder), Grant: g})
}

func (l localAccounts) Revoke(ctx context.Context, by, holder, grant string) error {
	g, err := auth.ParseGrant(grant)
	if err != nil {
		return err
	}
	return l.Unbind(ctx, auth.Actor{Name: by, Permissions: auth.All()}, auth.Binding{Holder: auth.Holder(holder), Grant: g})
}
