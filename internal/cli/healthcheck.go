package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/opscenter/opscenter/internal/ops"
)

// healthcheckWithin is shorter than what Docker and Kubernetes wait for.
const healthcheckWithin = 3 * time.Second

func (p *program) healthcheckCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a centre whether it serves: 0 = it does (for containers)",
		Long: `Healthcheck asks the centre at --server for /healthz and ends with 0 when it serves
and 6 when it does not. It sends no token. On this machine it takes any
certificate: the name in it is that of the outside.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			base, err := p.serverURL()
			if err != nil {
				return err
			}
			ctx, done := context.WithTimeout(cmd.Context(), healthcheckWithin)
			defer done()
			return p.healthcheck(ctx, base)
		},
	}
}

func (p *program) healthcheck(ctx context.Context, base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return ops.Errorf(ops.Invalid, "--server %s: %w", base, err)
	}
	local := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: local, MinVersion: tls.VersionTLS12}} //nolint:gosec // this machine is asked by its number, and nothing is said to it
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/healthz", nil)
	if err != nil {
		return ops.Errorf(ops.Invalid, "--server %s: %w", base, err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return ops.Errorf(ops.Unavailable, "the centre does not serve: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "ok\n" {
		return ops.Errorf(ops.Unavailable, "the centre does not serve: %s answers %s", req.URL.Redacted(), resp.Status)
	}
	_, err = fmt.Fprintln(p.Stdout, "ok")
	return err
}
