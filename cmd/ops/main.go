// Command ops is OPS Center: the centre, its command line and its offline tools
// in one program. `go run cmd/ops/main.go` starts the centre.
package main

import (
	"context"
	"os"

	"github.com/opscenter/opscenter/internal/app"
)

func main() {
	os.Exit(app.Run(context.Background(), os.Args[1:]))
}
