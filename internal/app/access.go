package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/auth/autotls"
	"github.com/opscenter/opscenter/internal/auth/loginpage"
	"github.com/opscenter/opscenter/internal/auth/oidc"
	authsqlite "github.com/opscenter/opscenter/internal/auth/sqlite"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/web"
)

// access is who may reach the centre, and how.
type access struct {
	auth  auth.Authorizer
	certs certificates // nil = plain
	ca    *autotls.CA  // nil = the certificate is somebody else's

	// Where people log in; all nil where nobody has to.
	store    *authsqlite.Store
	accounts *auth.Accounts
	door     *auth.Door
	pages    *loginpage.Pages
	limiter  *auth.Limiter
	// selfToken is the file with what lets the centre's own agent in.
	selfToken string
}

type certificates interface {
	Certificate() (*tls.Certificate, error)
}

// newAccess applies the one rule: beyond this machine only with TLS and a login.
func newAccess(ctx context.Context, o cli.ServeOptions, set auth.Settings) (a access, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	set.Login = cmp.Or(o.Login, set.Login, "auto")
	if err := set.Validate(); err != nil {
		return a, err
	}
	a.limiter = auth.NewLimiter(set.Limits, nil)
	if err := a.certify(o); err != nil {
		return a, err
	}
	var shared *auth.Token
	if o.TokenFile != "" {
		if shared, err = auth.NewToken(o.TokenFile); err != nil {
			return a, err
		}
	}
	here := loopback(o.Listen)
	if !here && set.Login == "off" {
		return a, ops.Errorf(ops.Invalid, "--login off is for a centre on loopback behind a proxy that asks for a login itself; --listen %s would let the network in: leave one of them out", o.Listen)
	}
	proxied := here && len(o.AllowHosts) > 0
	if here && (set.Login == "off" || set.Login == "auto" && !proxied) {
		// Everybody is one caller here: people, scripts and whatever else they run.
		if set.Limits == (auth.Limits{}) {
			a.limiter = auth.NewLimiter(auth.Limits{PerSecond: 1000, Burst: 4000, Concurrent: 1024}, nil)
		}
		// The shared token is asked for where it was given, by whoever that was.
		a.auth = auth.NewLoopback()
		if shared != nil {
			a.auth = shared
		}
		return a, nil
	}
	if err := a.openDoor(ctx, o, set, shared); err != nil {
		return a, err
	}
	somebody, err := a.accounts.AnyoneCanAdminister(ctx)
	if err != nil {
		return a, err
	}
	if !somebody && shared == nil && set.OIDC == nil || !here && a.certs == nil {
		return a, refusal(o, here, somebody || shared != nil || set.OIDC != nil, a.certs != nil)
	}
	if !somebody && set.OIDC == nil {
		// The shared token alone: browsers are asked for it as ever.
		a.pages = nil
		return a, nil
	}
	return a, nil
}

// refusal says why the centre does not start, and the commands after which it
// does, so that they can be copied.
func refusal(o cli.ServeOptions, here, login, encrypted bool) error {
	o.Program = cmp.Or(o.Program, "ops")
	var lack []string
	var lines strings.Builder
	if !encrypted && !here {
		lack = append(lack, "TLS")
	}
	if !login {
		lack = append(lack, "a login")
		lines.WriteString("\n  " + o.Program + " user add admin --admin" + dataFlag(o))
	}
	command := cmp.Or(o.Command, o.Program+" serve --listen "+o.Listen)
	if !encrypted && !here {
		command += " --tls auto"
	}
	lines.WriteString("\n  " + command)
	why := "--listen " + o.Listen + " would let the network in"
	if here {
		why = "--allow-host lets others in through a proxy"
	}
	return ops.Errorf(ops.Invalid, `%s without %s, so the centre does not start. It does after:%s
(%s)`, why, strings.Join(lack, " and "), lines.String(), hints(login, encrypted || here, here))
}

func dataFlag(o cli.ServeOptions) string {
	if o.DataDir == cli.DefaultDataDir {
		return ""
	}
	return " --data " + cli.Quote(o.DataDir)
}

func hints(login, encrypted, here bool) string {
	var out []string
	if !login {
		out = append(out, "The first asks for a password. Single sign-on instead: access.oidc in the configuration file")
	}
	if !encrypted {
		out = append(out, "--tls auto makes a certificate authority in the data directory; --tls-cert and --tls-key take your own certificate")
	}
	if here && !login {
		out = append(out, "if the proxy asks for a login itself, say --login off")
	}
	return strings.Join(out, ". ") + "."
}

// certify finds the certificate.
func (a *access) certify(o cli.ServeOptions) error {
	switch {
	case o.TLS == "auto":
		ca, err := autotls.OpenCA(o.DataDir, time.Now())
		if err != nil {
			return err
		}
		server, err := autotls.NewServer(ca, o.AllowHosts, nil)
		if err != nil {
			return err
		}
		a.ca, a.certs = ca, server
	case o.TLSCert != "":
		files, err := autotls.OpenFiles(o.TLSCert, o.TLSKey)
		if err != nil {
			return err
		}
		a.certs = files
	}
	return nil
}

// openDoor opens the accounts and puts the ways to log in before them.
func (a *access) openDoor(ctx context.Context, o cli.ServeOptions, set auth.Settings, shared *auth.Token) (err error) {
	if a.store, err = authsqlite.Open(ctx, o.DataDir); err != nil {
		return err
	}
	groups, err := set.GroupGrants()
	if err != nil {
		return err
	}
	proxies, err := set.Proxies()
	if err != nil {
		return err
	}
	if a.accounts, err = auth.NewAccounts(ctx, auth.AccountsConfig{
		Store: a.store, Groups: groups, SessionIdle: set.SessionIdle, SessionMax: set.SessionMax, Logger: o.Logger,
	}); err != nil {
		return err
	}
	own := rand.Text()
	a.selfToken = filepath.Join(o.DataDir, "self.token")
	if err := os.WriteFile(a.selfToken, []byte(own+"\n"), 0o600); err != nil {
		return err
	}
	a.door = &auth.Door{Accounts: a.accounts, Shared: shared, Self: own, TrustedProxies: proxies}
	a.auth = a.door
	pages := loginpage.Config{Door: a.door, BasePath: o.BasePath, Tokens: web.Tokens, Logger: o.Logger}
	if set.OIDC != nil {
		pages.Provider = oidc.New(*set.OIDC, nil)
	}
	users, err := a.store.Users(ctx)
	if err != nil {
		return err
	}
	pages.Passwords = len(users) > 0
	a.pages, err = loginpage.New(pages)
	return err
}

func (a *access) close() error {
	var c io.Closer = a.store
	if a.store == nil {
		return nil
	}
	return c.Close()
}

// loopback reports whether only this machine can reach the address.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// pins are those of the centre's own authority, and of the one that replaces it;
// nil = it has none of its own.
func (a *access) pins() []string {
	if a.ca == nil {
		return nil
	}
	return a.ca.Pins()
}

// pin is what agents and the command line need to know to trust the centre, from
// now on.
func (a *access) pin() string {
	if pins := a.pins(); len(pins) > 0 {
		return pins[len(pins)-1]
	}
	if a.certs == nil {
		return ""
	}
	cert, err := a.certs.Certificate()
	if err != nil {
		return ""
	}
	return autotls.Pin(cert.Leaf)
}

// tlsConfig is nil for a centre that is spoken to in the clear.
func (a *access) tlsConfig() *tls.Config {
	if a.certs == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.certs.Certificate() },
	}
}

// certificate is for the guard, which allows the names in it.
func (a *access) certificate() func() (*tls.Certificate, error) {
	if a.certs == nil {
		return nil
	}
	return a.certs.Certificate
}

// address is where a request came from.
func (a *access) address(r *http.Request) string {
	if a.door != nil {
		return a.door.Address(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// openAccounts is the accounts of a data directory, for the command line on the
// centre's own machine: who may write there may say who comes in.
func openAccounts(ctx context.Context, dir string) (*auth.Accounts, func() error, error) {
	store, err := authsqlite.Open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	accounts, err := auth.NewAccounts(ctx, auth.AccountsConfig{Store: store})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return accounts, store.Close, nil
}

// refused puts on record that somebody known was not let do something.
func (a *access) refused(ctx context.Context, call string, err error) {
	if a.accounts != nil {
		a.accounts.Refused(ctx, auth.ActorOf(ctx).Name, "", "call.refused", call, err)
	}
}
