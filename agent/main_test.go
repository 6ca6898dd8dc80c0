package agent

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(sendFileEnv) != "" {
		os.Exit(sendFile())
	}
	goleak.VerifyTestMain(m)
}
