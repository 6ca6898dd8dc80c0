package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/auth/autotls"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/ops"
)

// authorityOf shows or changes the certificate authority of a data directory. A
// change waits beside the accounts for the centre that puts it on record.
func authorityOf(ctx context.Context, dir, by string, change cli.AuthorityChange) (cli.Authority, error) {
	if _, err := os.Stat(filepath.Join(dir, "tls")); err != nil {
		return cli.Authority{}, ops.Errorf(ops.NotFound, "there is no certificate authority in %s: a centre that is started with --tls auto makes one", dir)
	}
	now := time.Now()
	var ca *autotls.CA
	var err error
	switch change {
	case cli.AuthorityRotate:
		ca, err = autotls.Rotate(dir, now)
	case cli.AuthorityFinish, cli.AuthorityFinishNow:
		ca, err = autotls.Finish(dir, now, change == cli.AuthorityFinishNow)
	default:
		ca, err = autotls.OpenCA(dir, now)
	}
	if err != nil {
		return cli.Authority{}, err
	}
	out := cli.Authority{Pin: ca.Pin(), Ends: ca.Cert.NotAfter, Since: ca.Since()}
	if ca.Next != nil {
		out.NextPin = ca.Next.Pin()
	}
	if change == cli.AuthorityAsItIs {
		return out, nil
	}
	accounts, done, err := openAccounts(ctx, dir)
	if err != nil {
		return out, err
	}
	err = accounts.Store.Note(ctx, auth.Event{At: now, Actor: by, Action: "ca." + string(change), Subject: ca.Pins()[len(ca.Pins())-1], Result: audit.Succeeded, Mutating: true})
	return out, errors.Join(err, done())
}
