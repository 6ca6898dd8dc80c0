// Package app wires the parts of OPS Center into one program. It decides
// nothing that a part could decide for itself, and only cmd/ops imports it.
package app

import (
	"context"

	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/examine"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/toolui"
)

// Run is the whole program: it returns the exit code.
func Run(ctx context.Context, args []string) int {
	return cli.Main(ctx, args, cli.Config{
		Serve: Serve, Child: toolui.ChildMain, Accounts: accountsOf, Authority: authorityOf, Diagnose: diagnose,
		Sections: func() []config.Section { return new(sections).list() }, CheckConfig: checkConfig,
	})
}

// diagnose is `ops diagnose` on what is not in a centre.
func diagnose(ctx context.Context, r cli.DiagnoseRequest) ([]ops.Diagnosis, []ops.Outlier, error) {
	o := examine.Options{Duration: r.Duration, Progress: r.Progress, Keep: r.Keep, Binary: r.Binary}
	var res examine.Result
	var err error
	if r.URL != "" {
		res, err = examine.Live(ctx, r.URL, o)
	} else {
		res, err = examine.Paths(ctx, r.Paths, o)
	}
	return res.Diagnoses, res.Outliers, err
}
