// Package guest lets the corpus look at a program that was written without it: who
// imports it has the agent, and the variable ADDR, which says where its pprof is served.
// It knows nothing of what the program does.
package guest

import (
	"cmp"
	"log"
	"os"

	"github.com/opscenter/opscenter/agent"
)

func init() {
	if os.Getenv("ADDR") == "" {
		os.Setenv("ADDR", cmp.Or(os.Getenv("PPROF_ADDR"), "127.0.0.1:0"))
	}
	if _, err := agent.Start(agent.Config{}); err != nil {
		log.Print(err)
	}
}
