// Package app wires the parts of OPS Center into one program. It decides
// nothing that a part could decide for itself, and only cmd/ops imports it.
package app

import (
	"context"

	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/toolui"
)

// Run is the whole program: it returns the exit code.
func Run(ctx context.Context, args []string) int {
	return cli.Main(ctx, args, cli.Config{Serve: Serve, Child: toolui.ChildMain})
}
