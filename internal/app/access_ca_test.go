package app

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/opscenter/opscenter/agent"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/ops"
)

// porch is the address that a centre keeps while it is started again and again.
type porch struct {
	url string

	mu sync.Mutex // guards to
	to string
}

func newPorch(t *testing.T) *porch {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &porch{url: "https://" + ln.Addr().String()}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.forward(ctx, from) })
		}
	})
	t.Cleanup(func() { ln.Close(); cancel(); all.Wait() })
	return p
}

func (p *porch) lead(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = strings.TrimPrefix(url, "https://")
}

func (p *porch) forward(ctx context.Context, from net.Conn) {
	defer from.Close()
	p.mu.Lock()
	to := p.to
	p.mu.Unlock()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { from.Close(); conn.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(from, conn); from.Close() })
	_, _ = io.Copy(conn, from)
	conn.Close()
	back.Wait()
}

// TestAgentsStayWhileTheAuthorityIsReplaced is the whole of `ops ca rotate` and
// `ops ca finish`, with real agents that know the old pin or the new one.
func TestAgentsStayWhileTheAuthorityIsReplaced(t *testing.T) {
	dir, door := t.TempDir(), newPorch(t)
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the pin is what the agents check
	t.Cleanup(hc.CloseIdleConnections)
	run := func() (url string, stop func() error) {
		t.Helper()
		url, stop = serve(t, cli.ServeOptions{DataDir: dir, TLS: "auto", Load: requireCertificates})
		door.lead(url)
		return url, stop
	}
	change := func(what cli.AuthorityChange) cli.Authority {
		t.Helper()
		a, err := authorityOf(t.Context(), dir, "local:test", what)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	up := func(url string, agents ...*agent.Agent) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			there := map[string]bool{}
			for _, i := range instances(t, hc, url, 1) {
				there[i.GetId()] = i.GetState() == apiv1.InstanceState_INSTANCE_STATE_UP
			}
			missing := 0
			for _, a := range agents {
				if !there[a.BootID()] {
					missing++
				}
			}
			if missing == 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d of %d agents are not there", missing, len(agents))
			}
		}
	}

	if _, err := authorityOf(t.Context(), dir, "local:test", cli.AuthorityRotate); ops.KindOf(err) != ops.NotFound {
		t.Errorf("before there is one: %v", err)
	}
	url, stop := run()
	made, err := apiv1connect.NewJoinServiceClient(hc, url).CreateJoinToken(t.Context(), connect.NewRequest(&apiv1.CreateJoinTokenRequest{ProjectPattern: "color-game", ServicePattern: "user-*", Uses: -1}))
	if err != nil {
		t.Fatal(err)
	}
	secret, before := made.Msg.GetSecret(), change(cli.AuthorityAsItIs)
	first := joining(t, door.url, before.Pin, secret)
	up(url, first)

	if err := stop(); err != nil {
		t.Fatal(err)
	}
	both := change(cli.AuthorityRotate)
	if both.Pin != before.Pin || both.NextPin == "" {
		t.Fatalf("%+v", both)
	}
	url, stop = run()
	late, fresh := joining(t, door.url, both.Pin, secret), joining(t, door.url, both.NextPin, secret)
	up(url, first, late, fresh)

	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if after := change(cli.AuthorityFinishNow); after.Pin != both.NextPin || after.NextPin != "" {
		t.Errorf("%+v", after)
	}
	url, _ = run()
	// late was told of the new pin with its certificate, though it is configured
	// with the old one alone.
	up(url, late, fresh)

	said := &journal{}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger, err := agent.Start(agent.Config{Center: door.url, Project: "color-game", Service: "user-service", TokenFile: token, CAPin: before.Pin, SpoolDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	for end := time.Now().Add(time.Minute); !strings.Contains(said.String(), "no certificate of the centre has the pinned key"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("an agent with the old pin alone says\n%s", said)
		}
	}
	// Both changes wait for a centre with a login, which puts them on record.
	accounts, done, err := openAccounts(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	events, err := accounts.Store.Events(t.Context(), 10)
	if err := errors.Join(err, done()); err != nil || len(events) != 2 || events[0].Action != "ca.rotate" || events[1].Action != "ca.finish-now" || events[1].Subject != both.NextPin {
		t.Errorf("%+v, %v", events, err)
	}
}
